//! # The log on a disk that fails
//!
//! A workload, a model of what it adds up to, and one question that every test
//! here asks in its own way: is what comes back a state of the model that is
//! not older than the last one that was acknowledged?

mod crash;
mod damage;
mod faults;
mod full;
mod model;
mod proptests;
mod reads;

use std::path::Path;

use raft_core::NodeId;

use crate::error::OpenError;
use crate::identity::Identity;
use crate::log::{Job, Log};
use crate::options::WalOptions;
use crate::replay::Recovered;
use crate::sim::SimDisk;
use model::{Model, Outcome, Step};

pub(crate) const DIR: &str = "/node";

pub(crate) fn identity() -> Identity {
    Identity {
        cluster_id: 0xfeed,
        node_id: NodeId::new(3).unwrap(),
    }
}

/// Segments so small that a short workload has several.
pub(crate) fn small() -> WalOptions {
    WalOptions::default()
        .segment_bytes(8 << 10)
        .preallocate_bytes(8 << 10)
        .sanitized()
}

pub(crate) fn open(disk: &SimDisk) -> Result<(Log<SimDisk>, Recovered), OpenError> {
    open_with(disk, small())
}

pub(crate) fn open_with(
    disk: &SimDisk,
    options: WalOptions,
) -> Result<(Log<SimDisk>, Recovered), OpenError> {
    Log::open(disk.clone(), Path::new(DIR), identity(), options)
}

pub(crate) fn open_model(disk: &SimDisk) -> (Log<SimDisk>, Model) {
    let (log, recovered) = open(disk).expect("the log opens");
    (log, Model::of(&recovered))
}

/// Runs steps until the disk fails or they end, and says what may be on the
/// disk then.
pub(crate) fn run(log: &mut Log<SimDisk>, start: Model, steps: &[Step]) -> Outcome {
    let mut outcome = Outcome::starting_with(start);
    for step in steps {
        match step {
            Step::Commit(jobs) => outcome.committed(jobs, &log.commit(jobs)),
            Step::Maintain => log.maintain(),
            Step::Mark => log.mark_durable(),
        }
    }
    outcome
}

/// Opens what is left, checks it, and proves that the log goes on from there.
pub(crate) fn check(disk: &SimDisk, outcome: &Outcome, context: &str) {
    let (mut log, found) = match open(disk) {
        Ok((log, recovered)) => (log, Model::of(&recovered)),
        Err(error) => panic!("{context}: {error}"),
    };
    outcome.assert_allows(&found, context);

    // What was recovered is durable, and so is what comes next.
    let next: Vec<Job> = found.next_writes();
    let mut after = Outcome::starting_with(found);
    after.committed(&next, &log.commit(&next));
    after.assert_all_acknowledged(context);
    drop(log);
    disk.crash(crate::sim::Survivors::None);
    let (_log, found) = open_model(disk);
    after.assert_allows(&found, context);
}

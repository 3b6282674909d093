//! # Random schedules
//!
//! Clusters of one to five servers, a network that loses, repeats and reorders,
//! servers that crash and lose what was not synced, or have to read old entries
//! back, changes of the configuration, transfers, reads, snapshots. Safety is checked
//! after every step; in the end everything heals, and the cluster must work.
//!
//! `RAFT_SEED=7 cargo test -p raft-core --test suite random_cluster` repeats one
//! schedule; `RAFT_SCHEDULES=20000` runs that many.

mod healing;
mod schedule;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use schedule::Schedule;

/// Run if nothing is asked for.
const SCHEDULES: u64 = 400;

#[test]
fn no_schedule_breaks_safety_and_every_healed_cluster_works() {
    if let Some(seed) = number_from_environment("RAFT_SEED") {
        Schedule::run(seed);
        return;
    }
    let schedules = number_from_environment("RAFT_SCHEDULES").unwrap_or(SCHEDULES);
    let first = number_from_environment("RAFT_FIRST_SEED").unwrap_or(0);
    let mut total = Figures::default();
    for seed in first..first + schedules {
        match catch_unwind(AssertUnwindSafe(|| Schedule::run(seed))) {
            Ok(figures) => total.add(figures),
            Err(panic) => {
                eprintln!(
                    "reproduce: RAFT_SEED={seed} cargo test -p raft-core --test suite random_cluster"
                );
                resume_unwind(panic);
            }
        }
    }
    println!("{schedules} schedules: {total:?}");
    // A generator that never gets anywhere would prove nothing.
    if schedules >= SCHEDULES {
        let happened = [
            total.elections,
            total.committed,
            total.crashes,
            total.reads,
            total.conf_changes,
            total.snapshots,
            total.reads_back,
        ];
        assert!(happened.iter().all(|count| *count > schedules / 10));
        assert!(total.wedged <= schedules / 50, "too many wedged clusters");
    }
}

fn number_from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("the variable is a number"))
}

/// What happened, to see that something did.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    steps: u64,
    elections: u64,
    committed: u64,
    crashes: u64,
    reads: u64,
    conf_changes: u64,
    snapshots: u64,
    reads_back: u64,
    wedged: u64,
}

impl Figures {
    fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.elections += other.elections;
        self.committed += other.committed;
        self.crashes += other.crashes;
        self.reads += other.reads;
        self.conf_changes += other.conf_changes;
        self.snapshots += other.snapshots;
        self.reads_back += other.reads_back;
        self.wedged += other.wedged;
    }
}

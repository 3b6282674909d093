//! Calls of the disk that fail once.

use std::io::ErrorKind;

use super::model::{Draw, Kind, Model, Outcome};
use super::{check, open, open_model, run};
use crate::error::WalError;
use crate::log::Log;
use crate::sim::{Call, Fault, SimDisk, Survivors};

const COMMITS: usize = 40;
const FAULTS: [Fault; 4] = [
    Fault::Error(ErrorKind::Other),
    Fault::Error(ErrorKind::StorageFull),
    Fault::ShortWrite(ErrorKind::Other),
    Fault::ShortWrite(ErrorKind::StorageFull),
];

/// Runs a workload with one failing call.
fn faulty_run(seed: u64, number: usize, fault: Fault) -> (SimDisk, Outcome, Option<Log<SimDisk>>) {
    let disk = SimDisk::new();
    disk.fail_at(number, fault);
    let steps = Draw::new(seed).steps(&Model::default(), COMMITS);
    match open(&disk) {
        Ok((mut log, _)) => {
            // `run` asserts that nothing is acknowledged after a failure.
            let outcome = run(&mut log, Model::default(), &steps);
            (disk, outcome, Some(log))
        }
        Err(_) => (disk, Outcome::starting_with(Model::default()), None),
    }
}

#[test]
fn after_any_failed_call_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    let seed = 31;
    for fault in FAULTS {
        let mut failed = 0;
        for number in 0.. {
            let (disk, outcome, log) = faulty_run(seed, number, fault);
            if disk.calls().len() <= number {
                break;
            }
            failed += u32::from(outcome.is_failed());
            drop(log);
            let context = format!("seed {seed}, call {number}: {fault:?}");

            let restarted = disk.copy();
            check(&restarted, &outcome, &format!("{context}, restart"));
            disk.crash(Survivors::Chosen(7));
            check(&disk, &outcome, &format!("{context}, power cut"));
        }
        assert!(failed > 20, "{fault:?} ended {failed} runs");
    }
}

#[test]
fn a_failure_is_final_and_keeps_its_first_cause() {
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    let mut draw = Draw::new(1);
    let mut outcome = Outcome::starting_with(start);
    // Once this is done there is room, and nothing but the batch is written.
    let jobs = [draw.write(outcome.newest(), 1, Kind::Vote)];
    outcome.committed(&jobs, &log.commit(&jobs));
    let jobs = [draw.write(outcome.newest(), 1, Kind::Append)];
    let calls = disk.calls().len();
    // The write goes well, and the sync fails.
    disk.fail_at(calls + 1, Fault::Error(ErrorKind::Other));
    let first = log.commit(&jobs).remove(0).unwrap_err();
    assert_eq!(disk.calls()[calls..], [Call::Write, Call::Sync]);
    let calls = disk.calls().len();
    for _ in 0..3 {
        let later = log.commit(&jobs).remove(0).unwrap_err();
        assert!(later.is_terminal());
        match (&first, &later) {
            (WalError::Poisoned(a), WalError::Poisoned(b)) => assert!(std::sync::Arc::ptr_eq(a, b)),
            other => panic!("{other:?}"),
        }
        log.maintain();
        log.mark_durable();
    }
    assert!(log.close().is_err());
    assert_eq!(disk.calls().len(), calls, "nothing is tried again");
}

//! A disk without room.

use super::model::{Draw, Kind, Model, Outcome};
use super::{check, open, open_model};
use crate::error::{OpenError, WalError};
use crate::log::{Job, Log};
use crate::sim::{SimDisk, Survivors};

/// Writes entries until there is no room for them.
fn fill(log: &mut Log<SimDisk>, draw: &mut Draw, model: Model) -> Outcome {
    let mut outcome = Outcome::starting_with(model);
    loop {
        let jobs = [draw.write(outcome.newest(), 1, Kind::Append)];
        let results = log.commit(&jobs);
        outcome.committed(&jobs, &results);
        log.maintain();
        match &results[0] {
            Ok(()) => {}
            Err(WalError::DiskFull) => return outcome,
            Err(other) => panic!("{other}"),
        }
    }
}

fn vote(draw: &mut Draw, outcome: &Outcome) -> [Job; 1] {
    let job = draw.write(outcome.newest(), 2, Kind::Vote);
    assert!(matches!(&job, Job::Write(write) if write.entries.is_empty()));
    [job]
}

#[test]
fn a_full_disk_still_takes_votes_and_no_entries() {
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    disk.limit_free_bytes(Some(60 << 10));
    let mut draw = Draw::new(41);
    let mut outcome = fill(&mut log, &mut draw, start);
    let mut refused = 0;
    for _ in 0..20 {
        let jobs = vote(&mut draw, &outcome);
        let results = log.commit(&jobs);
        assert!(results[0].is_ok(), "{results:?}");
        outcome.committed(&jobs, &results);
        // A small one may still find room in the segment.
        let jobs = [draw.write(outcome.newest(), 1, Kind::Append)];
        let results = log.commit(&jobs);
        refused += u32::from(matches!(results[0], Err(WalError::DiskFull)));
        outcome.committed(&jobs, &results);
    }
    assert!(refused > 10, "{refused}");

    // A restart on the full disk finds everything, and still takes votes.
    drop(log);
    disk.crash(Survivors::None);
    let (mut log, found) = open_model(&disk);
    outcome.assert_allows(&found, "restart");
    let jobs = vote(&mut draw, &outcome);
    assert!(log.commit(&jobs)[0].is_ok());
    drop(log);
    disk.limit_free_bytes(None);
    outcome.committed(&jobs, &[Ok(())]);
    disk.crash(Survivors::None);
    check(&disk, &outcome, "room again");
}

#[test]
fn a_restart_works_when_votes_have_used_up_their_reserve() {
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    disk.limit_free_bytes(Some(60 << 10));
    let mut draw = Draw::new(44);
    let mut outcome = fill(&mut log, &mut draw, start);
    let mut votes = 0;
    loop {
        let jobs = vote(&mut draw, &outcome);
        let results = log.commit(&jobs);
        outcome.committed(&jobs, &results);
        match &results[0] {
            Ok(()) => votes += 1,
            Err(WalError::DiskFull) => break,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(votes > 20, "{votes}");
    drop(log);
    disk.limit_free_bytes(Some(0));
    disk.crash(Survivors::None);
    let (_log, found) = open_model(&disk);
    outcome.assert_allows(&found, "restart");
}

#[test]
fn a_log_goes_on_by_itself_when_there_is_room_again() {
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    disk.limit_free_bytes(Some(60 << 10));
    let mut draw = Draw::new(42);
    let mut outcome = fill(&mut log, &mut draw, start);
    disk.limit_free_bytes(None);
    let jobs = [draw.write(outcome.newest(), 1, Kind::Append)];
    let results = log.commit(&jobs);
    assert!(results[0].is_ok(), "{results:?}");
    outcome.committed(&jobs, &results);
    disk.crash(Survivors::None);
    check(&disk, &outcome, "after the disk was full");
}

#[test]
fn a_commit_index_never_passes_entries_that_were_refused() {
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    disk.limit_free_bytes(Some(60 << 10));
    let mut draw = Draw::new(43);
    let outcome = fill(&mut log, &mut draw, start);
    let mut job = draw.write(outcome.newest(), 1, Kind::Vote);
    if let Job::Write(write) = &mut job {
        write.hard_state.as_mut().unwrap().commit = raft_core::LogIndex::new(1_000_000);
    }
    assert!(log.commit(&[job])[0].is_ok());
    drop(log);
    disk.limit_free_bytes(None);
    let (_log, mut recovered) = open(&disk).unwrap();
    let group = recovered.take_group(1);
    assert_eq!(group.hard_state.commit.next(), group.entries.next_index());
}

#[test]
fn a_disk_without_room_for_a_log_says_so() {
    let disk = SimDisk::new();
    disk.limit_free_bytes(Some(100));
    match open(&disk) {
        Err(error @ OpenError::DiskFull { .. }) => {
            assert!(error.to_string().contains("make room"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    disk.limit_free_bytes(None);
    let (_log, found) = open_model(&disk);
    assert_eq!(found, Model::default());
}

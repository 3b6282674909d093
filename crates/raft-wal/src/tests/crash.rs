//! Power cuts at every call of the disk.

use super::model::{Draw, Model};
use super::{check, open, open_model, run, small};
use crate::log::Log;
use crate::sim::{Call, Fault, SimDisk, Survivors};

const SURVIVORS: [Survivors; 7] = [
    Survivors::None,
    Survivors::All,
    Survivors::Chosen(1),
    Survivors::Chosen(2),
    Survivors::Chosen(3),
    Survivors::Chosen(4),
    Survivors::Chosen(5),
];

/// The workload of these tests makes several segments and drops some.
const COMMITS: usize = 40;

/// How many calls the workload makes, with opening and closing the log.
fn calls(seed: u64) -> usize {
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    let steps = Draw::new(seed).steps(&start, COMMITS);
    let outcome = run(&mut log, start, &steps);
    assert!(!outcome.is_failed());
    let (oldest, last) = log.segments();
    assert!(oldest > 1 && last > oldest, "seed {seed}: {oldest}..{last}");
    log.close().unwrap();
    disk.calls().len()
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_that_was_acknowledged() {
    for seed in [11, 12] {
        let calls = calls(seed);
        for cut in 0..calls {
            for survivors in SURVIVORS {
                let context = format!("seed {seed}, cut at call {cut}, {survivors:?}");
                let disk = SimDisk::new();
                disk.fail_at(cut, Fault::PowerCut);
                let steps = Draw::new(seed).steps(&Model::default(), COMMITS);
                let mut outcome = super::Outcome::starting_with(Model::default());
                if let Ok((mut log, _)) = open(&disk) {
                    outcome = run(&mut log, Model::default(), &steps);
                    // It fails if the cut is still to come.
                    let _ = log.close();
                }
                assert!(disk.is_off(), "{context}");
                disk.crash(survivors);
                check(&disk, &outcome, &context);
            }
        }
    }
}

#[test]
fn a_second_power_cut_during_recovery_loses_nothing_either() {
    let seed = 13;
    let calls = calls(seed);
    for cut in 0..calls {
        let disk = SimDisk::new();
        disk.fail_at(cut, Fault::PowerCut);
        let steps = Draw::new(seed).steps(&Model::default(), COMMITS);
        let mut outcome = super::Outcome::starting_with(Model::default());
        if let Ok((mut log, _)) = open(&disk) {
            outcome = run(&mut log, Model::default(), &steps);
            let _ = log.close();
        }
        disk.crash(Survivors::Chosen(u64::try_from(cut).unwrap()));
        // Eight ways to lose what each second cut leaves open.
        for try_number in 0.. {
            let again = try_number / 8;
            let disk = disk.copy();
            disk.fail_at(again, Fault::PowerCut);
            let opened = open(&disk).is_ok();
            let context = format!("seed {seed}, cuts at calls {cut} and {again}");
            if !disk.is_off() {
                assert!(opened, "{context}");
                break;
            }
            disk.crash(Survivors::Chosen(u64::try_from(try_number).unwrap()));
            check(&disk, &outcome, &context);
        }
    }
}

#[test]
fn what_a_restart_found_in_the_cache_is_durable_once_the_log_is_open() {
    // A failed sync leaves bytes in the cache that no later sync writes.
    let seed = 14;
    let calls = calls(seed);
    let mut failed_syncs = 0;
    for number in 0..calls {
        let disk = SimDisk::new();
        disk.fail_at(number, Fault::Error(std::io::ErrorKind::Other));
        let steps = Draw::new(seed).steps(&Model::default(), COMMITS);
        let Ok((mut log, _)) = open(&disk) else {
            continue;
        };
        let outcome = run(&mut log, Model::default(), &steps);
        let closed = log.close();
        drop(log);
        if disk.calls().get(number) != Some(&Call::Sync) {
            continue;
        }
        failed_syncs += 1;
        assert!(closed.is_err());
        disk.restart();
        let context = format!("seed {seed}, sync {number} failed");
        let (log, found) = open_model(&disk);
        outcome.assert_allows(&found, &context);
        drop(log);
        disk.crash(Survivors::None);
        let (_log, kept) = open_model(&disk);
        assert_eq!(found, kept, "{context}");
    }
    assert!(failed_syncs > 20);
}

#[test]
fn writes_that_need_no_sync_may_be_lost_but_never_before_older_ones() {
    for seed in 0..300 {
        let disk = SimDisk::new();
        let (mut log, start) = open_model(&disk);
        let mut draw = Draw::new(seed);
        let mut steps = draw.steps(&start, 12);
        for step in &mut steps {
            if let super::Step::Commit(jobs) = step {
                for job in jobs {
                    if let crate::log::Job::Write(write) = job {
                        write.sync = crate::Sync::NotNeeded;
                    }
                }
            }
        }
        let outcome = run(&mut log, start, &steps);
        assert!(!outcome.is_failed());
        drop(log);
        disk.crash(Survivors::Chosen(seed));
        check(&disk, &outcome, &format!("seed {seed}"));
    }
}

#[test]
fn segments_that_were_being_dropped_may_be_left_in_any_number() {
    let disk = SimDisk::new();
    let (mut log, start) = open_model(&disk);
    let steps = Draw::new(11).steps(&start, COMMITS);
    let outcome = run(&mut log, start, &steps);
    log.close().unwrap();
    let (oldest, _) = log.segments();
    drop(log);
    assert!(oldest > 2);
    // A segment from before the oldest one, with a gap behind it.
    let old = disk.copy();
    let kept = old
        .read(format!("{}/wal/{:016x}.wal", super::DIR, oldest))
        .unwrap();
    let mut header = crate::format::SegmentHeader::decode(&kept).unwrap();
    header.sequence = oldest - 2;
    old.put(
        format!("{}/wal/{:016x}.wal", super::DIR, oldest - 2),
        &header.encode(),
    );
    check(&old, &outcome, "a left-over segment");
    let (log, _) = Log::open(
        old.clone(),
        std::path::Path::new(super::DIR),
        super::identity(),
        small(),
    )
    .unwrap();
    drop(log);
    let name = format!("{:016x}.wal", oldest - 2);
    assert!(!old.files().iter().any(|path| path.ends_with(&name)));
}

//! Whatever a peer, a client or a disk says, nothing panics and no promise is
//! broken: scripts of random bytes, the corpus of the fuzzers, and what lies
//! around it.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use raft_hostile::mutate::mutated;
use raft_hostile::{TARGETS, Target, node};

/// Scripts of each test, if `RAFT_SCRIPTS` does not say how many.
const SCRIPTS: u64 = 6_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs seeds, and says how to repeat the one that fails.
fn for_each_seed(test: &str, mut run: impl FnMut(u64)) {
    if let Some(seed) = number("RAFT_HOSTILE_SEED") {
        return run(seed);
    }
    for seed in 0..number("RAFT_SCRIPTS").unwrap_or(SCRIPTS) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!(
                "reproduce: RAFT_HOSTILE_SEED={seed} cargo test -p raft-hostile --test hostile {test}"
            );
            resume_unwind(panic);
        }
    }
}

fn corpus_dir(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target)
}

/// What the fuzzers found worth keeping, in the order of the names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = corpus_dir(target);
    let files = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<_> = files
        .map(|file| file.expect("the folder can be listed").path())
        .collect();
    paths.sort_unstable();
    paths
        .into_iter()
        .map(|path| {
            let bytes = fs::read(&path).expect("a file of the corpus can be read");
            (path, bytes)
        })
        .collect()
}

#[test]
fn no_script_of_arbitrary_input_breaks_a_node() {
    let mut counts = [0_u64; 6];
    let mut scripts = 0;
    for_each_seed("no_script_of_arbitrary_input_breaks_a_node", |seed| {
        let mut rng = Rng::with_seed(seed);
        let bytes: Vec<u8> = (0..rng.usize(50..1_200)).map(|_| rng.u8(..)).collect();
        let outcome = node::run(&bytes);
        let happened = [
            u64::from(outcome.started),
            outcome.taken,
            outcome.refused,
            u64::from(outcome.led),
            u64::from(outcome.was_candidate),
            u64::from(outcome.installed_snapshot),
        ];
        for (count, one) in counts.iter_mut().zip(happened) {
            *count += one;
        }
        scripts += 1;
    });
    println!("{scripts} scripts: [started, taken, refused, led, candidates, snapshots] {counts:?}");
    // The driver has to reach every role, or it proves nothing.
    if scripts > 1 {
        assert!(counts.iter().all(|count| *count > scripts / 50));
    }
}

#[test]
fn no_random_bytes_break_any_door() {
    for_each_seed("no_random_bytes_break_any_door", |seed| {
        let mut rng = Rng::with_seed(seed);
        let bytes: Vec<u8> = (0..rng.usize(0..400)).map(|_| rng.u8(..)).collect();
        for target in TARGETS {
            (target.run)(&bytes);
        }
    });
}

#[test]
fn the_corpus_of_every_target_is_replayed() {
    for Target { name, run } in TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        for (path, bytes) in corpus {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&bytes))) {
                eprintln!("the input is {}", path.display());
                resume_unwind(panic);
            }
        }
    }
}

#[test]
fn what_lies_around_the_corpus_breaks_nothing() {
    let corpora: Vec<(Target, Vec<Vec<u8>>)> = TARGETS
        .into_iter()
        .map(|target| {
            let corpus = corpus(target.name);
            (target, corpus.into_iter().map(|(_, bytes)| bytes).collect())
        })
        .collect();
    for_each_seed("what_lies_around_the_corpus_breaks_nothing", |seed| {
        let mut rng = Rng::with_seed(seed);
        for (target, corpus) in &corpora {
            (target.run)(&mutated(&mut rng, corpus));
        }
    });
}

//! # Hostile peers, hostile disks
//!
//! Whatever a peer says and whatever a disk holds, a node answers with a typed
//! error and an unchanged state, or goes on.

pub(crate) mod choices;
pub(crate) mod driver;
mod regressions;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fastrand::Rng;

use driver::Outcome;

/// Scripts of random bytes, run if `RAFT_SCRIPTS` does not say how many.
const SCRIPTS: u64 = 6_000;

fn run_seed(seed: u64) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let bytes: Vec<u8> = (0..rng.usize(50..1_200)).map(|_| rng.u8(..)).collect();
    driver::run(&bytes)
}

#[test]
fn no_script_of_arbitrary_input_breaks_a_node() {
    let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    if let Some(seed) = number("RAFT_HOSTILE_SEED") {
        run_seed(seed);
        return;
    }
    let scripts = number("RAFT_SCRIPTS").unwrap_or(SCRIPTS);
    let mut counts = [0_u64; 6];
    for seed in 0..scripts {
        let outcome = match catch_unwind(AssertUnwindSafe(|| run_seed(seed))) {
            Ok(outcome) => outcome,
            Err(panic) => {
                eprintln!(
                    "reproduce: RAFT_HOSTILE_SEED={seed} cargo test -p raft-core --test suite hostile"
                );
                resume_unwind(panic);
            }
        };
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
    }
    println!("{scripts} scripts: [started, taken, refused, led, candidates, snapshots] {counts:?}");
    // The driver has to reach every role, or it proves nothing.
    assert!(counts.iter().all(|count| *count > scripts / 50));
}

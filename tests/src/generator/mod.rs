//! # The generator
//!
//! A seed gives a script in the language of the scenarios: a cluster of one to
//! seven nodes and what befalls it. Commands are chosen as the script runs, so
//! that most of them have something to do; the same seed always gives the same
//! script. In the end the network heals, and the cluster must work.
//!
//! ```text
//!   seed ─► profile ─► commands ─► run ─► environment
//!                                   │          │
//!             shrink ◄── Failure ◄──┴ invariants
//! ```
//!
//! - Owns: nothing.
//! - Source: swarm testing (Groce et al. 2012) for the profiles.

mod commands;
mod heal;
mod profile;
mod run;
mod shrink;

use fastrand::Rng;

use commands::Chooser;
pub use run::{Failure, Figures, Run, Step, Unwell};
pub use shrink::shrunk;

/// A script, and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// The commands with what they printed.
    pub run: Run,
    /// How many of the commands come before the healing.
    pub body: usize,
    /// What went wrong.
    pub result: Result<(), Failure>,
}

impl Outcome {
    /// The commands before the healing: what [`replay`] takes.
    pub fn body(&self) -> &[Step] {
        &self.run.steps()[..self.body]
    }
}

/// Makes and runs the script of a seed.
pub fn generate(seed: u64) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let profile = profile::draw(&mut rng);
    let mut chooser = Chooser::new(rng, profile);
    let mut run = Run::default();
    let result = chooser
        .setup()
        .into_iter()
        .try_for_each(|step| run.step(step));
    let mut result = result;
    while result.is_ok() {
        let Some(step) = chooser.next(run.environment()) else {
            break;
        };
        result = run.step(step);
    }
    finish(run, result)
}

/// Runs commands, and heals the cluster after them. Commands that make no sense
/// at their place are passed over.
pub fn replay(steps: &[Step]) -> Outcome {
    let mut run = Run::default();
    let result = steps.iter().try_for_each(|step| run.step(step.clone()));
    finish(run, result)
}

fn finish(mut run: Run, result: Result<(), Failure>) -> Outcome {
    let body = run.steps().len();
    let result = result.and_then(|()| heal::heal(&mut run));
    Outcome { run, body, result }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_script() {
        for seed in 0..10 {
            let [first, second] = [generate(seed), generate(seed)];
            assert_eq!(first.run.text(), second.run.text(), "seed {seed}");
        }
    }

    #[test]
    fn a_replay_repeats_a_script_and_its_healing() {
        for seed in 0..10 {
            let first = generate(seed);
            let second = replay(first.body());
            assert_eq!(first.run.text(), second.run.text(), "seed {seed}");
        }
    }

    #[test]
    fn a_printed_script_is_a_scenario_that_passes() {
        use crate::runner::{Kind, first_difference};
        for seed in 0..10 {
            let text = generate(seed).run.text();
            let difference = first_difference(Kind::Cluster, &text).expect("it is a script");
            assert_eq!(difference, None, "seed {seed}");
        }
    }
}

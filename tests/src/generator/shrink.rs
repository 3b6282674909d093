//! # Shrinking
//!
//! Leaves commands out of a script that fails, as long as it fails in the same
//! way: first long stretches, then short ones, then single ones.
//!
//! - Owns: nothing.

use super::run::{Failure, Step};

/// The shortest script found for which `failure_of` gives a failure like
/// `failure`.
pub fn shrunk(
    steps: &[Step],
    failure: &Failure,
    mut failure_of: impl FnMut(&[Step]) -> Option<Failure>,
) -> Vec<Step> {
    let mut kept = steps.to_vec();
    let mut stretch = kept.len().div_ceil(2);
    while stretch > 0 {
        let before = kept.len();
        let mut start = 0;
        while start < kept.len() {
            let mut candidate = kept.clone();
            candidate.drain(start..(start + stretch).min(kept.len()));
            match failure_of(&candidate) {
                Some(other) if other.is_like(failure) => kept = candidate,
                _ => start += stretch,
            }
        }
        // Single commands are tried until none can go.
        if stretch > 1 || kept.len() == before {
            stretch /= 2;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Broken;

    #[test]
    fn only_what_the_failure_needs_is_kept() {
        let needed = ["step 3", "step 17", "step 18"];
        let steps: Vec<Step> = (0..40).map(|n| Step::new(format!("step {n}"))).collect();
        let failure_of = |steps: &[Step]| {
            let has = |line: &&str| steps.iter().any(|step| step.line == **line);
            needed
                .iter()
                .all(has)
                .then_some(Failure::Broken(Broken::Restless { rounds: 1 }))
        };
        let failure = failure_of(&steps).expect("the whole script fails");
        let kept = shrunk(&steps, &failure, failure_of);
        let lines: Vec<&str> = kept.iter().map(|step| step.line.as_str()).collect();
        assert_eq!(lines, needed);
    }
}

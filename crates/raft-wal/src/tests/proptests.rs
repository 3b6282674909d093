//! Random lives of a log against the model.

use proptest::prelude::*;

use super::model::{Draw, Model, Outcome};
use super::{open_model, run};
use crate::sim::{SimDisk, Survivors};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// A failing case prints its seed.
    #[test]
    fn a_log_is_what_was_written_after_any_number_of_restarts(
        seed in any::<u64>(),
        commits in prop::collection::vec((1_usize..30, 0_u8..4), 1..6),
    ) {
        let disk = SimDisk::new();
        let mut draw = Draw::new(seed);
        let mut outcome = Outcome::starting_with(Model::default());
        for (count, ending) in commits {
            let (mut log, found) = open_model(&disk);
            prop_assert!(outcome.allows(&found));
            let steps = draw.steps(&found, count);
            outcome = run(&mut log, found, &steps);
            prop_assert!(!outcome.is_failed());
            match ending {
                0 => {
                    log.close().unwrap();
                    outcome = Outcome::starting_with(outcome.newest().clone());
                    drop(log);
                    disk.crash(Survivors::None);
                }
                1 => {
                    drop(log);
                    disk.crash(Survivors::Chosen(seed));
                }
                2 => {
                    drop(log);
                    disk.restart();
                }
                _ => drop(log),
            }
        }
        let (_log, found) = open_model(&disk);
        prop_assert!(outcome.allows(&found));
    }
}

//! The scenario runner must be able to fail: a wrong expectation is found, with
//! its line, and so is a folder that is not there.

use std::fs;
use std::path::Path;

use raft_tests::runner::{self, Kind, RunnerError};

const ELECTION: &str = "\
# A comment takes a line too.
add-nodes 1 voters=(1) index=3
----
ok

campaign 1
----
ok

process-ready 1
----
Ready MustSync=true:
Lead:0 State:StateCandidate
HardState Term:1 Vote:1 Commit:3
";

fn first_line_of_difference(kind: Kind, text: &str) -> Option<usize> {
    runner::first_difference(kind, text)
        .expect("the script can be read")
        .map(|difference| difference.line)
}

#[test]
fn a_right_expectation_passes() {
    assert_eq!(first_line_of_difference(Kind::Cluster, ELECTION), None);
}

#[test]
fn a_wrong_line_is_reported_with_its_number_and_both_texts() {
    let wrong = ELECTION.replace("Vote:1", "Vote:2");
    let difference = runner::first_difference(Kind::Cluster, &wrong)
        .expect("the script can be read")
        .expect("the outputs differ");
    assert_eq!(difference.line, 14);
    assert_eq!(
        difference.expected.as_deref(),
        Some("HardState Term:1 Vote:2 Commit:3")
    );
    assert_eq!(
        difference.got.as_deref(),
        Some("HardState Term:1 Vote:1 Commit:3")
    );
    let shown = difference.to_string();
    assert!(shown.contains("`process-ready 1` (line 10)"), "{shown}");
}

#[test]
fn a_missing_and_a_superfluous_line_are_differences() {
    let missing = ELECTION.replace("HardState Term:1 Vote:1 Commit:3\n", "");
    assert_eq!(first_line_of_difference(Kind::Cluster, &missing), Some(14));
    let more = format!("{ELECTION}HardState again\n");
    assert_eq!(first_line_of_difference(Kind::Cluster, &more), Some(15));
}

#[test]
fn a_command_that_cannot_be_run_is_a_difference() {
    for line in [
        "campaign 7",
        "dance 1",
        "add-nodes 1 wings=2",
        "tick-election",
    ] {
        let text = format!("{line}\n----\nok\n");
        assert_eq!(
            first_line_of_difference(Kind::Cluster, &text),
            Some(3),
            "{line}"
        );
    }
}

#[test]
fn wrong_quorums_and_configurations_are_differences() {
    let committed = "committed cfg=(1,2,3) idx=(1,2,3)\n----\n3\n";
    assert_eq!(first_line_of_difference(Kind::Quorum, committed), Some(3));
    let simple = "simple\nv1\n----\nvoters=(2)\n1: StateProbe match=0 next=1\n";
    assert_eq!(first_line_of_difference(Kind::ConfChange, simple), Some(4));
}

#[test]
fn rewriting_puts_the_right_output_in() {
    let wrong = ELECTION.replace("Vote:1", "Vote:2");
    let rewritten = runner::rewritten(Kind::Cluster, &wrong).expect("the script runs");
    assert_eq!(rewritten, ELECTION);
}

#[test]
fn a_missing_folder_is_named() {
    let base = tempfile::tempdir().expect("a temporary folder");
    let bases = [base.path().to_owned()];
    let error = runner::find_folder(Path::new("nowhere"), &bases).expect_err("it is not there");
    assert!(matches!(error, RunnerError::Missing { .. }), "{error}");
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn a_folder_is_flat_or_has_the_four_subfolders() {
    let base = tempfile::tempdir().expect("a temporary folder");
    let empty = runner::scenarios_in(base.path()).expect_err("there is nothing in it");
    assert!(matches!(empty, RunnerError::Empty(_)), "{empty}");

    fs::write(base.path().join("a.txt"), ELECTION).expect("a file");
    let flat = runner::scenarios_in(base.path()).expect("one scenario");
    assert_eq!(flat.len(), 1);
    assert_eq!(flat[0].kind, Kind::Cluster);

    fs::create_dir(base.path().join("quorum")).expect("a folder");
    fs::write(base.path().join("quorum/b.txt"), "vote\n----\nVoteWon\n").expect("a file");
    let laid_out = runner::scenarios_in(base.path()).expect("one scenario");
    assert_eq!(laid_out.len(), 1);
    assert_eq!(laid_out[0].kind, Kind::Quorum);
    assert_eq!(laid_out[0].name, "quorum/b.txt");
}

//! Keeps `docs/TESTING.md` and `docs/DIVERGENCES.md` true: every test and
//! scenario that they name exists, and no line of the lists is missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every Rust file of the workspace, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join("crates"), root().join("tests")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(&folder).expect("the folder can be listed") {
            let path = file.expect("the folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source can be read");
                sources.push((path, text));
            }
        }
    }
    sources
}

/// The rows of the tables: what is in the first column, and the rest.
fn rows(page: &str) -> Vec<(&str, &str)> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .collect()
}

/// What a row names: `file.rs: function` and `scenario.txt`.
fn named(row: &str) -> impl Iterator<Item = &str> {
    row.split('`').skip(1).step_by(2).filter(|name| {
        let is_scenario = Path::new(name).extension() == Some("txt".as_ref());
        is_scenario || name.contains(".rs: ")
    })
}

/// Whether `text` has a test of this name, behind a test attribute or in the
/// `proptest!` macro, which wants one too.
fn has_test(text: &str, function: &str) -> bool {
    let is_function = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")
            .and_then(|line| line.strip_prefix(function))
            .is_some_and(|rest| rest.starts_with('('))
    };
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().enumerate().any(|(place, line)| {
        is_function(line)
            && lines[..place]
                .iter()
                .rev()
                .map(|line| line.trim())
                .take_while(|line| line.starts_with("#[") || line.starts_with("///"))
                .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

/// Looks for every test that a page in `docs` names, of which there are more
/// than `at_least`.
fn look_for_tests_of(page: &str, at_least: usize) {
    let page = fs::read_to_string(root().join("docs").join(page)).expect("the page is there");
    let sources = sources();
    let mut missing = Vec::new();
    let mut found = 0;
    for (first, row) in rows(&page) {
        for name in named(row) {
            let exists = match name.split_once(": ") {
                Some((file, function)) => sources.iter().any(|(path, text)| {
                    // Whole parts of the path: `wal.rs` is not `my_wal.rs`.
                    path.ends_with(file) && has_test(text, function)
                }),
                None => root().join("tests/scenarios").join(name).is_file(),
            };
            found += 1;
            if !exists {
                missing.push(format!("{first}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "there is no\n{}", missing.join("\n"));
    assert!(found > at_least, "only {found} tests are named");
}

#[test]
fn every_test_that_the_pages_name_exists() {
    look_for_tests_of("TESTING.md", 150);
    look_for_tests_of("DIVERGENCES.md", 45);
}

#[test]
fn every_line_of_the_lists_has_a_test() {
    let page = fs::read_to_string(root().join("docs/TESTING.md")).expect("the page is there");
    let mut tests: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, row) in rows(&page) {
        tests.entry(number).or_default().push(named(row).count());
    }
    let bugs = (1..=117).map(|number| number.to_string());
    let panics = (1..=16).map(|number| format!("P{number}"));
    for number in bugs.chain(panics) {
        match tests.get(number.as_str()).map(Vec::as_slice) {
            Some([count]) => assert!(*count > 0, "line {number} names no test"),
            Some(_) => panic!("line {number} is there twice"),
            None => panic!("line {number} is missing"),
        }
    }
}

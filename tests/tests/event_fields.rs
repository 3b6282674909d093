//! Every event that the crates trace has fields of one set, which OPERATIONS.md lists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where an event has no `node`: the room does not know it.
const WITHOUT_NODE: [&str; 3] = [
    "raft-kv/src/server/mod.rs",
    "raft-tokio/src/snapshot/custody.rs",
    "raft-tokio/src/typed.rs",
];

const MACROS: [&str; 5] = ["error!(", "warn!(", "info!(", "debug!(", "trace!("];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The fields of each event in a source: what stands before its sentence.
fn events(source: &str) -> Vec<Vec<String>> {
    let mut events = Vec::new();
    for name in MACROS {
        for (at, _) in source.match_indices(name) {
            // Another macro whose name ends alike, or a word of a comment.
            let before = source[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let fields = source[at + name.len()..].split('"').next().unwrap_or("");
            let fields = fields.split(',').map(str::trim);
            let names = fields.filter(|field| !field.is_empty()).map(|field| {
                let name = field.split('=').next().unwrap_or(field).trim();
                name.trim_start_matches(['%', '?']).to_owned()
            });
            events.push(names.collect());
        }
    }
    events
}

/// The names in the first column of the table of fields.
fn documented() -> BTreeSet<String> {
    let text = fs::read_to_string(workspace().join("docs/OPERATIONS.md")).unwrap();
    let table = text
        .split("| field | of what |")
        .nth(1)
        .expect("a table of fields");
    let rows = table.lines().skip(2).take_while(|row| row.starts_with('|'));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap_or("").split(','));
    names
        .map(|name| name.trim().trim_matches('`').to_owned())
        .collect()
}

#[test]
fn events_have_the_fields_that_are_documented_and_say_of_which_node() {
    let documented = documented();
    let mut used = BTreeSet::new();
    for name in ["raft-tokio", "raft-kv", "raft-wal"] {
        let mut files = Vec::new();
        sources(
            &workspace().join("crates").join(name).join("src"),
            &mut files,
        );
        for file in files {
            let path = file.to_string_lossy();
            for fields in events(&fs::read_to_string(&file).unwrap()) {
                for field in &fields {
                    assert!(documented.contains(field), "`{field}` in {path}");
                }
                let is_excused = WITHOUT_NODE.iter().any(|excused| path.ends_with(excused));
                let has_node = fields.iter().any(|field| field == "node");
                assert!(has_node || is_excused, "no node in {path}: {fields:?}");
                used.extend(fields);
            }
        }
    }
    assert_eq!(used, documented, "nothing is documented that is not there");
}

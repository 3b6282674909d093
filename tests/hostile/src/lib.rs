//! Drivers that feed hostile input to every door of the project.
//!
//! A [`Target`] turns bytes into input, gives it to a door and panics at the
//! first answer that breaks a promise. The same targets serve three callers:
//! the seeded tests of this crate, the replay of the corpus in `fuzz/corpus`,
//! and the fuzzers in `fuzz/`, which find the bytes.
//!
//! | door | target |
//! |---|---|
//! | a node of any role and configuration, among enemies | [`node`] |
//! | a node whose storage fails or lies | [`restart`] |
//! | changes of the configuration, as bytes and as values | [`conf_change`] |
//! | messages, entries and states as bytes | [`decode`] |
//! | frames on a connection | [`frames`] |
//! | segments of the log, forged and damaged | [`wal`] |
//! | snapshot files, forged and damaged | [`snapshot_file`] |
//! | requests and replies of the Redis protocol | [`resp`] |
//! | commands and snapshots of the state machines | [`machine`] |

#![expect(
    clippy::missing_panics_doc,
    reason = "a driver panics where a promise is broken, and says so above"
)]

pub mod choices;
pub mod conf_change;
pub mod decode;
pub mod frames;
pub mod machine;
pub mod mutate;
pub mod node;
pub mod resp;
pub mod restart;
pub mod snapshot_file;
mod storage;
pub mod wal;

/// A door, and what walks through it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called: a file in `fuzz/fuzz_targets`, a folder in
    /// `fuzz/corpus`.
    pub name: &'static str,
    /// Turns bytes into input. Panics if a promise is broken.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target {
        name: "node",
        run: |bytes| {
            node::run(bytes);
        },
    },
    Target {
        name: "restart",
        run: restart::run,
    },
    Target {
        name: "conf_change",
        run: conf_change::run,
    },
    Target {
        name: "decode",
        run: decode::run,
    },
    Target {
        name: "frames",
        run: frames::run,
    },
    Target {
        name: "wal",
        run: wal::run,
    },
    Target {
        name: "snapshot_file",
        run: snapshot_file::run,
    },
    Target {
        name: "resp",
        run: resp::run,
    },
    Target {
        name: "machine",
        run: machine::run,
    },
];

//! # Which server is which
//!
//! What is known of those who have connected before: the data folder that each
//! server has, how often that was opened, and by which process. It is kept beside
//! the log, so that a restart does not make strangers welcome.
//!
//! A node that was wiped comes with another folder; a copy of a folder comes with
//! a start that was seen before, or with one that another process has; a node
//! that was removed has left. None of them may speak in the name of the member
//! that they were: it has forgotten what that one promised. Who is added again comes
//! back with the folder that it had, or not at all.
//!
//! The first one to come under an id is believed. The file is text, a line for
//! each server:
//!
//! ```text
//! raft-tokio peers 1
//! node 2 folder 9f0c… start 7 process 51d2…
//! node 4 left
//! node 5 left folder 77ab… start 2 process 1f3e…
//! ```
//!
//! - Owns: the file of the peers.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use raft_core::NodeId;
use raft_wire::frame::{Handshake, HandshakeRejection};

const FIRST_LINE: &str = "raft-tokio peers 1";

/// More than any cluster has. Beyond that strangers are let in and forgotten.
const KNOWN_MAX: usize = 1024;

/// What is known of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Member(Folder),
    /// It was removed from the cluster. If it was seen before, it had this folder.
    Left(Option<Folder>),
}

/// The folder of a server, when it was seen last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Folder {
    id: u128,
    start: u64,
    process: u64,
}

/// Everybody who is known.
#[derive(Debug)]
pub(super) struct Acquaintances {
    known: Mutex<BTreeMap<NodeId, Known>>,
    /// Held while the file is written, so that the latest is written last.
    file: Mutex<Option<PathBuf>>,
}

/// Whether there is something to write down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    None,
    Some,
}

impl Acquaintances {
    /// Those in the file, if there is one.
    pub(super) fn open(file: Option<PathBuf>) -> io::Result<Self> {
        let known = match &file {
            Some(path) => read(path)?,
            None => BTreeMap::new(),
        };
        Ok(Self {
            known: Mutex::new(known),
            file: Mutex::new(file),
        })
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<NodeId, Known>> {
        // Nothing that is done under the lock can panic half way.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is who it says.
    pub(super) fn check(&self, handshake: &Handshake) -> Result<(), HandshakeRejection> {
        let seen = match self.known().get(&handshake.from) {
            Some(Known::Left(_)) => return Err(HandshakeRejection::Removed),
            Some(Known::Member(folder)) => *folder,
            None => return Ok(()),
        };
        if handshake.folder != Some(seen.id) {
            return Err(HandshakeRejection::OtherFolder);
        }
        if handshake.incarnation < seen.start {
            return Err(HandshakeRejection::StaleIncarnation);
        }
        if handshake.incarnation == seen.start && handshake.process != seen.process {
            return Err(HandshakeRejection::Twin);
        }
        Ok(())
    }

    /// Remembers whoever was let in, if it has a folder.
    pub(super) fn remember(&self, handshake: &Handshake) -> News {
        let Some(id) = handshake.folder else {
            return News::None;
        };
        let now = Known::Member(Folder {
            id,
            start: handshake.incarnation,
            process: handshake.process,
        });
        let mut all = self.known();
        let has_room = all.len() < KNOWN_MAX || all.contains_key(&handshake.from);
        if has_room && all.insert(handshake.from, now) != Some(now) {
            News::Some
        } else {
            News::None
        }
    }

    /// The server is a member, perhaps again: then with the folder that it had.
    pub(super) fn joined(&self, peer: NodeId) -> News {
        let mut all = self.known();
        let Some(Known::Left(folder)) = all.get(&peer).copied() else {
            return News::None;
        };
        match folder {
            Some(folder) => all.insert(peer, Known::Member(folder)),
            None => all.remove(&peer),
        };
        News::Some
    }

    /// The server is no longer a member.
    pub(super) fn left(&self, peer: NodeId) -> News {
        let mut all = self.known();
        let folder = match all.get(&peer) {
            Some(Known::Left(_)) => return News::None,
            Some(Known::Member(folder)) => Some(*folder),
            None => None,
        };
        all.insert(peer, Known::Left(folder));
        News::Some
    }

    /// Writes down what is known, durably. Blocks on the disk.
    pub(super) fn save(&self) -> io::Result<()> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &*file else {
            return Ok(());
        };
        let text = spell(&self.known());
        let new_path = path.with_extension("new");
        let mut new = File::create(&new_path)?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        fs::rename(&new_path, path)?;
        match path.parent() {
            // Folders cannot be opened everywhere.
            Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, start, process } = self;
        write!(f, "folder {id:032x} start {start} process {process:016x}")
    }
}

impl Folder {
    /// Reads what [`Display`](fmt::Display) has written.
    fn parse(words: &[&str]) -> Option<Self> {
        let ["folder", id, "start", start, "process", process] = words else {
            return None;
        };
        Some(Self {
            id: u128::from_str_radix(id, 16).ok()?,
            start: start.parse().ok()?,
            process: u64::from_str_radix(process, 16).ok()?,
        })
    }
}

fn spell(known: &BTreeMap<NodeId, Known>) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for (node, known) in known {
        // Writing to a string cannot fail.
        let _ = match known {
            Known::Member(folder) => writeln!(text, "node {node} {folder}"),
            Known::Left(None) => writeln!(text, "node {node} left"),
            Known::Left(Some(folder)) => writeln!(text, "node {node} left {folder}"),
        };
    }
    text
}

fn read(path: &Path) -> io::Result<BTreeMap<NodeId, Known>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is damaged"))
}

fn parse(text: &str) -> Option<BTreeMap<NodeId, Known>> {
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return None;
    }
    let mut known = BTreeMap::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let (node, what) = match words.as_slice() {
            ["node", node, "left"] => (node, Known::Left(None)),
            ["node", node, "left", folder @ ..] => {
                (node, Known::Left(Some(Folder::parse(folder)?)))
            }
            ["node", node, folder @ ..] => (node, Known::Member(Folder::parse(folder)?)),
            _ => return None,
        };
        known.insert(NodeId::new(node.parse().ok()?)?, what);
    }
    Some(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_wire::frame::{ConnectionPurpose, PROTOCOL_VERSION};

    fn node(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn of(folder: Option<u128>, start: u64, process: u64) -> Handshake {
        Handshake {
            protocol_version: PROTOCOL_VERSION,
            cluster_id: 1,
            from: node(2),
            to: node(1),
            incarnation: start,
            purpose: ConnectionPurpose::Messages,
            folder,
            process,
            listen_port: None,
        }
    }

    fn strangers() -> Acquaintances {
        Acquaintances::open(None).unwrap()
    }

    impl Acquaintances {
        fn recognize(&self, handshake: &Handshake) -> Result<News, HandshakeRejection> {
            self.check(handshake)?;
            Ok(self.remember(handshake))
        }
    }

    #[test]
    fn who_comes_first_is_believed_and_comes_again() {
        let known = strangers();
        assert_eq!(known.recognize(&of(Some(7), 3, 90)), Ok(News::Some));
        assert_eq!(known.recognize(&of(Some(7), 3, 90)), Ok(News::None));
        assert_eq!(known.recognize(&of(Some(7), 4, 91)), Ok(News::Some));
    }

    #[test]
    fn a_wiped_node_is_not_who_it_was() {
        let known = strangers();
        known.recognize(&of(Some(7), 3, 90)).unwrap();
        let other = HandshakeRejection::OtherFolder;
        assert_eq!(known.recognize(&of(Some(8), 1, 91)), Err(other));
        assert_eq!(known.recognize(&of(Some(8), 9, 91)), Err(other));
        assert_eq!(known.recognize(&of(None, 9, 91)), Err(other));
        assert_eq!(known.recognize(&of(Some(7), 3, 90)), Ok(News::None));
    }

    #[test]
    fn a_copy_of_a_folder_is_found_by_its_starts() {
        let known = strangers();
        known.recognize(&of(Some(7), 3, 90)).unwrap();
        let stale = HandshakeRejection::StaleIncarnation;
        assert_eq!(known.recognize(&of(Some(7), 2, 91)), Err(stale));
        let twin = HandshakeRejection::Twin;
        assert_eq!(known.recognize(&of(Some(7), 3, 91)), Err(twin));
    }

    #[test]
    fn who_left_stays_out_until_it_is_a_member_again_with_the_folder_that_it_had() {
        let known = strangers();
        known.recognize(&of(Some(7), 3, 90)).unwrap();
        assert_eq!(known.left(node(2)), News::Some);
        assert_eq!(known.left(node(2)), News::None);
        let removed = HandshakeRejection::Removed;
        assert_eq!(known.recognize(&of(Some(7), 4, 91)), Err(removed));
        assert_eq!(known.joined(node(2)), News::Some);
        assert_eq!(known.joined(node(2)), News::None);
        let other = HandshakeRejection::OtherFolder;
        assert_eq!(known.recognize(&of(Some(8), 1, 92)), Err(other));
        assert_eq!(known.recognize(&of(Some(7), 4, 91)), Ok(News::Some));
        // Whoever was never seen may come with any.
        assert_eq!(known.left(node(3)), News::Some);
        assert_eq!(known.joined(node(3)), News::Some);
        assert_eq!(known.joined(node(3)), News::None);
    }

    #[test]
    fn what_is_known_survives_a_restart_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("PEERS");
        let known = Acquaintances::open(Some(path.clone())).unwrap();
        known.recognize(&of(Some(7), 3, 90)).unwrap();
        known.left(node(4));
        known.remember(&Handshake {
            from: node(5),
            ..of(Some(8), 1, 91)
        });
        known.left(node(5));
        known.save().unwrap();
        let again = Acquaintances::open(Some(path.clone())).unwrap();
        assert_eq!(*again.known(), *known.known());
        for damaged in [
            "",
            "raft-tokio peers 2\n",
            "raft-tokio peers 1\nnode x left\n",
            "raft-tokio peers 1\nnode 4 left folder\n",
        ] {
            fs::write(&path, damaged).unwrap();
            assert!(
                Acquaintances::open(Some(path.clone())).is_err(),
                "{damaged}"
            );
        }
    }
}

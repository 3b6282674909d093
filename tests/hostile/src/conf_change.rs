//! # Configuration changes
//!
//! Any bytes as the data of a change, and any sequence of changes on any
//! configuration that could have been stored. A change is made whole or not at
//! all, and every configuration that is made could be stored and restored.

use bytes::Bytes;
use raft_core::{Config, Entry, EntryType, LogIndex, Membership, MemoryStorage, RawNode, Term};

use crate::choices::Choices;

/// Runs one script.
pub fn run(bytes: &[u8]) {
    read(bytes);
    let mut choices = Choices::new(bytes);
    let conf_state = choices.conf_state();
    let own = choices.node();
    let Ok(mut membership) = Membership::restore(&conf_state) else {
        let storage = MemoryStorage::with_conf_state(conf_state);
        assert!(RawNode::new(Config::protected(own), storage).is_err());
        return;
    };
    let storage = MemoryStorage::with_conf_state(conf_state);
    let mut node =
        RawNode::new(Config::protected(own), storage).expect("what can be restored can start");
    while !choices.is_exhausted() {
        let change = choices.conf_change();
        let changed = membership.changed(&change);
        let by_node = node.apply_conf_change(&change);
        match (changed, by_node) {
            (Ok(reconfiguration), Ok(conf_state)) => {
                membership = reconfiguration.membership;
                assert_eq!(membership.conf_state(), conf_state);
            }
            (Err(one), Err(other)) => assert_eq!(one, other),
            (one, other) => panic!("{change:?}: {:?} and {other:?}", one.map(drop)),
        }
        assert_eq!(*node.membership(), membership, "{change:?}");
        assert_eq!(membership.check(), Ok(()), "{change:?}");
        let restored = Membership::restore(&membership.conf_state());
        assert_eq!(restored.as_ref(), Ok(&membership), "{change:?}");
        node.check().expect("every invariant holds");
    }
}

/// What can be read is written in a way that is read the same.
fn read(bytes: &[u8]) {
    for entry_type in [EntryType::ConfChange, EntryType::ConfChangeV2] {
        let data = Bytes::copy_from_slice(bytes);
        let entry = Entry::new(Term::new(1), LogIndex::new(1), entry_type, data);
        if let Ok(change) = entry.conf_change() {
            let change = change.expect("its type says that it is a change");
            let proposal = change.to_proposal();
            let written = Entry::new(
                Term::new(1),
                LogIndex::new(1),
                proposal.entry_type,
                proposal.data,
            );
            assert_eq!(written.conf_change(), Ok(Some(change)));
        }
    }
}

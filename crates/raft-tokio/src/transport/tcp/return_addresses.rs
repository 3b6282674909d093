//! # Return addresses
//!
//! Where peers are that have connected to this server: the machine that they came
//! from, and the port on which they say they listen. That is where a peer is
//! answered of which nobody else has said where it is, so a server that joins needs
//! to be told of nobody: whoever turns to it can be answered.
//!
//! The least of what is known: what the cluster has agreed on, or the settings say,
//! wins, since a peer may be reached in another way than it reaches others.
//!
//! - Owns: the addresses, until a restart.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use raft_core::NodeId;

/// More than there are servers in any sensible cluster. Beyond that nobody new is
/// kept, so that ids that are made up fill nothing.
const PEERS_MAX: usize = 1024;

/// Written by the tasks that let peers in, read by the one that sends.
#[derive(Debug, Default)]
pub(super) struct ReturnAddresses {
    known: Mutex<BTreeMap<NodeId, SocketAddr>>,
    /// Grows with every change.
    version: AtomicU64,
}

/// Up to where somebody has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen(u64);

impl ReturnAddresses {
    /// `peer` was let in, came from there, and listens on this port.
    pub(super) fn learn(&self, peer: NodeId, came_from: SocketAddr, port: Option<NonZeroU16>) {
        let Some(port) = port else { return };
        let address = SocketAddr::new(came_from.ip(), port.get());
        let mut known = self.known();
        if known.get(&peer) == Some(&address)
            || (known.len() >= PEERS_MAX && !known.contains_key(&peer))
        {
            return;
        }
        known.insert(peer, address);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Nothing is known of `peer` any more, until it comes again.
    pub(super) fn forget(&self, peer: NodeId) {
        self.known().remove(&peer);
    }

    /// Everything that is known, if there is something new since it was `seen`.
    pub(super) fn news(&self, seen: &mut Seen) -> Option<BTreeMap<NodeId, SocketAddr>> {
        let version = self.version.load(Ordering::Acquire);
        if seen.0 == version {
            return None;
        }
        seen.0 = version;
        Some(self.known().clone())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<NodeId, SocketAddr>> {
        // A panic elsewhere leaves nothing half done in here.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn from(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_is_where_it_came_from_at_the_port_it_named() {
        let known = ReturnAddresses::default();
        let mut seen = Seen::default();
        assert_eq!(known.news(&mut seen), None);
        known.learn(node(2), from("10.0.0.2:51234"), NonZeroU16::new(7000));
        known.learn(node(3), from("10.0.0.3:51234"), None);
        let expected = BTreeMap::from([(node(2), from("10.0.0.2:7000"))]);
        assert_eq!(known.news(&mut seen), Some(expected));
        // The same again is no news, another place is.
        known.learn(node(2), from("10.0.0.2:60000"), NonZeroU16::new(7000));
        assert_eq!(known.news(&mut seen), None);
        known.learn(node(2), from("10.0.0.9:60000"), NonZeroU16::new(7000));
        let expected = BTreeMap::from([(node(2), from("10.0.0.9:7000"))]);
        assert_eq!(known.news(&mut seen), Some(expected));
        // Who was forgotten is news when it comes again.
        known.forget(node(2));
        known.learn(node(2), from("10.0.0.9:60000"), NonZeroU16::new(7000));
        assert!(known.news(&mut seen).is_some());
    }

    #[test]
    fn strangers_without_number_fill_nothing() {
        let known = ReturnAddresses::default();
        for number in 1..=PEERS_MAX + 10 {
            let id = node(u64::try_from(number).unwrap());
            known.learn(id, from("10.0.0.1:1"), NonZeroU16::new(7000));
        }
        let all = known.news(&mut Seen::default()).unwrap();
        assert_eq!(all.len(), PEERS_MAX);
        // Who is known may still move.
        known.learn(node(1), from("10.0.0.2:1"), NonZeroU16::new(7000));
        let all = known.news(&mut Seen::default()).unwrap();
        assert_eq!(all[&node(1)], from("10.0.0.2:7000"));
    }
}

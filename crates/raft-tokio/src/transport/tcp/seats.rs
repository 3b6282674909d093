//! # Which connections are current
//!
//! Owns what is known about those who connected: the latest incarnation of each
//! server, and its connection of each purpose. A server has one of each; when it
//! opens another, the old one was lost without our noticing, and ends.

use std::sync::{Mutex, PoisonError};

use raft_core::NodeId;
use raft_wire::frame::ConnectionPurpose;
use tokio_util::sync::CancellationToken;

/// How many servers are remembered. Far more than a cluster has; strangers who
/// invent names push out the ones that were quiet for longest.
const SEATS_MAX: usize = 1024;

/// The servers that have connected.
#[derive(Debug, Default)]
pub(super) struct Seats {
    seats: Mutex<Vec<Seat>>,
}

#[derive(Debug)]
struct Seat {
    peer: NodeId,
    incarnation: u64,
    connections: Vec<(ConnectionPurpose, CancellationToken)>,
}

/// A later start of the same server was here before.
#[derive(Debug)]
pub(super) struct Stale;

impl Seats {
    /// Makes a new connection the current one of its purpose. Returns what is
    /// cancelled when another one takes its place.
    pub(super) fn take(
        &self,
        peer: NodeId,
        incarnation: u64,
        purpose: ConnectionPurpose,
    ) -> Result<CancellationToken, Stale> {
        // Nothing in here panics half way, so poison is no reason to stop.
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seats.iter().position(|seat| seat.peer == peer);
        let mut seat = match known {
            Some(at) => seats.remove(at),
            None => Seat {
                peer,
                incarnation,
                connections: Vec::new(),
            },
        };
        let answer = seat.admit(incarnation, purpose);
        if seats.len() >= SEATS_MAX {
            seats.remove(0);
        }
        // The latest comes last, so the first is the one to forget.
        seats.push(seat);
        answer
    }
}

impl Seat {
    fn admit(
        &mut self,
        incarnation: u64,
        purpose: ConnectionPurpose,
    ) -> Result<CancellationToken, Stale> {
        if incarnation < self.incarnation {
            return Err(Stale);
        }
        let is_restarted = incarnation > self.incarnation;
        self.incarnation = incarnation;
        self.connections.retain(|(existing, replaced)| {
            let is_outdated = is_restarted || *existing == purpose;
            if is_outdated {
                replaced.cancel();
            }
            !is_outdated
        });
        let replaced = CancellationToken::new();
        self.connections.push((purpose, replaced.clone()));
        Ok(replaced)
    }
}

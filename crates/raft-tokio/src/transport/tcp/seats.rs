//! # Which connections are current
//!
//! Owns what is known about those who connected: the latest incarnation of each
//! server, and its connection of each purpose. A server has one of each; when it
//! opens another, the old one was lost without our noticing, and ends.
//!
//! Of those who have a data folder one process at a time has a seat: while its
//! connection lives, another one was started with a copy of the folder. A machine
//! that lost its power without our noticing keeps its seat until the connection
//! counts as lost.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use raft_core::NodeId;
use raft_wire::frame::{ConnectionPurpose, Handshake, HandshakeRejection};
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
    process: u64,
    connections: Vec<Seated>,
}

/// A connection, which may have ended.
#[derive(Debug)]
struct Seated {
    purpose: ConnectionPurpose,
    replaced: CancellationToken,
    alive: Weak<()>,
}

/// The right to a connection, for as long as it lives.
#[derive(Debug)]
pub(super) struct Ticket {
    /// Cancelled when another connection takes this one's place.
    pub(super) replaced: CancellationToken,
    _alive: Arc<()>,
}

impl Seats {
    /// Makes a new connection the current one of its purpose.
    pub(super) fn take(&self, handshake: &Handshake) -> Result<Ticket, HandshakeRejection> {
        // Nothing in here panics half way, so poison is no reason to stop.
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seats.iter().position(|seat| seat.peer == handshake.from);
        let mut seat = match known {
            Some(at) => seats.remove(at),
            None => Seat {
                peer: handshake.from,
                incarnation: handshake.incarnation,
                process: handshake.process,
                connections: Vec::new(),
            },
        };
        let answer = seat.admit(handshake);
        if seats.len() >= SEATS_MAX {
            seats.remove(0);
        }
        // The latest comes last, so the first is the one to forget.
        seats.push(seat);
        answer
    }
}

impl Seat {
    fn admit(&mut self, handshake: &Handshake) -> Result<Ticket, HandshakeRejection> {
        if handshake.incarnation < self.incarnation {
            return Err(HandshakeRejection::StaleIncarnation);
        }
        self.connections
            .retain(|seated| seated.alive.strong_count() > 0);
        let is_other = handshake.process != self.process;
        if is_other && handshake.folder.is_some() && !self.connections.is_empty() {
            return Err(HandshakeRejection::Twin);
        }
        let is_restarted = handshake.incarnation > self.incarnation;
        self.incarnation = handshake.incarnation;
        self.process = handshake.process;
        self.connections.retain(|seated| {
            let is_outdated = is_restarted || seated.purpose == handshake.purpose;
            if is_outdated {
                seated.replaced.cancel();
            }
            !is_outdated
        });
        let replaced = CancellationToken::new();
        let alive = Arc::new(());
        self.connections.push(Seated {
            purpose: handshake.purpose,
            replaced: replaced.clone(),
            alive: Arc::downgrade(&alive),
        });
        Ok(Ticket {
            replaced,
            _alive: alive,
        })
    }
}

//! # Reads
//!
//! An index at which a read is linearizable: the commit index when the request
//! came, once a quorum has confirmed by heartbeat that this server still led
//! then, or at once under a lease.
//!
//! Requests are numbered. A heartbeat carries the number of the latest, its
//! answer confirms all up to there; so any number of requests share a round,
//! and an answer to an old heartbeat never confirms a newer request.
//!
//! - Owns: the requests that are not confirmed, and who confirmed how many.
//! - Emits: heartbeats, answers, reads that are done.
//! - Source: thesis §6.4; etcd `read_only.go` (3.7).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::Leader;
use crate::common::{Common, ReadRequest};
use crate::config::ReadOnly;
use crate::storage::{Storage, StorageError};
use crate::types::{Body, LogIndex, NodeId};

#[derive(Debug, Default)]
pub(super) struct ReadRounds {
    /// The number of the latest round that each voter has confirmed.
    acks: Vec<(NodeId, u64)>,
    unconfirmed: VecDeque<(ReadRequest, LogIndex)>,
    /// How many requests were confirmed before those.
    confirmed: u64,
}

impl ReadRounds {
    fn latest(&self) -> u64 {
        let waiting = u64::try_from(self.unconfirmed.len()).unwrap_or(u64::MAX);
        self.confirmed.saturating_add(waiting)
    }

    /// What a heartbeat carries: the number of the latest request, or nothing
    /// if none waits.
    pub(super) fn current_round(&self) -> Bytes {
        if self.unconfirmed.is_empty() {
            return Bytes::new();
        }
        Bytes::copy_from_slice(&self.latest().to_le_bytes())
    }

    /// Whether `context` names no round, or one that was started.
    pub(super) fn knows(&self, context: &[u8]) -> bool {
        context.is_empty() || round_number(context).is_some_and(|round| round <= self.latest())
    }

    fn acknowledge(&mut self, from: NodeId, round: u64) {
        match self.acks.iter_mut().find(|(id, _)| *id == from) {
            Some((_, acked)) => *acked = round.max(*acked),
            None => self.acks.push((from, round)),
        }
    }

    fn acked(&self, id: NodeId) -> Option<u64> {
        self.acks
            .iter()
            .find(|(voter, _)| *voter == id)
            .map(|(_, acked)| *acked)
    }

    fn take_confirmed(&mut self, quorum: u64) -> Vec<(ReadRequest, LogIndex)> {
        let new = quorum.min(self.latest()).saturating_sub(self.confirmed);
        let count = usize::try_from(new).unwrap_or(usize::MAX);
        self.confirmed = self.confirmed.saturating_add(new);
        self.unconfirmed
            .drain(..count.min(self.unconfirmed.len()))
            .collect()
    }
}

fn round_number(context: &[u8]) -> Option<u64> {
    context.try_into().ok().map(u64::from_le_bytes)
}

impl Leader {
    /// Somebody wants to read: `None` is this server's own user.
    pub(crate) fn on_read_index<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        from: Option<NodeId>,
        context: Bytes,
    ) -> Result<(), StorageError> {
        let request = ReadRequest { from, context };
        if !common.config.is_protected() && common.membership.voters().is_singleton() {
            // etcd asks nobody, not even whether the only voter is this server
            // or what an earlier term committed.
            let index = common.log.committed();
            answer(common, request, index);
        } else if has_committed_in_term(common)? {
            self.start_read(common, request);
        } else {
            // Until then the commit index may be behind what earlier leaders
            // committed (thesis §6.4, step 1).
            common.deferred_reads.push(request);
        }
        Ok(())
    }

    /// The first commit of the term lets the deferred reads begin.
    pub(super) fn release_deferred_reads<S: Storage>(
        &mut self,
        common: &mut Common<S>,
    ) -> Result<(), StorageError> {
        if !common.deferred_reads.is_empty() && has_committed_in_term(common)? {
            for request in core::mem::take(&mut common.deferred_reads) {
                self.start_read(common, request);
            }
        }
        Ok(())
    }

    fn start_read<S: Storage>(&mut self, common: &mut Common<S>, request: ReadRequest) {
        let index = common.log.committed();
        match common.config.read_only {
            ReadOnly::Safe if is_own_quorum(common) => answer(common, request, index),
            ReadOnly::Safe => {
                self.reads.unconfirmed.push_back((request, index));
                let round = self.reads.latest();
                self.reads.acknowledge(common.id(), round);
                let context = self.reads.current_round();
                self.broadcast_heartbeat(common, &context);
            }
            ReadOnly::LeaseBased => answer(common, request, index),
        }
    }

    /// A heartbeat's answer confirms every request up to the round it carries.
    pub(super) fn on_read_ack<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        from: NodeId,
        context: &[u8],
    ) {
        if common.config.read_only != ReadOnly::Safe {
            return;
        }
        let Some(round) = round_number(context) else {
            return;
        };
        self.reads.acknowledge(from, round);
        let quorum = common
            .membership
            .voters()
            .committed(|id| self.reads.acked(id))
            .unwrap_or(u64::MAX);
        for (request, index) in self.reads.take_confirmed(quorum) {
            answer(common, request, index);
        }
    }
}

/// Whether nobody else could lead: this server is the only voter.
fn is_own_quorum<S>(common: &Common<S>) -> bool {
    let voters = common.membership.voters();
    common.config.is_protected() && voters.is_singleton() && voters.contains(common.id())
}

/// Whether the last committed entry is of this term.
fn has_committed_in_term<S: Storage>(common: &Common<S>) -> Result<bool, StorageError> {
    let committed = common.log.committed();
    Ok(common.log.known_term(committed)? == Some(common.term))
}

fn answer<S: Storage>(common: &mut Common<S>, request: ReadRequest, index: LogIndex) {
    let ReadRequest { from, context } = request;
    match from {
        Some(from) if from != common.id() => {
            common.send(from, Body::ReadIndexResponse { index, context });
        }
        _ => common.read_done(index, context),
    }
}

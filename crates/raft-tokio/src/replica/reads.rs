//! # Reads
//!
//! Many reads share a round: those that come while one is on its way wait for
//! the next. A confirmed round waits until the state machine has been handed
//! everything up to its index; the state machine works in order, so the reads
//! then simply queue up behind.
//!
//! - Owns: reads that wait for a round, and rounds that wait to be confirmed or
//!   reached.
//! - Source: thesis §6.4; etcd server `linearizableReadLoop`.

use std::collections::VecDeque;

use bytes::Bytes;
use raft_core::LogIndex;

use super::request::PendingRead;
use crate::error::ReadError;

/// Reads of one round.
#[derive(Debug)]
pub(super) struct Round {
    reads: Vec<(PendingRead, u64)>,
}

#[derive(Debug)]
pub(super) struct Reads {
    gathering: Vec<(PendingRead, u64)>,
    in_flight: Option<(u64, Round, u64)>,
    confirmed: VecDeque<(LogIndex, Round)>,
    next_id: u64,
}

impl Reads {
    /// `seed` tells the rounds of this process from those of an earlier one,
    /// whose answers may still be on their way.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            gathering: Vec::new(),
            in_flight: None,
            confirmed: VecDeque::new(),
            next_id: seed,
        }
    }

    pub(super) fn push(&mut self, read: PendingRead, since_tick: u64) {
        self.gathering.push((read, since_tick));
    }

    /// The context of the round to start now, if there is anything to ask and
    /// no round is on its way.
    pub(super) fn start_round(&mut self, tick: u64) -> Option<Bytes> {
        if self.in_flight.is_some() || self.gathering.is_empty() {
            return None;
        }
        let reads = std::mem::take(&mut self.gathering);
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.in_flight = Some((id, Round { reads }, tick));
        Some(Bytes::copy_from_slice(&id.to_le_bytes()))
    }

    /// The round cannot be started: its reads go on waiting.
    pub(super) fn abandon_round(&mut self) {
        if let Some((_, round, _)) = self.in_flight.take() {
            let later = std::mem::replace(&mut self.gathering, round.reads);
            self.gathering.extend(later);
        }
    }

    /// A round that has been on its way for too long was lost: asks again.
    pub(super) fn retry_lost_round(&mut self, tick: u64, patience_ticks: u64) {
        if let Some((_, _, started)) = &self.in_flight
            && tick.saturating_sub(*started) > patience_ticks
        {
            self.abandon_round();
        }
    }

    /// A round was confirmed. Answers to rounds that were given up are ignored.
    pub(super) fn confirm(&mut self, context: &[u8], index: LogIndex) {
        if let Some((id, round, started)) = self.in_flight.take() {
            if context == id.to_le_bytes() {
                self.confirmed.push_back((index, round));
            } else {
                self.in_flight = Some((id, round, started));
            }
        }
    }

    /// The reads that may be answered once everything up to `handed_out` is
    /// applied.
    pub(super) fn take_reached(&mut self, handed_out: LogIndex) -> Vec<PendingRead> {
        let mut reached = Vec::new();
        while self
            .confirmed
            .front()
            .is_some_and(|(index, _)| *index <= handed_out)
        {
            if let Some((_, round)) = self.confirmed.pop_front() {
                reached.extend(round.reads.into_iter().map(|(read, _)| read));
            }
        }
        reached
    }

    /// Fails the reads that have waited since before `tick`.
    pub(super) fn expire(&mut self, tick: u64) {
        fn expire(reads: &mut Vec<(PendingRead, u64)>, tick: u64) {
            if reads
                .iter()
                .all(|(read, since)| *since >= tick && !read.is_gone())
            {
                return;
            }
            for (read, since) in std::mem::take(reads) {
                if since < tick {
                    read.fail(ReadError::Timeout);
                } else if !read.is_gone() {
                    reads.push((read, since));
                }
            }
        }
        expire(&mut self.gathering, tick);
        if let Some((_, round, _)) = &mut self.in_flight {
            expire(&mut round.reads, tick);
            if round.reads.is_empty() {
                self.in_flight = None;
            }
        }
        for (_, round) in &mut self.confirmed {
            expire(&mut round.reads, tick);
        }
    }

    /// Takes out everybody.
    pub(super) fn take_all(&mut self) -> Vec<PendingRead> {
        let in_flight = self.in_flight.take().map(|(_, round, _)| round.reads);
        let confirmed = self.confirmed.drain(..).map(|(_, round)| round.reads);
        std::mem::take(&mut self.gathering)
            .into_iter()
            .chain(in_flight.into_iter().flatten())
            .chain(confirmed.flatten())
            .map(|(read, _)| read)
            .collect()
    }
}

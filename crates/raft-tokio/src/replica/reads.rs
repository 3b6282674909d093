//! # Reads
//!
//! Many reads share a round: those that come while one is on its way wait for
//! the next. A confirmed round waits until the state machine has been handed
//! everything up to its index; the state machine works in order, so the reads
//! then simply queue up behind.
//!
//! - Owns: reads that wait for a lease or a round, rounds that wait to be
//!   confirmed or reached, and how fresh the last confirmed one was.
//! - Source: thesis §6.4; etcd server `linearizableReadLoop`.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use raft_core::LogIndex;
use tokio::time::Instant;

use super::request::{Freshness, PendingRead};
use crate::error::ReadError;

/// A read, and the tick in which it was made.
pub(super) type WaitingRead = (PendingRead, u64);

/// A round that a quorum is to confirm.
#[derive(Debug)]
struct Round {
    id: u64,
    reads: Vec<WaitingRead>,
    since_tick: u64,
    asked: Instant,
}

#[derive(Debug)]
pub(super) struct Reads {
    gathering: Vec<WaitingRead>,
    /// Reads that a lease would do for.
    leased: Vec<WaitingRead>,
    in_flight: Option<Round>,
    confirmed: VecDeque<(LogIndex, Vec<WaitingRead>)>,
    /// Everything up to the index includes what was committed at the instant.
    newest: Option<(Instant, LogIndex)>,
    next_id: u64,
}

impl Reads {
    /// `seed` tells the rounds of this process from those of an earlier one,
    /// whose answers may still be on their way.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            gathering: Vec::new(),
            leased: Vec::new(),
            in_flight: None,
            confirmed: VecDeque::new(),
            newest: None,
            next_id: seed,
        }
    }

    pub(super) fn push(&mut self, read: PendingRead, freshness: Freshness, since_tick: u64) {
        match freshness {
            Freshness::Confirmed => self.gathering.push((read, since_tick)),
            Freshness::Leased => self.leased.push((read, since_tick)),
        }
    }

    /// How many reads wait.
    pub(super) fn len(&self) -> usize {
        let in_flight = self.in_flight.as_ref().map_or(0, |round| round.reads.len());
        let confirmed: usize = self.confirmed.iter().map(|(_, reads)| reads.len()).sum();
        self.gathering.len() + self.leased.len() + in_flight + confirmed
    }

    /// Whether somebody wants to know about the lease.
    pub(super) fn wants_lease(&self) -> bool {
        !self.leased.is_empty()
    }

    /// The lease covers the moment at which `commit` was the commit index.
    pub(super) fn grant_lease(&mut self, now: Instant, commit: LogIndex) {
        self.newest = Some((now, commit));
        let reads = std::mem::take(&mut self.leased);
        self.confirmed.push_back((commit, reads));
    }

    /// There is no lease: who hoped for it waits for a round.
    pub(super) fn refuse_lease(&mut self) {
        self.gathering.append(&mut self.leased);
    }

    /// Whether what was handed out is no older than `age_max`.
    pub(super) fn is_fresh(&self, now: Instant, age_max: Duration, handed_out: LogIndex) -> bool {
        self.newest.is_some_and(|(at, index)| {
            index <= handed_out && now.saturating_duration_since(at) <= age_max
        })
    }

    /// The context of the round to start now, if there is anything to ask and
    /// no round is on its way.
    pub(super) fn start_round(&mut self, tick: u64) -> Option<Bytes> {
        if self.in_flight.is_some() || self.gathering.is_empty() {
            return None;
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.in_flight = Some(Round {
            id,
            reads: std::mem::take(&mut self.gathering),
            since_tick: tick,
            asked: Instant::now(),
        });
        Some(Bytes::copy_from_slice(&id.to_le_bytes()))
    }

    /// The round cannot be started, or its answer will not come: its reads go on
    /// waiting.
    pub(super) fn abandon_round(&mut self) {
        if let Some(round) = self.in_flight.take() {
            let later = std::mem::replace(&mut self.gathering, round.reads);
            self.gathering.extend(later);
        }
    }

    /// A round that has been on its way for too long was lost: asks again.
    pub(super) fn retry_lost_round(&mut self, tick: u64, patience_ticks: u64) {
        if self
            .in_flight
            .as_ref()
            .is_some_and(|round| tick.saturating_sub(round.since_tick) > patience_ticks)
        {
            self.abandon_round();
        }
    }

    /// A round was confirmed; returns when it was begun. Answers to rounds that
    /// were given up are ignored.
    pub(super) fn confirm(&mut self, context: &[u8], index: LogIndex) -> Option<Instant> {
        let round = self
            .in_flight
            .take_if(|round| context == round.id.to_le_bytes())?;
        self.newest = Some((round.asked, index));
        self.confirmed.push_back((index, round.reads));
        Some(round.asked)
    }

    /// The reads that may be answered once everything up to `handed_out` is
    /// applied.
    pub(super) fn take_reached(&mut self, handed_out: LogIndex) -> VecDeque<WaitingRead> {
        let mut reached = VecDeque::new();
        while self
            .confirmed
            .front()
            .is_some_and(|(index, _)| *index <= handed_out)
        {
            if let Some((_, reads)) = self.confirmed.pop_front() {
                reached.extend(reads);
            }
        }
        reached
    }

    /// Fails the reads that have waited since before `tick`.
    pub(super) fn expire(&mut self, tick: u64) {
        fn expire(reads: &mut Vec<WaitingRead>, tick: u64) {
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
        expire(&mut self.leased, tick);
        if let Some(round) = &mut self.in_flight {
            expire(&mut round.reads, tick);
            if round.reads.is_empty() {
                self.in_flight = None;
            }
        }
        for (_, reads) in &mut self.confirmed {
            expire(reads, tick);
        }
        self.confirmed.retain(|(_, reads)| !reads.is_empty());
    }

    /// Takes out everybody.
    pub(super) fn take_all(&mut self) -> Vec<PendingRead> {
        let in_flight = self.in_flight.take().map(|round| round.reads);
        let confirmed = self.confirmed.drain(..).flat_map(|(_, reads)| reads);
        std::mem::take(&mut self.gathering)
            .into_iter()
            .chain(std::mem::take(&mut self.leased))
            .chain(in_flight.into_iter().flatten())
            .chain(confirmed)
            .map(|(read, _)| read)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test(start_paused = true)]
    async fn a_read_waits_until_what_it_was_confirmed_with_is_handed_out() {
        let mut reads = Reads::new(7);
        let (reply, _answer) = oneshot::channel();
        reads.push(PendingRead::Barrier { reply }, Freshness::Confirmed, 0);
        let context = reads.start_round(0).expect("somebody asks");
        assert!(reads.confirm(&context, LogIndex::new(9)).is_some());
        assert!(reads.take_reached(LogIndex::new(8)).is_empty());
        assert_eq!(reads.take_reached(LogIndex::new(9)).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_a_round_that_was_given_up_confirms_nothing() {
        let mut reads = Reads::new(7);
        let (reply, _answer) = oneshot::channel();
        reads.push(PendingRead::Barrier { reply }, Freshness::Confirmed, 0);
        let late = reads.start_round(0).expect("somebody asks");
        reads.abandon_round();
        let context = reads.start_round(1).expect("it still waits");
        assert!(reads.confirm(&late, LogIndex::new(3)).is_none());
        assert!(reads.take_reached(LogIndex::new(3)).is_empty());
        assert!(reads.confirm(&context, LogIndex::new(5)).is_some());
        assert_eq!(reads.take_reached(LogIndex::new(5)).len(), 1);
    }
}

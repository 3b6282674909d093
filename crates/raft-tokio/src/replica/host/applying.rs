//! # How far applying is
//!
//! Takes the state machine's reports, and decides whether the next one is to
//! wake the loop. A state machine that finishes nothing is noticed here; what it
//! costs is bounded in `backlog.rs`.
//!
//! - Owns: when the state machine last finished something.
//! - Reads: reports.
//! - Emits: receipts to the core; that a snapshot was read; what the view of the
//!   log may let go.

use std::time::Duration;

use super::{Node, ReplicaHost};
use crate::replica::reports::{Untaken, Wanted};
use crate::replica::request::Event;

/// Whether the state machine keeps up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum MachineState {
    #[default]
    Working,
    /// It has finished nothing for an election timeout.
    Stalled,
}

/// How the state machine gets on.
#[derive(Debug, Default)]
pub(super) struct Applying {
    /// The tick in which it last finished something, or had nothing to do.
    done_tick: u64,
    machine: MachineState,
}

impl ReplicaHost {
    pub(super) fn watch_machine(&mut self, node: &mut Node, now: u64) {
        self.take_reports(node);
        if self.applied >= self.handed_out {
            self.applying.done_tick = now;
        }
        let quiet = now.saturating_sub(self.applying.done_tick);
        let is_stalled = quiet >= u64::from(self.config.election_ticks);
        match self.applying.machine {
            MachineState::Working if is_stalled => {
                self.applying.machine = MachineState::Stalled;
                tracing::warn!(node = %node.id(), term = %node.term(), ticks = quiet,
                    applied = %self.applied, handed_out = %self.handed_out,
                    "the state machine has finished nothing for an election timeout");
            }
            MachineState::Stalled if !is_stalled => {
                self.applying.machine = MachineState::Working;
                tracing::info!(node = %node.id(), term = %node.term(), applied = %self.applied,
                    "the state machine works again");
            }
            MachineState::Working | MachineState::Stalled => {}
        }
    }

    /// For how long the state machine has finished nothing, if that is longer
    /// than an election timeout.
    pub(super) fn apply_stall(&self) -> Option<Duration> {
        let quiet = self.now().saturating_sub(self.applying.done_tick);
        // What it has finished since the last tick counts at once.
        let is_stalled = quiet >= u64::from(self.config.election_ticks);
        is_stalled.then(|| self.ticks_to_time(quiet))
    }

    pub(super) fn take_reports(&mut self, node: &mut Node) {
        self.reports.take(&mut self.reported);
        if self.reported.is_empty() {
            return;
        }
        self.applying.done_tick = self.now();
        for batch in self.reported.drain(..) {
            self.applied = self.applied.max(batch.index);
            self.snapshots.on_applied(batch.index);
            self.waiters.keep_lists(batch.lists);
            if let Some(receipt) = batch.receipt {
                // A node that has halted ends the loop with the next turn.
                let _ = node.applied(receipt);
            }
        }
        node.storage_mut().applied_to(self.applied);
        self.snapshot_if_due();
    }

    /// Says whether something waits for the next report: entries that are
    /// committed and were not handed out, clients in front of a full log, a
    /// configuration that is to be left, a shutdown, or somebody who watches.
    pub(super) fn want_reports(&self, node: &Node) {
        let is_awaited = self.applied < self.handed_out
            && (node.commit_index() > self.handed_out
                || self.drain_until.is_some()
                || self.is_overloaded(node)
                || node.membership().is_joint()
                || self.status.receiver_count() > 0);
        let wanted = if is_awaited {
            Wanted::AtOnce
        } else {
            Wanted::NextTurn
        };
        if self.reports.want(wanted) == Untaken::Some && is_awaited {
            // It came before anybody was told to wake the loop.
            let _ = self.events.send(Event::Applied);
        }
    }
}

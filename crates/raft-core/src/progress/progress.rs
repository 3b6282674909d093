//! # The progress of one follower
//!
//! How far its log matches and how the leader sends to it: one message at a
//! time while it looks for the match (`Probe`), a stream once it has found it
//! (`Replicate`), nothing while a snapshot is on its way (`Snapshot`).
//!
//! ```text
//!            ack                       unreachable, rejected
//!   Probe ────────► Replicate   Replicate ────────► Probe
//!     │                            │
//!     └──────── log compacted ─────┴──► Snapshot ── reported, or ack that
//!                                                   reconnects ──► Probe
//! ```
//!
//! - Owns: one follower's match, next and flow.
//! - Source: Raft Fig. 2, §5.3; thesis §10.2.1; etcd `tracker.Progress`.

use super::{InflightLimits, Inflights};
use crate::types::LogIndex;

/// How the leader sends to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// One message at a time, until one is accepted.
    Probe,
    /// A stream of messages, within the inflight limits.
    Replicate,
    /// Nothing, until the snapshot at `pending` has arrived or failed.
    Snapshot {
        /// The index of the snapshot; `None` once it was reported as failed.
        pending: Option<LogIndex>,
    },
}

/// What the leader knows of one follower.
///
/// # Invariants
/// - `matched < next`.
/// - `Flow::Snapshot` ⇒ `next` is one after the snapshot when it began.
#[derive(Clone, Debug)]
pub struct Progress {
    pub(super) matched: LogIndex,
    next: LogIndex,
    /// The largest commit index sent since the last reset of the flow.
    sent_commit: LogIndex,
    flow: Flow,
    /// Set by a probe or by a full window, cleared by an answer.
    paused: bool,
    heard: Heard,
    pub(super) is_learner: bool,
    inflights: Inflights,
}

/// In which periods between two checks of the quorum a member was heard of.
#[derive(Clone, Copy, Debug)]
struct Heard {
    now: bool,
    before: bool,
}

impl Heard {
    const NOW: Self = Self {
        now: true,
        before: true,
    };
}

/// A copy of what the leader knows of one follower, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a report, whose facts are independent"
)]
pub struct ProgressState {
    /// The last index known to match the leader's log.
    pub matched: LogIndex,
    /// The next index to send.
    pub next: LogIndex,
    /// How the leader sends.
    pub flow: Flow,
    /// Whether nothing is sent for now.
    pub paused: bool,
    /// Whether the follower was heard of since the last check of the quorum.
    pub recent_active: bool,
    /// Whether it was not heard of for a whole period between two checks, and not
    /// since.
    pub is_silent: bool,
    /// Whether the follower is a learner.
    pub is_learner: bool,
    /// How many append messages are in flight.
    pub inflight_messages: usize,
    /// How many bytes of entry data are in flight.
    pub inflight_bytes: u64,
    /// Whether the inflight window is full.
    pub inflight_full: bool,
}

impl Progress {
    fn new(next: LogIndex, limits: InflightLimits) -> Self {
        Self {
            matched: LogIndex::ZERO,
            next,
            sent_commit: LogIndex::ZERO,
            flow: Flow::Probe,
            paused: false,
            // Nobody has been waited for yet.
            heard: Heard {
                now: false,
                before: true,
            },
            is_learner: false,
            inflights: Inflights::new(limits),
        }
    }

    /// A member as a new leader sees it: probing starts at the end of the
    /// leader's log, and the member has to show that it is there.
    pub fn at_election(last_index: LogIndex, limits: InflightLimits, is_learner: bool) -> Self {
        Self {
            is_learner,
            ..Self::new(last_index.next(), limits)
        }
    }

    /// A member that has just joined. It counts as active, so that the next
    /// check of the quorum does not depose the leader before it could answer.
    pub fn joining(last_index: LogIndex, limits: InflightLimits) -> Self {
        Self {
            heard: Heard::NOW,
            ..Self::new(last_index.max(LogIndex::new(1)), limits)
        }
    }

    /// The leader's own. It counts its whole log as matched, even what is not
    /// durable yet. That is safe: nothing commits before an entry of the new
    /// term does, and the leader's own answer for that one waits for its disk.
    pub fn of_leader(last_index: LogIndex, limits: InflightLimits) -> Self {
        Self {
            matched: last_index,
            flow: Flow::Replicate,
            heard: Heard::NOW,
            ..Self::new(last_index.next(), limits)
        }
    }

    /// The last index known to match the leader's log.
    pub fn matched(&self) -> LogIndex {
        self.matched
    }

    /// The next index to send.
    pub fn next(&self) -> LogIndex {
        self.next
    }

    /// How the leader sends.
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// Whether the member is a learner.
    pub fn is_learner(&self) -> bool {
        self.is_learner
    }

    /// Whether the member was heard of since the last check of the quorum.
    pub fn recent_active(&self) -> bool {
        self.heard.now
    }

    /// Records that the member was heard of.
    pub fn record_active(&mut self) {
        self.heard.now = true;
    }

    /// Begins a period in which the member has to be heard of anew.
    pub fn begin_period(&mut self) {
        self.heard = Heard {
            now: false,
            before: self.heard.now,
        };
    }

    /// A copy for people.
    pub fn state(&self) -> ProgressState {
        ProgressState {
            matched: self.matched,
            next: self.next,
            flow: self.flow,
            paused: self.is_paused(),
            recent_active: self.heard.now,
            is_silent: !self.heard.now && !self.heard.before,
            is_learner: self.is_learner,
            inflight_messages: self.inflights.len(),
            inflight_bytes: self.inflights.bytes(),
            inflight_full: self.inflights.is_full(),
        }
    }

    /// Whether nothing may be sent for now.
    pub fn is_paused(&self) -> bool {
        match self.flow {
            Flow::Probe | Flow::Replicate => self.paused,
            Flow::Snapshot { .. } => true,
        }
    }

    /// Whether a message may carry entries. A full window lets only empty
    /// messages through, which find out whether the full ones were lost.
    pub fn can_carry_entries(&self) -> bool {
        self.flow != Flow::Replicate || !self.inflights.is_full()
    }

    fn reset(&mut self, flow: Flow) {
        self.paused = false;
        self.flow = flow;
        self.inflights.clear();
    }

    /// Goes back to one message at a time. After a snapshot that arrived,
    /// probing starts behind it.
    pub fn become_probe(&mut self) {
        let after_snapshot = match self.flow {
            Flow::Snapshot {
                pending: Some(pending),
            } => pending.next(),
            Flow::Snapshot { pending: None } | Flow::Probe | Flow::Replicate => LogIndex::ZERO,
        };
        self.reset(Flow::Probe);
        self.next = self.matched.next().max(after_snapshot);
        self.sent_commit = self.sent_commit.min(self.next.prev());
    }

    /// Starts to stream from the match.
    pub fn become_replicate(&mut self) {
        self.reset(Flow::Replicate);
        self.next = self.matched.next();
    }

    /// Waits for the snapshot at `pending`.
    pub fn become_snapshot(&mut self, pending: LogIndex) {
        self.reset(Flow::Snapshot {
            pending: Some(pending),
        });
        self.next = pending.next();
        self.sent_commit = pending;
    }

    /// The snapshot on its way was lost: probing starts at the match.
    pub fn snapshot_failed(&mut self) {
        if let Flow::Snapshot { pending } = &mut self.flow {
            *pending = None;
        }
    }

    /// Waits for an answer before anything else is sent.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Lets one more message out after an answer.
    pub fn unpause(&mut self) {
        self.paused = false;
    }

    /// Records that `entries` entries with `bytes` of data were sent.
    pub fn sent_entries(&mut self, entries: u64, bytes: u64) {
        match self.flow {
            Flow::Replicate => {
                if entries > 0 {
                    self.next = self.next.plus(entries);
                    self.inflights.add(self.next.prev(), bytes);
                }
                // A full window pauses the stream; what goes out until it opens
                // is a probe.
                self.paused = self.inflights.is_full();
            }
            Flow::Probe => {
                // An empty probe does not pause (etcd keeps this for the order
                // of messages that its users know).
                if entries > 0 {
                    self.paused = true;
                }
            }
            Flow::Snapshot { .. } => {}
        }
    }

    /// Whether a message with `commit` could move the follower's commit index.
    pub fn can_bump_commit(&self, commit: LogIndex) -> bool {
        // What was sent already moves it to `next - 1` at most.
        commit > self.sent_commit && self.sent_commit < self.next.prev()
    }

    /// Records the commit index that was sent.
    pub fn sent_commit(&mut self, commit: LogIndex) {
        self.sent_commit = commit;
    }

    /// Takes an acknowledgement of `index`. Whether it said anything new.
    pub fn acknowledge(&mut self, index: LogIndex) -> bool {
        if index <= self.matched {
            return false;
        }
        self.matched = index;
        self.next = self.next.max(index.next());
        self.paused = false;
        true
    }

    /// Takes a rejection of the message that began after `rejected`, with the
    /// follower's guess at a match. Whether it said anything new: stale and
    /// repeated rejections do not.
    pub fn reject(&mut self, rejected: LogIndex, hint: LogIndex) -> bool {
        if self.flow == Flow::Replicate {
            // The match only grows, so a rejection below it is an old one.
            if rejected <= self.matched {
                return false;
            }
            self.next = self.matched.next();
            self.sent_commit = self.sent_commit.min(self.next.prev());
            return true;
        }
        // Probes go out one at a time: any other index is an old answer.
        if self.next.prev() != rejected {
            return false;
        }
        self.next = rejected.min(hint.next()).max(self.matched.next());
        self.sent_commit = self.sent_commit.min(self.next.prev());
        self.paused = false;
        true
    }

    /// Whether the invariants of the window hold.
    pub fn inflights_are_sound(&self) -> bool {
        self.inflights.is_sound()
    }

    /// Opens the window for everything up to `acked`.
    pub fn free_inflights_to(&mut self, acked: LogIndex) {
        self.inflights.free_to(acked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: InflightLimits = InflightLimits {
        messages_max: 1,
        bytes_max: u64::MAX,
    };

    #[test]
    fn who_is_not_heard_of_for_a_whole_period_is_silent() {
        let mut member = Progress::at_election(LogIndex::ZERO, LIMITS, false);
        assert!(!member.state().is_silent, "nobody has waited yet");
        member.begin_period();
        assert!(member.state().is_silent);
        member.record_active();
        assert!(!member.state().is_silent);
        // It is to be heard of anew, and has a period for that.
        member.begin_period();
        assert!(!member.state().recent_active && !member.state().is_silent);
        member.begin_period();
        assert!(member.state().is_silent);
    }
}

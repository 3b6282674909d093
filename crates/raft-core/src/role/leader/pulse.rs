//! # The pulse
//!
//! What a leader does as time passes: heartbeats, the check that a quorum is
//! still there, the end of a transfer that takes too long.
//!
//! - Owns: the heartbeat counter. Changes: the election timer, which measures
//!   the leader's periods.
//! - Emits: heartbeats.
//! - Source: Raft §5.2; thesis §6.2, §3.10; etcd `tickHeartbeat`,
//!   `bcastHeartbeat`, `MsgCheckQuorum`.

use bytes::Bytes;

use super::Leader;
use crate::common::Common;
use crate::role::Next;
use crate::storage::Storage;
use crate::types::Body;

impl Leader {
    /// One tick has passed.
    pub(crate) fn tick<S: Storage>(&mut self, common: &mut Common<S>) -> Next {
        self.heartbeat_elapsed = self.heartbeat_elapsed.saturating_add(1);
        common.timer.tick();
        if common.timer.is_past_election_timeout() {
            common.timer.restart();
            if common.config.check_quorum && !self.begin_quorum_period(common) {
                return Next::StepDown;
            }
            // A transfer that is not done by now has failed: lead on.
            self.abort_transfer();
        }
        if self.heartbeat_elapsed >= common.config.heartbeat_ticks {
            self.heartbeat_elapsed = 0;
            let context = self.reads.current_round();
            self.broadcast_heartbeat(common, &context);
        }
        Next::Stay
    }

    /// Whether a quorum was heard of in the period that ends now. Everybody has
    /// to be heard of anew in the next.
    fn begin_quorum_period<S: Storage>(&mut self, common: &Common<S>) -> bool {
        let active = self.followers.quorum_is_active(&common.membership);
        for (id, progress) in self.followers.iter_mut() {
            if id != common.id() {
                progress.begin_period();
            }
        }
        active
    }

    /// Tells everybody that the leader is alive. The commit index that goes
    /// with it is never more than the follower is known to have: behind that,
    /// its log may still be another one.
    pub(super) fn broadcast_heartbeat<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        context: &Bytes,
    ) {
        let own = common.id();
        let committed = common.log.committed();
        for (id, progress) in self.followers.iter_mut() {
            if id == own {
                continue;
            }
            let commit = progress.matched().min(committed);
            common.send(
                id,
                Body::Heartbeat {
                    commit,
                    context: context.clone(),
                },
            );
            progress.sent_commit(commit);
        }
    }
}

//! # Notices
//!
//! An append without entries tells a follower how far the log is committed. The
//! next append with entries says the same, and under load it is made a moment
//! later. So a notice waits until there is nothing else to do, or until something
//! else goes to the same follower; then one wake and one packet serve both.
//!
//! - Owns: the notices that wait, one per follower.
//! - Source: Raft §5.3 (the commit index travels with every `AppendEntries`).

use raft_core::{Body, Message};

use super::ReplicaHost;
use crate::transport::Packet;

/// The notices that wait.
#[derive(Debug, Default)]
pub(super) struct Notices {
    held: Vec<Message>,
}

impl Notices {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Keeps a notice, in place of an older one for the same follower.
    fn hold(&mut self, notice: Message) {
        self.take_for(&notice);
        self.held.push(notice);
    }

    /// The notice for whoever gets `message`, which is about to be sent.
    fn take_for(&mut self, message: &Message) -> Option<Message> {
        let place = self.held.iter().position(|held| held.to == message.to)?;
        Some(self.held.swap_remove(place))
    }
}

fn is_notice(message: &Message) -> bool {
    matches!(&message.body, Body::Append { entries, .. } if entries.is_empty())
}

/// Whether `message` says all that the notice before it would have said.
fn says_as_much(message: &Message, notice: &Message) -> bool {
    match (&message.body, &notice.body) {
        (Body::Append { commit, .. }, Body::Append { commit: known, .. }) => {
            message.term == notice.term && commit >= known
        }
        _ => false,
    }
}

impl ReplicaHost {
    pub(super) fn send(&mut self, message: Message) {
        if is_notice(&message) {
            self.notices.hold(message);
            return;
        }
        if let Some(notice) = self.notices.take_for(&message)
            && !says_as_much(&message, &notice)
        {
            self.transport.send(notice.to, Packet::Raft(notice));
        }
        self.transport.send(message.to, Packet::Raft(message));
    }

    /// Sends every notice now. They go out when the turn ends.
    pub(super) fn send_notices(&mut self) {
        for notice in self.notices.held.drain(..) {
            self.transport.send(notice.to, Packet::Raft(notice));
        }
    }
}

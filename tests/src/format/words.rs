//! # Entries, configurations and states in etcd's words
//!
//! - Owns: nothing.
//! - Source: etcd `DescribeEntry`, `DescribeConfState`, `DescribeSnapshot`,
//!   `DescribeSoftState`, `DescribeHardState`, `tracker.Progress`.

use std::fmt::Write as _;

use raft_core::{
    ConfChangeType, ConfState, Entries, Entry, EntryType, Flow, HardState, NodeId, ProgressState,
    Proposal, ReadState, RoleKind, Snapshot, SoftState,
};

/// A log entry.
pub fn entry(entry: &Entry) -> String {
    let (term, index) = (entry.term(), entry.index());
    let what = payload(entry.entry_type(), &entry.clone().into_data());
    format!("{term}/{index} {what}")
}

pub(super) fn proposal(proposal: &Proposal) -> String {
    format!("0/0 {}", payload(proposal.entry_type, &proposal.data))
}

fn payload(entry_type: EntryType, data: &bytes::Bytes) -> String {
    let name = match entry_type {
        EntryType::Normal => return format!("EntryNormal {}", quoted(data)),
        EntryType::ConfChange => "EntryConfChange",
        EntryType::ConfChangeV2 => "EntryConfChangeV2",
    };
    let proposal = Proposal {
        entry_type,
        data: data.clone(),
    };
    let changes = match proposal.conf_change() {
        Ok(change) => change.map(|change| change.changes).unwrap_or_default(),
        Err(error) => return format!("{name} {error}"),
    };
    let mut text = name.to_owned();
    for change in changes {
        let letter = match change.change_type {
            ConfChangeType::AddNode => 'v',
            ConfChangeType::RemoveNode => 'r',
            ConfChangeType::UpdateNode => 'u',
            ConfChangeType::AddLearnerNode => 'l',
        };
        let id = change.node_id.map_or(0, NodeId::get);
        let _ = write!(text, " {letter}{id}");
    }
    text
}

/// Bytes as Go's `%q` prints them.
fn quoted(data: &[u8]) -> String {
    let mut text = String::from('"');
    for chunk in data.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                c if c.is_ascii_control() => {
                    let _ = write!(text, "\\x{:02x}", u32::from(c));
                }
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

/// Entries, a line for each.
pub fn entries(entries: &Entries) -> String {
    entries.iter().fold(String::new(), |mut text, one| {
        let _ = writeln!(text, "{}", entry(one));
        text
    })
}

fn ids(ids: &[NodeId]) -> String {
    let ids: Vec<String> = ids.iter().map(NodeId::to_string).collect();
    ids.join(" ")
}

fn conf_state(state: &ConfState) -> String {
    let ConfState {
        voters,
        learners,
        voters_outgoing,
        learners_next,
        auto_leave,
    } = state;
    format!(
        "Voters:[{}] VotersOutgoing:[{}] Learners:[{}] LearnersNext:[{}] AutoLeave:{auto_leave}",
        ids(voters),
        ids(voters_outgoing),
        ids(learners),
        ids(learners_next),
    )
}

pub(super) fn snapshot(snapshot: &Snapshot) -> String {
    let meta = &snapshot.metadata;
    format!(
        "Index:{} Term:{} ConfState:{}",
        meta.index,
        meta.term,
        conf_state(&meta.conf_state)
    )
}

/// A role's name.
pub fn role(role: RoleKind) -> &'static str {
    match role {
        RoleKind::Follower => "StateFollower",
        RoleKind::PreCandidate => "StatePreCandidate",
        RoleKind::Candidate => "StateCandidate",
        RoleKind::Leader => "StateLeader",
    }
}

pub(super) fn soft_state(state: SoftState) -> String {
    let leader = state.leader.map_or(0, NodeId::get);
    format!("Lead:{leader} State:{}", role(state.role))
}

pub(super) fn hard_state(state: HardState) -> String {
    let HardState { term, vote, commit } = state;
    match vote {
        Some(vote) => format!("Term:{term} Vote:{vote} Commit:{commit}"),
        None => format!("Term:{term} Commit:{commit}"),
    }
}

pub(super) fn read_states(states: &[ReadState]) -> String {
    let states: Vec<String> = states
        .iter()
        .map(|state| {
            let context: Vec<String> = state.context.iter().map(u8::to_string).collect();
            format!("{{{} [{}]}}", state.index, context.join(" "))
        })
        .collect();
    format!("[{}]", states.join(" "))
}

/// What a leader knows of one member.
pub fn progress(id: NodeId, state: &ProgressState) -> String {
    let flow = match state.flow {
        Flow::Probe => "StateProbe",
        Flow::Replicate => "StateReplicate",
        Flow::Snapshot { .. } => "StateSnapshot",
    };
    let mut text = format!("{id}: {flow} match={} next={}", state.matched, state.next);
    if state.is_learner {
        text.push_str(" learner");
    }
    if state.paused {
        text.push_str(" paused");
    }
    if let Flow::Snapshot {
        pending: Some(pending),
    } = state.flow
    {
        let _ = write!(text, " pendingSnap={pending}");
    }
    if !state.recent_active {
        text.push_str(" inactive");
    }
    if state.inflight_messages > 0 {
        let _ = write!(text, " inflight={}", state.inflight_messages);
        if state.inflight_full {
            text.push_str("[full]");
        }
    }
    text
}

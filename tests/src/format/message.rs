//! # Messages and work in etcd's words
//!
//! - Owns: nothing.
//! - Source: etcd `DescribeMessage`.

use std::fmt::Write as _;

use raft_core::{
    AppendOutcome, AppendResponse, Body, Entries, EntryId, LogIndex, Message, NodeId, Proposal,
    ReceiptKind, Round, Snapshot, StorageAppend, StorageApply, Term, VoteResponse,
};

use super::words::{self, entry, proposal};
use crate::environment::{Letter, ThreadName};

/// A message as it is printed, wherever it came from.
#[derive(Debug, Default)]
pub(super) struct Described {
    from: String,
    to: String,
    kind: &'static str,
    term: Term,
    log: EntryId,
    rejected_hint: Option<LogIndex>,
    commit: LogIndex,
    vote: Option<NodeId>,
    entries: Vec<String>,
    snapshot: Option<String>,
    responses: Vec<Described>,
}

impl Described {
    fn print(&self, indent: &str, out: &mut String) {
        let Self {
            from,
            to,
            kind,
            term,
            log,
            ..
        } = self;
        let _ = write!(
            out,
            "{indent}{from}->{to} {kind} Term:{term} Log:{}/{}",
            log.term, log.index
        );
        if let Some(hint) = self.rejected_hint {
            let _ = write!(out, " Rejected (Hint: {hint})");
        }
        if self.commit > LogIndex::ZERO {
            let _ = write!(out, " Commit:{}", self.commit);
        }
        if let Some(vote) = self.vote {
            let _ = write!(out, " Vote:{vote}");
        }
        match &self.entries[..] {
            [] => {}
            [entry] => {
                let _ = write!(out, " Entries:[{entry}]");
            }
            entries => {
                out.push_str(" Entries:[");
                for entry in entries {
                    let _ = write!(out, "\n{indent}  {entry}");
                }
                let _ = write!(out, "\n{indent}]");
            }
        }
        if let Some(snapshot) = &self.snapshot {
            let _ = write!(out, "\n{indent}  Snapshot: {snapshot}");
        }
        if !self.responses.is_empty() {
            out.push_str(" Responses:[");
            for response in &self.responses {
                out.push('\n');
                response.print(&format!("{indent}  "), out);
            }
            let _ = write!(out, "\n{indent}]");
        }
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.print("", &mut out);
        out
    }
}

fn target(id: NodeId) -> String {
    format!("{:x}", id.get())
}

/// The name of a message's kind, as scripts filter by it.
pub fn message_kind(body: &Body) -> &'static str {
    match body {
        Body::Propose { .. } => "MsgProp",
        Body::Append { .. } => "MsgApp",
        Body::AppendResponse(_) => "MsgAppResp",
        Body::RequestVote { round, .. } => match round {
            Round::PreVote => "MsgPreVote",
            Round::Vote => "MsgVote",
        },
        Body::VoteResponse { round, .. } => vote_response_kind(*round),
        Body::Snapshot(_) => "MsgSnap",
        Body::Heartbeat { .. } => "MsgHeartbeat",
        Body::HeartbeatResponse { .. } => "MsgHeartbeatResp",
        Body::TransferLeader => "MsgTransferLeader",
        Body::TimeoutNow => "MsgTimeoutNow",
        Body::ReadIndex { .. } => "MsgReadIndex",
        Body::ReadIndexResponse { .. } => "MsgReadIndexResp",
        Body::ForgetLeader => "MsgForgetLeader",
    }
}

fn vote_response_kind(round: Round) -> &'static str {
    match round {
        Round::PreVote => "MsgPreVoteResp",
        Round::Vote => "MsgVoteResp",
    }
}

pub(super) fn describe_message(message: &Message) -> Described {
    let mut described = Described {
        from: target(message.from),
        to: target(message.to),
        kind: message_kind(&message.body),
        term: message.term,
        ..Described::default()
    };
    match &message.body {
        Body::Propose { proposals } => {
            described.entries = proposals.iter().map(proposal).collect();
        }
        Body::Append {
            prev,
            entries,
            commit,
        } => {
            described.log = *prev;
            described.entries = entries.iter().map(entry).collect();
            described.commit = *commit;
        }
        Body::AppendResponse(AppendResponse::Accepted { matched }) => {
            described.log.index = *matched;
        }
        Body::AppendResponse(AppendResponse::Rejected { at, hint }) => {
            described.log = EntryId::new(hint.term, *at);
            described.rejected_hint = Some(hint.index);
        }
        Body::RequestVote { last, .. } => described.log = *last,
        Body::VoteResponse { vote, .. } => {
            if *vote == VoteResponse::Rejected {
                described.rejected_hint = Some(LogIndex::ZERO);
            }
        }
        Body::Snapshot(snapshot) => described.snapshot = printed_snapshot(snapshot),
        Body::Heartbeat { commit, .. } => described.commit = *commit,
        Body::ReadIndex { context } => described.entries = vec![read_entry(context)],
        Body::ReadIndexResponse { index, context } => {
            described.log.index = *index;
            described.entries = vec![read_entry(context)];
        }
        Body::HeartbeatResponse { .. }
        | Body::TransferLeader
        | Body::TimeoutNow
        | Body::ForgetLeader => {}
    }
    described
}

fn read_entry(context: &bytes::Bytes) -> String {
    proposal(&Proposal::normal(context.clone()))
}

fn printed_snapshot(snapshot: &Snapshot) -> Option<String> {
    (!snapshot.is_empty()).then(|| words::snapshot(snapshot))
}

fn describe_receipt(node: NodeId, kind: ReceiptKind<'_>) -> Described {
    let id = target(node);
    let from_self = Described {
        from: id.clone(),
        to: id.clone(),
        ..Described::default()
    };
    match kind {
        ReceiptKind::OwnAppend { term, index } => Described {
            kind: "MsgAppResp",
            term,
            log: EntryId::new(Term::ZERO, index),
            ..from_self
        },
        ReceiptKind::OwnVote { round, term } => Described {
            kind: vote_response_kind(round),
            term,
            ..from_self
        },
        ReceiptKind::Stable {
            term,
            last,
            snapshot,
        } => Described {
            from: ThreadName::Append.to_string(),
            to: id,
            kind: "MsgStorageAppendResp",
            term,
            log: last.unwrap_or_default(),
            snapshot: snapshot.and_then(printed_snapshot),
            ..Described::default()
        },
    }
}

fn describe_applied(node: NodeId, entries: &Entries) -> Described {
    Described {
        from: ThreadName::Apply.to_string(),
        to: target(node),
        kind: "MsgStorageApplyResp",
        entries: entries.iter().map(entry).collect(),
        ..Described::default()
    }
}

fn describe_letter(letter: &Letter) -> Described {
    match letter {
        Letter::Peer(message) => describe_message(message),
        Letter::Written { node, receipt } => describe_receipt(*node, receipt.kind()),
        Letter::Applied { node, entries, .. } => describe_applied(*node, entries),
    }
}

pub(super) fn describe_append(node: NodeId, append: &StorageAppend) -> Described {
    let hard_state = append.hard_state.unwrap_or_default();
    Described {
        from: target(node),
        to: ThreadName::Append.to_string(),
        kind: "MsgStorageAppend",
        term: hard_state.term,
        commit: hard_state.commit,
        vote: hard_state.vote,
        entries: append.entries.iter().map(entry).collect(),
        snapshot: append.snapshot.as_ref().and_then(printed_snapshot),
        responses: append
            .responses
            .iter()
            .map(|outcome| match outcome {
                AppendOutcome::Send(message) => describe_message(message),
                AppendOutcome::Receipt(receipt) => describe_receipt(node, receipt.kind()),
            })
            .collect(),
        ..Described::default()
    }
}

pub(super) fn describe_apply(node: NodeId, apply: &StorageApply) -> Described {
    Described {
        from: target(node),
        to: ThreadName::Apply.to_string(),
        kind: "MsgStorageApply",
        entries: apply.entries.iter().map(entry).collect(),
        responses: vec![describe_applied(node, &apply.entries)],
        ..Described::default()
    }
}

/// Something that is on its way to a node.
pub fn letter(letter: &Letter) -> String {
    describe_letter(letter).text()
}

/// The name of a letter's kind, as scripts filter by it.
pub fn letter_kind(letter: &Letter) -> &'static str {
    describe_letter(letter).kind
}

/// Work of the append thread, without what follows from it.
pub fn append_work(node: NodeId, append: &StorageAppend) -> String {
    Described {
        responses: Vec::new(),
        ..describe_append(node, append)
    }
    .text()
}

/// Work of the apply thread, without what follows from it.
pub fn apply_work(node: NodeId, apply: &StorageApply) -> String {
    Described {
        responses: Vec::new(),
        ..describe_apply(node, apply)
    }
    .text()
}

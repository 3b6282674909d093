//! # Etcd's text
//!
//! Messages, Readys and progress in the words of etcd-raft's tests, which the
//! scenarios are written in. Errors are typed in the core; only here do they get
//! the reference's sentences.
//!
//! - Owns: nothing.
//! - Source: etcd `util.go` (`Describe*`), `tracker.Progress`.

use std::fmt::Write as _;

use raft_core::{
    AppendOutcome, AppendResponse, Body, ConfChangeError, ConfChangeType, ConfState, Entries,
    Entry, EntryId, EntryType, Flow, HardState, LogIndex, MemoryStorageError, Message, NodeId,
    ProgressState, Proposal, ProposeError, ReadState, Ready, ReceiptKind, RoleKind, Round,
    Snapshot, SoftState, StepError, StorageAppend, StorageApply, StorageWrites, Term, VoteResponse,
};

use crate::environment::{Letter, ThreadName};

/// A message as it is printed, wherever it came from.
#[derive(Debug, Default)]
struct Described {
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

    fn text(&self) -> String {
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

fn describe_message(message: &Message) -> Described {
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
    (!snapshot.is_empty()).then(|| self::snapshot(snapshot))
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

fn describe_append(node: NodeId, append: &StorageAppend) -> Described {
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

fn describe_apply(node: NodeId, apply: &StorageApply) -> Described {
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

/// A log entry.
pub fn entry(entry: &Entry) -> String {
    let (term, index) = (entry.term(), entry.index());
    let what = payload(entry.entry_type(), &entry.clone().into_data());
    format!("{term}/{index} {what}")
}

fn proposal(proposal: &Proposal) -> String {
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

fn snapshot(snapshot: &Snapshot) -> String {
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

fn soft_state(state: SoftState) -> String {
    let leader = state.leader.map_or(0, NodeId::get);
    format!("Lead:{leader} State:{}", role(state.role))
}

fn hard_state(state: HardState) -> String {
    let HardState { term, vote, commit } = state;
    match vote {
        Some(vote) => format!("Term:{term} Vote:{vote} Commit:{commit}"),
        None => format!("Term:{term} Commit:{commit}"),
    }
}

fn read_states(states: &[ReadState]) -> String {
    let states: Vec<String> = states
        .iter()
        .map(|state| {
            let context: Vec<String> = state.context.iter().map(u8::to_string).collect();
            format!("{{{} [{}]}}", state.index, context.join(" "))
        })
        .collect();
    format!("[{}]", states.join(" "))
}

/// Everything a node wants done.
pub fn ready(node: NodeId, ready: &Ready, writes: StorageWrites) -> String {
    let mut text = String::new();
    if let Some(state) = ready.soft_state {
        let _ = writeln!(text, "{}", soft_state(state));
    }
    if let Some(state) = ready.hard_state() {
        let _ = writeln!(text, "HardState {}", hard_state(state));
    }
    if !ready.read_states.is_empty() {
        let _ = writeln!(text, "ReadStates {}", read_states(&ready.read_states));
    }
    if !ready.entries().is_empty() {
        let _ = write!(text, "Entries:\n{}", entries(&ready.entries()));
    }
    if let Some(snapshot) = ready.snapshot() {
        let _ = writeln!(text, "Snapshot {}", self::snapshot(snapshot));
    }
    if !ready.committed_entries().is_empty() {
        let committed = entries(&ready.committed_entries());
        let _ = write!(text, "CommittedEntries:\n{committed}");
    }
    let messages = ready_messages(node, ready, writes);
    if !messages.is_empty() {
        text.push_str("Messages:\n");
        for message in messages {
            let _ = writeln!(text, "{}", message.text());
        }
    }
    if text.is_empty() {
        return "<empty Ready>".to_owned();
    }
    format!("Ready MustSync={}:\n{text}", ready.must_sync)
}

/// Where writing is asynchronous, etcd sends the work to the storage threads as
/// messages. Else what waits for the write follows the other messages.
fn ready_messages(node: NodeId, ready: &Ready, writes: StorageWrites) -> Vec<Described> {
    let mut messages: Vec<Described> = ready.messages.iter().map(describe_message).collect();
    match writes {
        StorageWrites::Synchronous => {
            let append = ready.append.iter();
            for outcome in append.flat_map(|append| &append.responses) {
                if let AppendOutcome::Send(message) = outcome {
                    messages.push(describe_message(message));
                }
            }
        }
        StorageWrites::Asynchronous => {
            messages.extend(ready.append.iter().map(|work| describe_append(node, work)));
            messages.extend(ready.apply.iter().map(|work| describe_apply(node, work)));
        }
    }
    messages
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

/// Why a configuration change is refused.
pub fn conf_change_error(error: &ConfChangeError) -> String {
    match error {
        ConfChangeError::AlreadyJoint => "config is already joint".to_owned(),
        ConfChangeError::NotJoint => "can't leave a non-joint config".to_owned(),
        ConfChangeError::JointWithoutVoters => "can't make a zero-voter config joint".to_owned(),
        ConfChangeError::SimpleWhileJoint => {
            "can't apply simple config change in joint config".to_owned()
        }
        ConfChangeError::MoreThanOneVoter => {
            "more than one voter changed without entering joint config".to_owned()
        }
        ConfChangeError::NoVotersLeft => "removed all voters".to_owned(),
        other => other.to_string(),
    }
}

/// Why a proposal is refused: etcd has one error for every reason.
pub fn propose_error(error: &ProposeError) -> String {
    match error {
        ProposeError::Halted(halted) => halted.to_string(),
        ProposeError::Malformed(malformed) => malformed.to_string(),
        _ => "raft proposal dropped".to_owned(),
    }
}

/// Why a message is not taken.
pub fn step_error(error: &StepError) -> String {
    match error {
        StepError::PeerNotFound(_) => "raft: cannot step as peer not found".to_owned(),
        StepError::Propose(why) => propose_error(why),
        other => other.to_string(),
    }
}

/// Why the storage does not do what it is asked to.
pub fn storage_error(error: MemoryStorageError) -> String {
    match error {
        MemoryStorageError::Compacted => {
            "requested index is unavailable due to compaction".to_owned()
        }
        MemoryStorageError::SnapshotOutOfDate => {
            "requested index is older than the existing snapshot".to_owned()
        }
        other => other.to_string(),
    }
}

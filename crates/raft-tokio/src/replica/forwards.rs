//! # Forwarded requests
//!
//! A follower asks the leader to propose for its caller: one request, one
//! answer, one hop. A server that does not lead refuses, so nothing circulates.
//!
//! - Owns: who waits for which answer.

use std::collections::HashMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft_core::{EntryId, LogIndex, NodeId, Term};
use raft_wire::frame::ResponseOutcome;

use super::reply::{Applied, ProposeReply};
use crate::error::ProposeError;

#[derive(Debug)]
struct Forward {
    reply: ProposeReply,
    to: NodeId,
    /// The term in which it was asked.
    term: Term,
    since_tick: u64,
}

#[derive(Debug)]
pub(super) struct Forwards {
    waiting: HashMap<u64, Forward>,
    next_id: u64,
    /// The term of the leader of now, and since which tick it is known.
    led: (Term, u64),
    /// How many were not done, as far as is known.
    failed: u64,
}

impl Forwards {
    /// `seed` tells the requests of this process from those of an earlier one.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            waiting: HashMap::new(),
            next_id: seed,
            led: (Term::ZERO, 0),
            failed: 0,
        }
    }

    /// Records who waits for the answer of `to`, which leads in `term`; returns
    /// the request's number.
    pub(super) fn push(
        &mut self,
        reply: ProposeReply,
        to: NodeId,
        term: Term,
        since_tick: u64,
    ) -> u64 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let forward = Forward {
            reply,
            to,
            term,
            since_tick,
        };
        self.waiting.insert(id, forward);
        id
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// The leader has answered.
    pub(super) fn answer(&mut self, from: NodeId, id: u64, outcome: ResponseOutcome) {
        // Only whoever was asked may answer; late answers find nobody.
        if self
            .waiting
            .get(&id)
            .is_none_or(|forward| forward.to != from)
        {
            return;
        }
        if let Some(forward) = self.waiting.remove(&id) {
            let outcome = decode_outcome(outcome);
            self.failed += u64::from(outcome.is_err());
            // Whoever asked may have given up.
            let _ = forward.reply.send(outcome);
        }
    }

    /// Somebody leads in `term`, as of the tick `now`.
    pub(super) fn on_leader(&mut self, term: Term, now: u64) {
        if term > self.led.0 {
            self.led = (term, now);
        }
    }

    /// Ends the wait of everybody who has waited since before `tick`, and of
    /// everybody who asked an earlier leader than one that was known by
    /// `succeeded_by`: if that leader still lived, it would have heard of the
    /// other one and answered.
    pub(super) fn expire(&mut self, tick: u64, succeeded_by: u64) {
        let (term, since) = self.led;
        let is_over = |forward: &Forward| {
            forward.since_tick < tick
                || (since <= succeeded_by && forward.term < term)
                || forward.reply.is_closed()
        };
        let old: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, forward)| is_over(forward))
            .map(|(id, _)| *id)
            .collect();
        for id in old {
            if let Some(forward) = self.waiting.remove(&id) {
                self.failed += 1;
                let _ = forward.reply.send(Err(ProposeError::OutcomeUnknown));
            }
        }
    }

    /// Takes out everybody.
    pub(super) fn take_all(&mut self) -> Vec<ProposeReply> {
        self.waiting
            .drain()
            .map(|(_, forward)| forward.reply)
            .collect()
    }
}

/// The longest reply that is passed on: less than the longest packet that servers
/// take by default. What is longer would be dropped on its way.
const PASSED_ON_BYTES_MAX: usize = 56 << 20;

/// The reply follows.
const WHOLE: u8 = 0;
/// Its length follows.
const TOO_LONG: u8 = 1;

/// The reply of a command, with its place in the log.
pub(super) fn encode_reply(id: EntryId, reply: &Bytes) -> Bytes {
    let is_whole = reply.len() <= PASSED_ON_BYTES_MAX;
    let mut out = BytesMut::with_capacity(17 + if is_whole { reply.len() } else { 8 });
    out.put_u64_le(id.term.get());
    out.put_u64_le(id.index.get());
    if is_whole {
        out.put_u8(WHOLE);
        out.put_slice(reply);
    } else {
        out.put_u8(TOO_LONG);
        out.put_u64_le(u64::try_from(reply.len()).unwrap_or(u64::MAX));
    }
    out.freeze()
}

/// What [`encode_reply`] wrote; `None` if it is something else.
fn decode_reply(mut payload: Bytes) -> Option<Result<Applied, ProposeError>> {
    let term = Term::new(payload.try_get_u64_le().ok()?);
    let index = LogIndex::new(payload.try_get_u64_le().ok()?);
    match payload.try_get_u8().ok()? {
        WHOLE => Some(Ok(Applied {
            reply: payload,
            index,
            term,
        })),
        TOO_LONG => {
            let bytes = payload.try_get_u64_le().ok()?;
            Some(Err(ProposeError::ReplyTooLong { index, bytes }))
        }
        _ => None,
    }
}

fn decode_outcome(outcome: ResponseOutcome) -> Result<Applied, ProposeError> {
    match outcome {
        // A leader that answers something else has done who knows what.
        ResponseOutcome::Done { payload } => {
            decode_reply(payload).unwrap_or(Err(ProposeError::OutcomeUnknown))
        }
        ResponseOutcome::Refused { code, detail } => Err(decode_refusal(code, &detail)),
        // Unknown there, or said in a way that this version does not know.
        _ => Err(ProposeError::OutcomeUnknown),
    }
}

const NOT_LEADER: u32 = 1;
const QUOTA_EXCEEDED: u32 = 2;
const TRANSFER_IN_PROGRESS: u32 = 3;
const NOT_MEMBER: u32 = 4;
const SUPERSEDED: u32 = 5;
const STOPPED: u32 = 6;
const TOO_LARGE: u32 = 7;
const EMPTY: u32 = 8;

/// A refusal as it is sent to the server that asked.
pub(super) fn encode_outcome(error: &ProposeError) -> ResponseOutcome {
    let refused = |code, node: Option<NodeId>| ResponseOutcome::Refused {
        code,
        detail: node.map_or_else(Bytes::new, |id| {
            Bytes::copy_from_slice(&id.get().to_le_bytes())
        }),
    };
    match error {
        ProposeError::NotLeader { leader } => refused(NOT_LEADER, *leader),
        ProposeError::QuotaExceeded | ProposeError::QueueFull => refused(QUOTA_EXCEEDED, None),
        ProposeError::TransferInProgress { to } => refused(TRANSFER_IN_PROGRESS, Some(*to)),
        ProposeError::NotMember => refused(NOT_MEMBER, None),
        ProposeError::Superseded => refused(SUPERSEDED, None),
        ProposeError::Stopped(_) => refused(STOPPED, None),
        ProposeError::Empty => refused(EMPTY, None),
        ProposeError::TooLarge { bytes, bytes_max } => {
            let mut detail = BytesMut::new();
            for number in [*bytes, *bytes_max] {
                detail.put_u64_le(u64::try_from(number).unwrap_or(u64::MAX));
            }
            ResponseOutcome::Refused {
                code: TOO_LARGE,
                detail: detail.freeze(),
            }
        }
        // Nobody ties a request to a term or to a deadline of another server.
        ProposeError::OtherTerm { .. }
        | ProposeError::Expired
        | ProposeError::ReplyTooLong { .. }
        | ProposeError::OutcomeUnknown => ResponseOutcome::Unknown,
    }
}

fn decode_refusal(code: u32, mut detail: &[u8]) -> ProposeError {
    if code == TOO_LARGE {
        let mut size = || usize::try_from(detail.try_get_u64_le().ok()?).ok();
        return match (size(), size()) {
            (Some(bytes), Some(bytes_max)) => ProposeError::TooLarge { bytes, bytes_max },
            _ => ProposeError::OutcomeUnknown,
        };
    }
    let node = detail.try_get_u64_le().ok().and_then(NodeId::new);
    match (code, node) {
        (NOT_LEADER, leader) => ProposeError::NotLeader { leader },
        (QUOTA_EXCEEDED, _) => ProposeError::QuotaExceeded,
        (TRANSFER_IN_PROGRESS, Some(to)) => ProposeError::TransferInProgress { to },
        (NOT_MEMBER, _) => ProposeError::NotMember,
        (SUPERSEDED, _) => ProposeError::Superseded,
        (EMPTY, _) => ProposeError::Empty,
        // It stops, so somebody else is about to lead.
        (STOPPED, _) => ProposeError::NotLeader { leader: None },
        // A refusal that this version does not know.
        _ => ProposeError::OutcomeUnknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_arrive_as_they_were_sent() {
        let node = NodeId::new(3).unwrap();
        for error in [
            ProposeError::NotLeader { leader: Some(node) },
            ProposeError::NotLeader { leader: None },
            ProposeError::QuotaExceeded,
            ProposeError::TransferInProgress { to: node },
            ProposeError::NotMember,
            ProposeError::Superseded,
            ProposeError::Empty,
            ProposeError::TooLarge {
                bytes: 20,
                bytes_max: 10,
            },
            ProposeError::OutcomeUnknown,
        ] {
            assert_eq!(decode_outcome(encode_outcome(&error)), Err(error));
        }
    }

    #[test]
    fn a_reply_that_is_too_long_for_a_packet_says_so_instead_of_being_lost() {
        let id = EntryId::new(Term::new(3), LogIndex::new(9));
        let answered = |reply: &Bytes| {
            decode_outcome(ResponseOutcome::Done {
                payload: encode_reply(id, reply),
            })
        };
        let longest = Bytes::from(vec![b'r'; PASSED_ON_BYTES_MAX]);
        let applied = answered(&longest).unwrap();
        assert_eq!((applied.term, applied.index), (id.term, id.index));
        assert_eq!(applied.reply, longest);
        let longer = Bytes::from(vec![b'r'; PASSED_ON_BYTES_MAX + 1]);
        let too_long = ProposeError::ReplyTooLong {
            index: id.index,
            bytes: PASSED_ON_BYTES_MAX as u64 + 1,
        };
        assert_eq!(answered(&longer), Err(too_long));
    }

    #[test]
    fn a_short_answer_is_no_reply() {
        let outcome = ResponseOutcome::Done {
            payload: Bytes::from_static(b"short"),
        };
        assert_eq!(decode_outcome(outcome), Err(ProposeError::OutcomeUnknown));
    }
}

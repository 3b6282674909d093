//! # Commands of sessions, and how the log spells them
//!
//! What belongs to the session stands behind the command of the user, and so does
//! what is said about a reply: it is added without moving what it is added to.
//!
//! The last byte of a command is a kind in its lowest three bits and, above them,
//! the number of bytes before it that are not the user's. These are numbers, seven
//! bits in a byte, the lowest first, a set top bit saying that there are more: for
//! a command in a session the session, the number there, and how far below that
//! the replies begin that are still wanted.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// A session: the index of the command that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// The session of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const PLAIN: u8 = 0;
const OPEN: u8 = 1;
const IN_SESSION: u8 = 2;
const CLOSE: u8 = 3;

const KIND_BITS: u32 = 3;
const KIND_MASK: u8 = (1 << KIND_BITS) - 1;
const NUMBER_BYTES_MAX: usize = 10;

/// What a session adds to a command at most, in bytes. A buffer with that much
/// room left takes it without being moved. Mostly it is less than ten.
pub const SESSION_BYTES_MAX: usize = 3 * NUMBER_BYTES_MAX + 1;

/// A command as it stands in the log, for those who propose without a
/// [`SessionClient`](super::SessionClient) or a
/// [`SessionPipeline`](super::SessionPipeline).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionCommand {
    /// A command outside of sessions. Proposed twice it is applied twice.
    Plain(Bytes),
    /// Opens a session.
    Open,
    /// A command in a session.
    InSession {
        /// The session.
        session: SessionId,
        /// Its number there, from 1 on. It is applied when all numbers below it
        /// were, or are acknowledged.
        sequence: u64,
        /// Smaller than `sequence`. Commands up to this number are done with:
        /// their replies may be forgotten, and those that were not applied
        /// never are.
        acknowledged: u64,
        /// What the wrapped state machine gets.
        command: Bytes,
    },
    /// Forgets a session.
    Close(SessionId),
}

impl SessionCommand {
    /// The bytes to propose.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Plain(command) => seal(copy_of(command), PLAIN, []),
            Self::Open => Bytes::from_static(&[OPEN]),
            Self::InSession {
                session,
                sequence,
                acknowledged,
                command,
            } => in_session(copy_of(command), *session, *sequence, *acknowledged),
            Self::Close(session) => seal(BytesMut::new(), CLOSE, [session.0]),
        }
    }

    /// `None` if the bytes are no such command.
    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let (&last, front) = bytes.split_last()?;
        let command_len = front.len().checked_sub(usize::from(last >> KIND_BITS))?;
        let mut numbers = &front[command_len..];
        let decoded = match (last & KIND_MASK, command_len) {
            (PLAIN, _) => Self::Plain(bytes.slice(..command_len)),
            (OPEN, 0) => Self::Open,
            (IN_SESSION, _) => {
                let session = SessionId(take_number(&mut numbers)?);
                let sequence = take_number(&mut numbers)?;
                let distance = take_number(&mut numbers).filter(|distance| *distance > 0)?;
                Self::InSession {
                    session,
                    sequence,
                    acknowledged: sequence.checked_sub(distance)?,
                    command: bytes.slice(..command_len),
                }
            }
            (CLOSE, 0) => Self::Close(SessionId(take_number(&mut numbers)?)),
            _ => return None,
        };
        numbers.is_empty().then_some(decoded)
    }
}

fn copy_of(command: &[u8]) -> BytesMut {
    let mut copy = BytesMut::with_capacity(command.len() + SESSION_BYTES_MAX);
    copy.put_slice(command);
    copy
}

/// The bytes of a command in a session, made of those of the command alone.
pub(super) fn in_session(
    command: BytesMut,
    session: SessionId,
    sequence: u64,
    acknowledged: u64,
) -> Bytes {
    let distance = sequence.saturating_sub(acknowledged);
    seal(command, IN_SESSION, [session.0, sequence, distance])
}

fn seal<const N: usize>(mut command: BytesMut, kind: u8, numbers: [u64; N]) -> Bytes {
    let len_before = command.len();
    for mut number in numbers {
        while number > 0x7f {
            command.put_u8((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        command.put_u8((number & 0x7f) as u8);
    }
    // At most three numbers of ten bytes, which fits above the kind.
    let len = u8::try_from(command.len() - len_before).unwrap_or(u8::MAX);
    command.put_u8(kind | len << KIND_BITS);
    command.freeze()
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = *rest.split_off_first()?;
        let low = u64::from(byte & 0x7f);
        let part = low << shift;
        // Each number has one spelling: no bits that are lost, no last byte of
        // zero.
        if part >> shift != low || (byte == 0 && shift > 0) {
            return None;
        }
        number |= part;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

const APPLIED: u8 = 0;
const OPENED: u8 = 1;
const CLOSED: u8 = 2;
const TOO_OLD: u8 = 3;
const UNKNOWN_SESSION: u8 = 4;
const MALFORMED: u8 = 5;
const TOO_EARLY: u8 = 6;

/// What [`Sessions`](super::Sessions) answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionReply {
    /// The command was applied, now or when it came first. This is what the
    /// wrapped state machine answered then.
    Applied(Bytes),
    /// The session is open.
    Opened(SessionId),
    /// The session is forgotten.
    Closed,
    /// The command was acknowledged before; it was not applied now, and never
    /// will be. Its reply, if it ever had one, is forgotten.
    TooOld {
        /// The highest number that was applied or acknowledged.
        applied: u64,
    },
    /// Numbers below this command's are neither applied nor acknowledged, or are
    /// too far below. The command was not applied now; propose it again after
    /// them.
    TooEarly {
        /// The highest number that was applied or acknowledged.
        applied: u64,
    },
    /// There is no such session, or no more. The command was not applied now.
    UnknownSession,
    /// The bytes are no [`SessionCommand`]. Nothing was applied.
    Malformed,
}

/// The bytes of [`SessionReply::Applied`], made of the reply alone.
pub(super) fn applied(reply: Bytes) -> Bytes {
    let mut reply = reply.try_into_mut().unwrap_or_else(|shared| {
        let mut copy = BytesMut::with_capacity(shared.len() + 1);
        copy.put_slice(&shared);
        copy
    });
    reply.put_u8(APPLIED);
    reply.freeze()
}

impl SessionReply {
    pub(super) fn encode(self) -> Bytes {
        let with_number = |number: u64, kind| {
            let mut out = BytesMut::with_capacity(9);
            out.put_u64_le(number);
            out.put_u8(kind);
            out.freeze()
        };
        match self {
            Self::Applied(reply) => applied(reply),
            Self::Opened(session) => with_number(session.0, OPENED),
            Self::Closed => Bytes::from_static(&[CLOSED]),
            Self::TooOld { applied } => with_number(applied, TOO_OLD),
            Self::TooEarly { applied } => with_number(applied, TOO_EARLY),
            Self::UnknownSession => Bytes::from_static(&[UNKNOWN_SESSION]),
            Self::Malformed => Bytes::from_static(&[MALFORMED]),
        }
    }

    /// Reads the reply of a command that was proposed to
    /// [`Sessions`](super::Sessions). `None` if another state machine wrote it.
    pub fn decode(mut reply: Bytes) -> Option<Self> {
        let (&kind, content) = reply.split_last()?;
        let number = || Some(u64::from_le_bytes(content.try_into().ok()?));
        match kind {
            APPLIED => {
                reply.truncate(reply.len() - 1);
                Some(Self::Applied(reply))
            }
            OPENED => Some(Self::Opened(SessionId(number()?))),
            CLOSED => Some(Self::Closed),
            TOO_OLD => Some(Self::TooOld { applied: number()? }),
            TOO_EARLY => Some(Self::TooEarly { applied: number()? }),
            UNKNOWN_SESSION => Some(Self::UnknownSession),
            MALFORMED => Some(Self::Malformed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_encoding_stays_as_it_is() {
        let command = SessionCommand::InSession {
            session: SessionId::new(300),
            sequence: 7,
            acknowledged: 4,
            command: Bytes::from_static(b"add"),
        };
        assert_eq!(command.encode(), b"add\xac\x02\x07\x03\x22"[..]);
        let plain = SessionCommand::Plain(Bytes::from_static(b"add"));
        assert_eq!(plain.encode(), b"add\x00"[..]);
        assert_eq!(SessionCommand::Open.encode(), [OPEN][..]);
        let close = SessionCommand::Close(SessionId::new(1));
        assert_eq!(close.encode(), [1, CLOSE | 1 << KIND_BITS][..]);
    }

    proptest! {
        #[test]
        fn commands_are_read_as_they_were_written(
            session in any::<u64>(),
            sequence in 1..=u64::MAX,
            distance in any::<u64>(),
            command in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let command = Bytes::from(command);
            for command in [
                SessionCommand::InSession {
                    session: SessionId(session),
                    sequence,
                    acknowledged: sequence - distance.clamp(1, sequence),
                    command: command.clone(),
                },
                SessionCommand::Plain(command),
                SessionCommand::Close(SessionId(session)),
                SessionCommand::Open,
            ] {
                let bytes = command.encode();
                prop_assert_eq!(SessionCommand::decode(&bytes), Some(command));
            }
        }

        #[test]
        fn whatever_is_read_is_spelled_that_way(
            bytes in prop::collection::vec(prop_oneof![0_u8..36, any::<u8>()], 0..40),
        ) {
            let bytes = Bytes::from(bytes);
            if let Some(command) = SessionCommand::decode(&bytes) {
                prop_assert_eq!(command.encode(), bytes);
            }
        }
    }
}

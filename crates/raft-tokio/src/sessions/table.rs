//! # What is remembered of sessions
//!
//! - Owns: the sessions, the replies that may still be asked for, and which
//!   sessions were quiet for longest.
//! - Source: thesis §6.3.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, Read};

use bytes::Bytes;
use raft_core::LogIndex;

use super::command::SessionId;
use crate::box_error::BoxError;
use crate::snapshot::SnapshotReader;

/// When sessions are forgotten. A cluster keeps the limits that it began with:
/// they are in its snapshots, and what a later start says is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// How many sessions there may be; one more pushes out the one that was
    /// quiet for longest. Default 10 000.
    pub sessions_max: u64,
    /// Entries of the log after which a session without commands is forgotten.
    /// Default ten million.
    pub idle_entries_max: u64,
    /// Bytes of replies that are remembered; more push out the sessions that
    /// were quiet for longest. Default 64 MiB.
    pub reply_bytes_max: u64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            sessions_max: 10_000,
            idle_entries_max: 10_000_000,
            reply_bytes_max: 64 << 20,
        }
    }
}

/// How many commands of a session may be under way, which is how many replies
/// are remembered for it.
pub const WINDOW_MAX: u64 = 256;

/// What is remembered of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    /// The entry of its latest command.
    last_used: LogIndex,
    /// Up to here the client asks for no reply.
    acknowledged: u64,
    /// What the commands right behind that were answered, as it was sent.
    replies: VecDeque<Bytes>,
}

impl Session {
    /// The highest number that was applied or acknowledged.
    fn applied(&self) -> u64 {
        self.acknowledged + len_of(self.replies.len())
    }
}

/// What a command is to the session that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is the next one.
    Next,
    /// It was applied, and answered this.
    Again(Bytes),
    /// It is done with.
    TooOld { applied: u64 },
    /// Others come before it.
    TooEarly { applied: u64 },
    /// There is no such session.
    UnknownSession,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    limits: SessionLimits,
    sessions: HashMap<SessionId, Session>,
    /// Sessions by their latest command, the longest quiet first. An entry is
    /// of one session, so no two share an index.
    by_use: BTreeMap<LogIndex, SessionId>,
    reply_bytes: u64,
}

fn len_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

impl Table {
    pub(super) fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            sessions: HashMap::new(),
            by_use: BTreeMap::new(),
            reply_bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Opens the session of the entry `now`.
    pub(super) fn open(&mut self, now: LogIndex) -> SessionId {
        let id = SessionId::new(now.get());
        let session = Session {
            last_used: now,
            acknowledged: 0,
            replies: VecDeque::new(),
        };
        self.by_use.insert(now, id);
        self.sessions.insert(id, session);
        id
    }

    pub(super) fn close(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            self.by_use.remove(&session.last_used);
            self.reply_bytes -= bytes_of(&session.replies);
        }
    }

    /// A command came in the entry `now`. Says whether it is its turn, and
    /// forgets the replies that its client has.
    pub(super) fn take(
        &mut self,
        now: LogIndex,
        id: SessionId,
        sequence: u64,
        acknowledged: u64,
    ) -> Turn {
        let Some(session) = self.sessions.get_mut(&id) else {
            return Turn::UnknownSession;
        };
        self.by_use.remove(&session.last_used);
        self.by_use.insert(now, id);
        session.last_used = now;
        while session.acknowledged < acknowledged {
            let Some(reply) = session.replies.pop_front() else {
                session.acknowledged = acknowledged;
                break;
            };
            self.reply_bytes -= len_of(reply.len());
            session.acknowledged += 1;
        }
        let applied = session.applied();
        let Some(place) = sequence.checked_sub(session.acknowledged + 1) else {
            return Turn::TooOld { applied };
        };
        let reply = usize::try_from(place)
            .ok()
            .and_then(|place| session.replies.get(place));
        match reply {
            Some(reply) => Turn::Again(reply.clone()),
            None if sequence == applied + 1 && place < WINDOW_MAX => Turn::Next,
            None => Turn::TooEarly { applied },
        }
    }

    /// Remembers what the command was answered whose turn it was.
    pub(super) fn remember(&mut self, id: SessionId, reply: Bytes) {
        if let Some(session) = self.sessions.get_mut(&id) {
            self.reply_bytes += len_of(reply.len());
            session.replies.push_back(reply);
        }
    }

    /// Forgets what the limits say is to be forgotten at `now`.
    pub(super) fn expire(&mut self, now: LogIndex) {
        while let Some((&last_used, &id)) = self.by_use.first_key_value() {
            let is_idle = now.distance_from(last_used) > self.limits.idle_entries_max;
            let are_too_many = len_of(self.sessions.len()) > self.limits.sessions_max;
            let are_too_large = self.reply_bytes > self.limits.reply_bytes_max;
            // The session of this very entry stays, whatever the limits say.
            if last_used == now || !(is_idle || are_too_many || are_too_large) {
                break;
            }
            self.close(id);
        }
    }
}

fn bytes_of(replies: &VecDeque<Bytes>) -> u64 {
    replies.iter().map(|reply| len_of(reply.len())).sum()
}

/// The first byte of a snapshot of the table.
const SNAPSHOT_FORMAT: u8 = 2;

/// A snapshot of the table is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot has no table of sessions; was it made by a state machine without Sessions?")]
struct NoTable;

fn put_number(out: &mut dyn io::Write, number: u64) -> io::Result<()> {
    out.write_all(&number.to_le_bytes())
}

fn take_number(snapshot: &mut SnapshotReader) -> io::Result<u64> {
    let mut bytes = [0; 8];
    snapshot.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

impl Table {
    /// Format, limits, count, then each session in order of its last use. What
    /// the wrapped state machine writes comes behind it. Numbers are
    /// little-endian.
    pub(super) fn write_to(&self, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(&[SNAPSHOT_FORMAT])?;
        put_number(out, self.limits.sessions_max)?;
        put_number(out, self.limits.idle_entries_max)?;
        put_number(out, self.limits.reply_bytes_max)?;
        put_number(out, len_of(self.sessions.len()))?;
        for id in self.by_use.values() {
            let Some(session) = self.sessions.get(id) else {
                continue;
            };
            put_number(out, id.get())?;
            put_number(out, session.last_used.get())?;
            put_number(out, session.acknowledged)?;
            put_number(out, len_of(session.replies.len()))?;
            for reply in &session.replies {
                put_number(out, len_of(reply.len()))?;
                out.write_all(reply)?;
            }
        }
        Ok(())
    }

    /// The table; what the wrapped state machine wrote is left.
    pub(super) fn read_from(snapshot: &mut SnapshotReader) -> Result<Self, BoxError> {
        let mut format = [0];
        if snapshot.read_exact(&mut format).is_err() || format != [SNAPSHOT_FORMAT] {
            return Err(NoTable.into());
        }
        let mut table = Self::new(SessionLimits {
            sessions_max: take_number(snapshot)?,
            idle_entries_max: take_number(snapshot)?,
            reply_bytes_max: take_number(snapshot)?,
        });
        for _ in 0..take_number(snapshot)? {
            let id = SessionId::new(take_number(snapshot)?);
            let last_used = LogIndex::new(take_number(snapshot)?);
            let acknowledged = take_number(snapshot)?;
            let count = take_number(snapshot)?;
            // The highest number must have one above it.
            if count > WINDOW_MAX || acknowledged >= u64::MAX - WINDOW_MAX {
                return Err(NoTable.into());
            }
            let mut replies = VecDeque::new();
            for _ in 0..count {
                let len = take_number(snapshot)?;
                if len > snapshot.bytes_left() {
                    return Err(NoTable.into());
                }
                let mut reply = vec![0; usize::try_from(len)?];
                snapshot.read_exact(&mut reply)?;
                replies.push_back(reply.into());
            }
            table.reply_bytes += bytes_of(&replies);
            let is_twin = table.by_use.insert(last_used, id).is_some();
            let session = Session {
                last_used,
                acknowledged,
                replies,
            };
            if table.sessions.insert(id, session).is_some() || is_twin {
                return Err(NoTable.into());
            }
        }
        Ok(table)
    }
}

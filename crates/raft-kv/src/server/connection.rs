//! # One client
//!
//! Owns what a client has sent and not been understood yet, what was understood
//! and is not done yet, and what was answered and is not sent yet. All three are
//! bounded: whoever does not take replies is no longer listened to, and nothing more
//! is done for him; whoever neither takes replies nor finishes a request is let go.
//! What all clients hold together is bounded too ([`Memory`]): while it is full, each
//! has the little that is its own, whoever holds more goes on with nothing else, and
//! is let go if that lasts.
//!
//! Whatever of a pipeline has arrived goes to the backend together, as one
//! [`Batch`]: one entry of the log and one sync of the disk for all of it. The
//! requests of a client take effect in the order in which it sent them, so a
//! batch with a write in it goes through the log as a whole, reads included, and
//! reads and writes wait for each other where they are in different batches. A batch
//! whose replies have values in them is under way alone: they may be long. What is
//! answered of a long batch of reads is sent before the rest is read.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::backend::{Backend, Refusal};
use super::command::{ClientSession, Meaning, interpret};
use super::turns::{Done, Turns};
use crate::machine::Batch;
use crate::memory::{Memory, Room};
use crate::resp::{RequestLimits, RequestParser, write as resp};

/// What clients may take up.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// How large a request may be.
    pub request: RequestLimits,
    /// How many clients there may be.
    pub clients: usize,
    /// What their requests and replies may take up together while they wait, in
    /// bytes. Besides that each may hold 32 KiB.
    pub buffered_bytes: usize,
    /// How long a client may take to go on with a request that it has begun, or
    /// to take some of its replies.
    pub stall: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            request: RequestLimits::default(),
            clients: 10_000,
            buffered_bytes: 1 << 30,
            stall: Duration::from_secs(30),
        }
    }
}

/// Replies that wait to be sent; beyond this, no more requests are taken. Large
/// enough for clients that send a long pipeline before they read, in bytes.
const OUTPUT_BYTES_MAX: usize = 32 << 20;
/// A batch that has reached this takes no more requests, in bytes.
const BATCH_BYTES: usize = 64 << 10;
/// A batch takes no more requests than this.
const BATCH_LEN: usize = 1024;
/// What a client may hold while there is no room, in bytes.
const OWN_BYTES: usize = 32 << 10;
/// Batches of writes of one client that are under way at the same time.
const TURNS: usize = 8;
/// How long a client is listened to after the last word to it. If a connection is
/// closed with something unread, the client may lose what it was told.
const FAREWELL: Duration = Duration::from_secs(5);
/// What is read at once, in bytes: little from clients that wait for each reply.
const READ_BYTES: usize = 8 << 10;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The client is done, or the server is, and everything was answered.
    Finished,
    /// The client sent something that is no request.
    Misbehaved,
    /// The client neither went on with its request nor took its replies.
    Stalled,
}

/// Batches under way: one that reads, one that writes and shows values, or several
/// that write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reads,
    WritesAndShows,
    Writes,
}

impl Kind {
    fn of(batch: &Batch) -> Self {
        match (batch.has_writes(), batch.shows_values()) {
            (false, _) => Self::Reads,
            (true, true) => Self::WritesAndShows,
            (true, false) => Self::Writes,
        }
    }
}

/// A client's connection.
pub(super) struct Connection<B> {
    session: ClientSession,
    backend: Arc<B>,
    limits: ClientLimits,
    parser: RequestParser,
    input: BytesMut,
    /// What is done at present, in the order of the requests.
    turns: Turns,
    /// What `turns` do.
    kind: Kind,
    /// A batch that waits for turns of the other kind.
    held: Option<Batch>,
    /// Answers to the requests right behind `held`.
    held_answers: BytesMut,
    output: BytesMut,
    /// Whether the client has sent all that it will.
    input_ended: bool,
    /// Set when no further request is taken.
    last: Option<Closed>,
    memory: Memory,
    /// What of the buffers is more than the client's own.
    room: Room,
    /// Since when it is.
    holds_much_since: Option<Instant>,
}

impl<B: Backend> Connection<B> {
    pub(super) fn new(
        session: ClientSession,
        backend: B,
        limits: ClientLimits,
        memory: Memory,
    ) -> Self {
        Self {
            session,
            backend: Arc::new(backend),
            limits,
            parser: RequestParser::new(limits.request),
            input: BytesMut::new(),
            turns: Turns::default(),
            kind: Kind::Reads,
            held: None,
            held_answers: BytesMut::new(),
            output: BytesMut::new(),
            input_ended: false,
            last: None,
            room: memory.take(0),
            memory,
            holds_much_since: None,
        }
    }

    /// Serves the client until it is done.
    pub(super) async fn run(
        mut self,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<Closed> {
        // Both are made once and not once per turn of the loop: a timer and a
        // place among those who wait for the stop are not free.
        let mut stopped = pin!(stop.wait_for(|stop| *stop));
        let mut stall = pin!(sleep(self.limits.stall));
        // When the client last did something that it is waited for.
        let mut waits_since = None;
        let memory = self.memory.clone();
        loop {
            self.take_requests();
            if self.write_now(&mut writer)? {
                waits_since = None;
            }
            self.count();
            if let Some(closed) = self.last
                && self.output.is_empty()
                && self.is_idle()
            {
                // The other side may be gone, which is all the same by now.
                let _ = writer.shutdown().await;
                if closed == Closed::Misbehaved {
                    self.hear_out(reader).await;
                }
                return Ok(closed);
            }
            let listens = self.listens();
            if listens {
                let partial = self.input.len();
                self.input.reserve(READ_BYTES.max(partial.min(1 << 16)));
            }
            // A client may be silent as long as it likes between requests.
            let waits = !self.output.is_empty() || (self.is_idle() && !self.input.is_empty());
            if waits {
                waits_since.get_or_insert_with(Instant::now);
            }
            let is_full = self.memory.is_full();
            tokio::select! {
                biased;
                done = poll_fn(|context| self.turns.poll_next(context)),
                    if self.has_room_for_replies() =>
                {
                    self.on_done(done);
                    while let Some(done) = self.turns.take_done() {
                        self.on_done(done);
                    }
                    waits_since = None;
                }
                written = writer.write(&self.output), if !self.output.is_empty() => {
                    self.on_written(written?)?;
                    waits_since = None;
                }
                read = reader.read_buf(&mut self.input), if listens => {
                    self.input_ended = read? == 0;
                    waits_since = None;
                }
                () = &mut stall, if waits => {
                    // It may have been set for something long past.
                    let since = waits_since.unwrap_or_else(Instant::now);
                    let since = match self.holds_much_since {
                        // It keeps others waiting, however busy it looks.
                        Some(much_since) if is_full => since.min(much_since),
                        _ => since,
                    };
                    let end = since + self.limits.stall;
                    if Instant::now() >= end {
                        return Ok(Closed::Stalled);
                    }
                    stall.as_mut().reset(end);
                }
                () = memory.something_left(), if is_full && !listens => {}
                _ = &mut stopped, if self.last.is_none() => {
                    self.last = Some(Closed::Finished);
                }
            }
        }
    }

    /// Passes over what else the client sends, for a while.
    async fn hear_out(mut self, mut reader: impl AsyncRead + Unpin) {
        let ends = async {
            loop {
                self.input.clear();
                self.input.reserve(READ_BYTES);
                if !matches!(reader.read_buf(&mut self.input).await, Ok(1..)) {
                    return;
                }
            }
        };
        // Whoever goes on for longer has had the time to read what was said.
        let _ = timeout(FAREWELL, ends).await;
    }

    /// Sends what can be sent without waiting, which is mostly all. Whether it
    /// was anything.
    fn write_now(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<bool> {
        let mut wrote = false;
        while !self.output.is_empty()
            && let Some(written) = writer.write(&self.output).now_or_never()
        {
            self.on_written(written?)?;
            wrote = true;
        }
        Ok(wrote)
    }

    fn on_written(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.output.advance(written);
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.turns.is_empty() && self.held.is_none()
    }

    fn listens(&self) -> bool {
        self.last.is_none()
            && !self.input_ended
            && self.has_room()
            && (self.input.len() < OWN_BYTES || !self.memory.is_full())
    }

    /// Counts what the buffers hold. What is under way counts itself.
    fn count(&mut self) {
        let buffers = [&self.input, &self.output, &self.held_answers];
        let held = self.held.as_ref().map_or(0, Batch::encoded_bytes);
        let bytes = held + buffers.map(BytesMut::len).iter().sum::<usize>();
        self.room.resize(bytes.saturating_sub(OWN_BYTES));
        if self.room.bytes() == 0 {
            self.holds_much_since = None;
        } else {
            self.holds_much_since.get_or_insert_with(Instant::now);
        }
    }

    fn has_room(&self) -> bool {
        let turns = match self.kind {
            Kind::Writes => TURNS,
            Kind::Reads | Kind::WritesAndShows => 1,
        };
        let is_free = || self.is_idle() && self.output.len() < OWN_BYTES;
        self.held.is_none()
            && self.turns.len() < turns
            && self.has_room_for_replies()
            && (!self.memory.is_full() || is_free())
    }

    fn has_room_for_replies(&self) -> bool {
        self.output.len() < OUTPUT_BYTES_MAX
    }

    /// A turn is over. What is left of it is done before anything else.
    fn on_done(&mut self, done: Done) {
        self.output.extend_from_slice(&done.replies);
        self.count();
        if let Some(rest) = done.rest {
            self.turns.begin_first(read(&*self.backend, rest));
        }
    }

    /// Begins what the client has asked for, as far as there is room.
    fn take_requests(&mut self) {
        if let Some(batch) = self.held.take() {
            self.begin(batch);
            if self.held.is_none() {
                let answers = self.held_answers.split();
                self.say(answers);
            }
        }
        let mut input = std::mem::take(&mut self.input);
        let mut taken = 0;
        let mut batch = Batch::new();
        let mut answer = BytesMut::new();
        while self.last.is_none() && self.has_room() {
            let request = match self.parser.parse(&input[taken..]) {
                Ok(Some(request)) => request,
                Ok(None) => {
                    if self.input_ended {
                        self.last = Some(Closed::Finished);
                    }
                    break;
                }
                Err(error) => {
                    self.begin(std::mem::take(&mut batch));
                    resp::error(&mut answer, &format!("ERR Protocol error: {error}"));
                    self.say(answer.split());
                    self.last = Some(Closed::Misbehaved);
                    break;
                }
            };
            taken += request.len;
            if request.arguments.is_empty() {
                continue;
            }
            let backend = &self.backend;
            let info = || backend.info();
            match interpret(&request.arguments, &mut self.session, info, &mut answer) {
                Meaning::Operation(operation) => {
                    batch.push(&operation);
                    if batch.encoded_bytes() >= BATCH_BYTES || batch.len() >= BATCH_LEN {
                        self.begin(std::mem::take(&mut batch));
                    }
                }
                Meaning::Answered => {
                    self.begin(std::mem::take(&mut batch));
                    self.say(answer.split());
                }
                Meaning::Farewell => {
                    self.begin(std::mem::take(&mut batch));
                    self.say(answer.split());
                    self.last = Some(Closed::Finished);
                }
                Meaning::Foreign => {
                    self.begin(std::mem::take(&mut batch));
                    self.say(answer.split());
                    self.last = Some(Closed::Misbehaved);
                }
            }
        }
        self.begin(batch);
        if taken == input.len() {
            // Gives the memory of a large request back.
            if input.capacity() <= 4 * READ_BYTES {
                input.clear();
                self.input = input;
            }
        } else {
            input.advance(taken);
            self.input = input;
        }
    }

    /// Hands a batch to the backend, or holds it until it is its turn.
    fn begin(&mut self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        let kind = Kind::of(&batch);
        let joins = kind == Kind::Writes && self.kind == Kind::Writes;
        if !self.turns.is_empty() && !joins {
            self.held = Some(batch);
            return;
        }
        self.kind = kind;
        match kind {
            Kind::Writes => {
                let room = self.memory.take(batch.encoded_bytes());
                let written = write(&*self.backend, batch);
                self.turns.begin(written.map(move |done| {
                    drop(room);
                    done
                }));
            }
            Kind::WritesAndShows => {
                let (backend, memory) = (self.backend.clone(), self.memory.clone());
                let patience = self.limits.stall;
                self.turns
                    .begin(write_and_show(backend, memory, patience, batch));
            }
            Kind::Reads => self.turns.begin(read(&*self.backend, batch)),
        }
    }

    /// Answers a request that needs no backend, after those before it.
    fn say(&mut self, answer: BytesMut) {
        if answer.is_empty() {
            return;
        }
        if self.held.is_some() {
            self.held_answers.extend_from_slice(&answer);
        } else if self.turns.is_empty() {
            self.output.extend_from_slice(&answer);
        } else {
            self.turns.say(answer.freeze());
        }
    }
}

fn write<B: Backend>(backend: &B, batch: Batch) -> impl Future<Output = Done> + Send + 'static {
    let len = batch.len();
    let written = backend.write(batch.into_buffer());
    written.map(move |replies| Done::whole(replies.unwrap_or_else(|refusal| refusal.replies(len))))
}

/// Alone under way, so it may wait for its turn before it is begun: what it shows is
/// there all at once, and only then it is known how much that is.
async fn write_and_show<B: Backend>(
    backend: Arc<B>,
    memory: Memory,
    patience: Duration,
    batch: Batch,
) -> Done {
    let Ok(_turn) = timeout(patience, memory.turn()).await else {
        let why = "other clients have not taken their replies, which leaves no room";
        return Done::whole(Refusal::TryAgain(why.into()).replies(batch.len()));
    };
    let done = write(&*backend, batch).await;
    Done {
        _room: Some(memory.take(done.replies.len())),
        ..done
    }
}

fn read<B: Backend>(backend: &B, batch: Batch) -> impl Future<Output = Done> + Send + 'static {
    let (len, batch) = (batch.len(), batch.into_bytes());
    let answered = backend.read(batch.clone());
    answered.map(move |answered| match answered {
        Ok((replies, count)) if count < len => Done {
            replies,
            // It was a batch before.
            rest: Batch::behind(&batch, count).ok(),
            _room: None,
        },
        Ok((replies, _)) => Done::whole(replies),
        Err(refusal) => Done::whole(refusal.replies(len)),
    })
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "many_clients_tests.rs"]
mod many_clients_tests;

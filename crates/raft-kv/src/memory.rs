//! # Memory for clients
//!
//! How much what clients have sent, and what they have not taken yet, may take on
//! this node, all clients together. What each may take is bounded elsewhere; but
//! many who are slow at once must not take all that there is.
//!
//! Whoever is about to hold much asks for room first, and waits or is refused.
//! Whoever holds something already says so, and goes over at the most by that.
//!
//! - Owns: the count.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// How many may go over at once.
const TURNS: usize = 8;

/// How much clients may take up, and do. Clones share it.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    bytes: AtomicUsize,
    bytes_max: usize,
    /// How many wait for room. Nobody is told of room where nobody waits.
    waiting: AtomicUsize,
    freed: Notify,
    turns: Semaphore,
}

impl Default for Memory {
    /// Without a limit.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("bytes", &self.bytes())
            .field("bytes_max", &self.shared.bytes_max)
            .finish()
    }
}

impl Memory {
    /// So many bytes for all clients together.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                bytes: AtomicUsize::new(0),
                bytes_max,
                waiting: AtomicUsize::new(0),
                freed: Notify::new(),
                turns: Semaphore::new(TURNS),
            }),
        }
    }

    /// How many bytes are taken.
    pub fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// How many are left.
    pub(crate) fn left(&self) -> usize {
        self.shared.bytes_max.saturating_sub(self.bytes())
    }

    /// Whether less than an eighth is left: what is waited for may be larger.
    pub(crate) fn is_full(&self) -> bool {
        self.left() <= self.shared.bytes_max / 8
    }

    /// Room for what is there already, and so is counted even if there is none.
    pub(crate) fn take(&self, bytes: usize) -> Room {
        let mut room = Room {
            memory: self.clone(),
            bytes: 0,
        };
        room.resize(bytes);
        room
    }

    /// Room for what is to come, if there is any.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<Room> {
        let more = |taken: usize| {
            let next = taken.checked_add(bytes)?;
            (next <= self.shared.bytes_max).then_some(next)
        };
        self.shared
            .bytes
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .ok()?;
        Some(Room {
            memory: self.clone(),
            bytes,
        })
    }

    /// Waits for a turn at something whose size shows only when it is there: until
    /// something is left, and few others are at it. Whoever has the turn may go over,
    /// by that.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        let turn = self.shared.turns.acquire().await.ok();
        self.something_left().await;
        turn
    }

    /// Waits until it is not full.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn something_left(&self) {
        let _waiting = Waiting::new(&self.shared.waiting);
        loop {
            let mut freed = pin!(self.shared.freed.notified());
            // From here on nothing is missed.
            freed.as_mut().enable();
            if !self.is_full() {
                return;
            }
            freed.await;
        }
    }
}

/// Counts somebody who waits for as long as this lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Bytes that are taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    memory: Memory,
    bytes: usize,
}

impl Room {
    /// How many bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// So many bytes are held from now on.
    pub(crate) fn resize(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let shared = &self.memory.shared;
        if bytes > before {
            shared.bytes.fetch_add(bytes - before, Ordering::SeqCst);
        } else if bytes < before {
            shared.bytes.fetch_sub(before - bytes, Ordering::SeqCst);
            if shared.waiting.load(Ordering::SeqCst) > 0 {
                shared.freed.notify_waiters();
            }
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.resize(0);
    }
}

/// Bytes that count for as long as anybody has a part of them.
#[derive(Debug)]
pub(crate) struct Counted<B> {
    pub(crate) content: B,
    pub(crate) _room: Room,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Counted<B> {
    fn as_ref(&self) -> &[u8] {
        self.content.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::FutureExt;

    #[test]
    fn room_is_given_up_to_the_limit_and_comes_back() {
        let memory = Memory::new(100);
        let mut held = memory.take(30);
        assert!(memory.try_take(71).is_none());
        let asked = memory.try_take(70).unwrap();
        assert!(memory.is_full());
        // What is there already counts in any case.
        held.resize(60);
        assert_eq!((memory.bytes(), memory.left()), (130, 0));
        drop(asked);
        drop(held);
        assert_eq!((memory.bytes(), memory.left()), (0, 100));
    }

    #[test]
    fn whoever_waits_hears_of_room_and_few_go_over_at_once() {
        let memory = Memory::new(100);
        let full = memory.take(100);
        let mut something = pin!(memory.something_left());
        assert!(something.as_mut().now_or_never().is_none());
        let mut turn = pin!(memory.turn());
        assert!(turn.as_mut().now_or_never().is_none());
        drop(full);
        assert!(something.now_or_never().is_some());
        let turn = turn.now_or_never().unwrap();
        let others: Vec<_> = (1..TURNS).map(|_| memory.turn().now_or_never()).collect();
        assert!(others.iter().all(Option::is_some));
        assert!(memory.turn().now_or_never().is_none());
        drop(turn);
        assert!(memory.turn().now_or_never().is_some());
    }

    #[test]
    fn counted_bytes_count_until_the_last_part_of_them_is_gone() {
        let memory = Memory::new(100);
        let room = memory.try_take(5).unwrap();
        let mut whole = Bytes::from_owner(Counted {
            content: b"bytes".to_vec(),
            _room: room,
        });
        let part = whole.split_off(3);
        drop(whole);
        assert_eq!((&*part, memory.bytes()), (&b"es"[..], 5));
        drop(part);
        assert_eq!(memory.bytes(), 0);
    }
}

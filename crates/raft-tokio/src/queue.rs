//! # The queue in front of the loop
//!
//! What callers want of the loop, in order and within bounds. Callers put in one
//! thing at a time, and the loop takes all of them at once: the list changes hands,
//! so a caller pays for one short lock, and the loop for one per turn. Only a loop
//! that sleeps is woken.
//!
//! What every caller changes is one line of the cache, with its lock: where callers
//! are on several threads, the lines that go to and fro are what a queue costs.
//!
//! - Owns: what was not taken, the room for more and who waits for it, the waker of
//!   a loop that sleeps.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;
use tokio::task::coop::cooperative;

/// How many may stand in line before somebody looks who has left it.
const CROWD_MIN: usize = 64;

/// A queue with room for `room` things, at least one.
pub(crate) fn queue<T>(room: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        content: Mutex::new(Content {
            untaken: Vec::new(),
            free: room.max(1),
            sleeper: None,
            rest: Box::new(Rest {
                line: VecDeque::new(),
                crowd: CROWD_MIN,
                senders: 1,
                state: State::Open,
            }),
        }),
    });
    let sender = Sender {
        shared: shared.clone(),
    };
    (sender, Receiver { shared })
}

/// One line of the cache, and nothing else in it.
#[repr(align(64))]
struct Shared<T> {
    content: Mutex<Content<T>>,
}

/// What is seldom used is boxed.
struct Content<T> {
    untaken: Vec<T>,
    /// How much room there is for whoever comes next. None once the queue is closed,
    /// and none while somebody waits for it.
    free: usize,
    /// Is there only while the receiver sleeps.
    sleeper: Option<Waker>,
    rest: Box<Rest<T>>,
}

struct Rest<T> {
    /// Who waits for room, in the order in which they came.
    line: VecDeque<oneshot::Sender<Permit<T>>>,
    /// How long the line may be before those who have given up are taken out.
    crowd: usize,
    senders: usize,
    state: State,
}

impl<T> Rest<T> {
    /// Goes to the end of the line.
    fn stand_in_line(&mut self) -> oneshot::Receiver<Permit<T>> {
        if self.line.len() >= self.crowd {
            self.line.retain(|place| !place.is_closed());
            self.crowd = CROWD_MIN.max(2 * self.line.len());
        }
        let (place, room) = oneshot::channel();
        self.line.push_back(place);
        room
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing comes in any more.
    Closed,
}

impl<T> Content<T> {
    /// Moves up to `count_max` behind `taken`, in order.
    fn give(&mut self, taken: &mut Vec<T>, count_max: usize) -> usize {
        let count = self.untaken.len().min(count_max);
        if taken.is_empty() && count == self.untaken.len() {
            std::mem::swap(&mut self.untaken, taken);
        } else {
            taken.extend(self.untaken.drain(..count));
        }
        count
    }
}

impl<T> Shared<T> {
    /// A panic elsewhere leaves nothing half done in here.
    fn content(&self) -> MutexGuard<'_, Content<T>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives so much room to those who wait for it, and what is left to whoever
    /// comes next.
    fn release<'a>(self: &'a Arc<Self>, mut content: MutexGuard<'a, Content<T>>, mut room: usize) {
        while room > 0 && content.rest.state == State::Open {
            let Some(next) = content.rest.line.pop_front() else {
                content.free += room;
                return;
            };
            drop(content);
            let shared = Some(self.clone());
            match next.send(Permit { shared }) {
                Ok(()) => room -= 1,
                // Whoever has given up leaves it to the next.
                Err(mut permit) => permit.shared = None,
            }
            content = self.content();
        }
    }
}

/// Puts something in, and lets go of the lock before the receiver is woken.
fn put<T>(mut content: MutexGuard<'_, Content<T>>, value: T) {
    content.untaken.push(value);
    let sleeper = content.sleeper.take();
    drop(content);
    if let Some(sleeper) = sleeper {
        sleeper.wake();
    }
}

/// The callers' end. Clones are further callers.
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Nothing was put in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TrySendError<V> {
    /// There is no room now.
    Full(V),
    /// There never will be.
    Closed(V),
}

/// Room for one thing, until it is used or dropped.
pub(crate) struct Permit<T> {
    /// None once it is used.
    shared: Option<Arc<Shared<T>>>,
}

impl<T> Permit<T> {
    /// Puts something in. It comes back if the queue was closed meanwhile.
    pub(crate) fn send(mut self, value: T) -> Result<(), T> {
        let Some(shared) = self.shared.take() else {
            return Err(value);
        };
        let content = shared.content();
        if content.rest.state == State::Closed {
            return Err(value);
        }
        put(content, value);
        Ok(())
    }
}

impl<T> Drop for Permit<T> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.release(shared.content(), 1);
        }
    }
}

impl<T> Sender<T> {
    /// Puts in what `make` makes of `value`, if there is room now: room that others
    /// wait for is theirs already. Else `value` comes back. `make` runs under the
    /// lock.
    pub(crate) fn try_send_with<V>(
        &self,
        value: V,
        make: impl FnOnce(V) -> T,
    ) -> Result<(), TrySendError<V>> {
        let mut content = self.shared.content();
        if content.free == 0 {
            return Err(match content.rest.state {
                State::Open => TrySendError::Full(value),
                State::Closed => TrySendError::Closed(value),
            });
        }
        let value = make(value);
        content.free -= 1;
        put(content, value);
        Ok(())
    }

    /// Puts something in, if there is room now.
    pub(crate) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.try_send_with(value, |value| value)
    }

    /// Waits for room for one thing, behind those who came before. `None` once the
    /// queue is closed.
    ///
    /// # Cancel safety
    /// Only the place in the line is lost.
    pub(crate) async fn reserve(&self) -> Option<Permit<T>> {
        let room = {
            let mut content = self.shared.content();
            if content.free > 0 {
                content.free -= 1;
                let shared = Some(self.shared.clone());
                return Some(Permit { shared });
            }
            if content.rest.state == State::Closed {
                return None;
            }
            content.rest.stand_in_line()
        };
        room.await.ok()
    }

    /// Puts something in, waiting for room. It comes back once the queue is closed.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing is put in.
    pub(crate) async fn send(&self, value: T) -> Result<(), T> {
        match self.reserve().await {
            Some(permit) => permit.send(value),
            None => Err(value),
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.content().rest.senders += 1;
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut content = self.shared.content();
        content.rest.senders -= 1;
        if content.rest.senders > 0 {
            return;
        }
        let sleeper = content.sleeper.take();
        drop(content);
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// The loop's end. Dropped, it closes the queue, and what was not taken is gone.
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Receiver<T> {
    /// Waits until something is there, takes up to `count_max` of it, and puts it
    /// behind `taken`. How many; none once nothing can come any more.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is taken.
    pub(crate) async fn receive_many(&mut self, taken: &mut Vec<T>, count_max: usize) -> usize {
        cooperative(poll_fn(|context| {
            self.poll_receive_many(context, taken, count_max)
        }))
        .await
    }

    fn poll_receive_many(
        &mut self,
        context: &Context<'_>,
        taken: &mut Vec<T>,
        count_max: usize,
    ) -> Poll<usize> {
        let mut content = self.shared.content();
        if content.untaken.is_empty() {
            if content.rest.senders == 0 || content.rest.state == State::Closed {
                return Poll::Ready(0);
            }
            let waker = context.waker();
            if !content
                .sleeper
                .as_ref()
                .is_some_and(|sleeper| sleeper.will_wake(waker))
            {
                content.sleeper = Some(waker.clone());
            }
            return Poll::Pending;
        }
        let count = content.give(taken, count_max);
        self.shared.release(content, count);
        Poll::Ready(count)
    }

    /// Takes up to `count_max` of what is there, and puts it behind `taken`. How
    /// many. The receiver is awake: until it waits again nobody wakes it.
    pub(crate) fn take(&mut self, taken: &mut Vec<T>, count_max: usize) -> usize {
        let mut content = self.shared.content();
        content.sleeper = None;
        let count = content.give(taken, count_max);
        self.shared.release(content, count);
        count
    }

    /// Whether there is nothing to take. Whoever is to wake the receiver still is.
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.content().untaken.is_empty()
    }

    /// From now on nothing comes in, and nobody waits for room. What is there can
    /// still be taken.
    pub(crate) fn close(&mut self) {
        let mut content = self.shared.content();
        content.free = 0;
        content.rest.state = State::Closed;
        let line = std::mem::take(&mut content.rest.line);
        drop(content);
        // Who waits is woken outside of the lock.
        drop(line);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
        let untaken = std::mem::take(&mut self.shared.content().untaken);
        // Whoever hears of it may come back to the queue.
        drop(untaken);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;

    use super::*;

    fn taken<T>(receiver: &mut Receiver<T>) -> Vec<T> {
        let mut taken = Vec::new();
        receiver.take(&mut taken, usize::MAX);
        taken
    }

    #[test]
    fn what_was_put_in_is_taken_in_order_and_in_portions() {
        let (sender, mut receiver) = queue(8);
        for value in 0..5 {
            sender.try_send(value).unwrap();
        }
        let mut some = vec![-1];
        assert_eq!(receiver.take(&mut some, 2), 2);
        sender.try_send(5).unwrap();
        assert_eq!(some, [-1, 0, 1]);
        assert_eq!(taken(&mut receiver), [2, 3, 4, 5]);
        assert!(receiver.is_empty());
    }

    #[test]
    fn without_room_a_value_comes_back_and_what_is_taken_makes_room() {
        let (sender, mut receiver) = queue(2);
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        assert_eq!(taken(&mut receiver), [1, 2]);
        sender.try_send(3).unwrap();
    }

    #[test]
    fn who_waits_for_room_gets_it_in_order_before_who_comes_later() {
        let (sender, mut receiver) = queue(1);
        sender.try_send(1).unwrap();
        let mut second = pin!(sender.send(2));
        let mut third = pin!(sender.send(3));
        assert_eq!(second.as_mut().now_or_never(), None);
        assert_eq!(third.as_mut().now_or_never(), None);
        assert_eq!(taken(&mut receiver), [1]);
        assert_eq!(sender.try_send(4), Err(TrySendError::Full(4)));
        assert_eq!(third.as_mut().now_or_never(), None);
        assert_eq!(second.now_or_never(), Some(Ok(())));
        assert_eq!(taken(&mut receiver), [2]);
        assert_eq!(third.now_or_never(), Some(Ok(())));
        assert_eq!(taken(&mut receiver), [3]);
    }

    #[test]
    fn who_gives_up_puts_nothing_in_and_leaves_the_room_to_the_next() {
        let (sender, mut receiver) = queue(1);
        sender.try_send(1).unwrap();
        let mut third = pin!(sender.send(3));
        {
            let mut second = pin!(sender.send(2));
            assert_eq!(second.as_mut().now_or_never(), None);
            assert_eq!(third.as_mut().now_or_never(), None);
            // The room is given to the second, who does not come for it.
            assert_eq!(taken(&mut receiver), [1]);
        }
        assert_eq!(third.now_or_never(), Some(Ok(())));
        assert_eq!(taken(&mut receiver), [3]);
    }

    #[test]
    fn who_gives_up_takes_no_memory_however_long_there_is_no_room() {
        let (sender, mut receiver) = queue(1);
        sender.try_send(0).unwrap();
        let mut patient = pin!(sender.send(1));
        assert_eq!(patient.as_mut().now_or_never(), None);
        for value in 0..10_000 {
            assert_eq!(sender.send(value).now_or_never(), None);
        }
        assert!(sender.shared.content().rest.line.len() <= CROWD_MIN);
        assert_eq!(taken(&mut receiver), [0]);
        assert_eq!(patient.now_or_never(), Some(Ok(())));
        assert_eq!(taken(&mut receiver), [1]);
        sender.try_send(2).unwrap();
    }

    #[test]
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    fn what_callers_change_is_one_line_of_the_cache() {
        assert_eq!(size_of::<Shared<u8>>(), 64);
    }

    #[test]
    fn a_permit_keeps_room_until_it_is_used_or_dropped() {
        let (sender, mut receiver) = queue(1);
        let permit = sender.reserve().now_or_never().unwrap().unwrap();
        assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
        drop(permit);
        let permit = sender.reserve().now_or_never().unwrap().unwrap();
        permit.send(1).unwrap();
        assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
        assert_eq!(taken(&mut receiver), [1]);
        sender.try_send(2).unwrap();
    }

    #[test]
    fn only_a_receiver_that_sleeps_is_woken_and_only_once() {
        let (waker, wakes) = counting_waker();
        let context = Context::from_waker(&waker);
        let (sender, mut receiver) = queue(8);
        let mut some = Vec::new();
        sender.try_send(1).unwrap();
        assert_eq!(wakes(), 0);
        assert!(
            receiver
                .poll_receive_many(&context, &mut some, 8)
                .is_ready()
        );
        assert!(
            receiver
                .poll_receive_many(&context, &mut some, 8)
                .is_pending()
        );
        sender.try_send(2).unwrap();
        sender.try_send(3).unwrap();
        assert_eq!(wakes(), 1);
        assert_eq!(receiver.take(&mut some, 8), 2);
        // It sleeps, and is awake before anything came.
        assert!(
            receiver
                .poll_receive_many(&context, &mut some, 8)
                .is_pending()
        );
        assert_eq!(receiver.take(&mut some, 8), 0);
        sender.try_send(4).unwrap();
        assert_eq!(wakes(), 1);
    }

    /// A waker, and how often it was used.
    fn counting_waker() -> (Waker, impl Fn() -> usize) {
        #[derive(Default)]
        struct Count(std::sync::atomic::AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        (waker, move || {
            count.0.load(std::sync::atomic::Ordering::Relaxed)
        })
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_still_gives_what_it_has() {
        let (sender, mut receiver) = queue(2);
        sender.try_send(1).unwrap();
        let permit = sender.reserve().now_or_never().unwrap().unwrap();
        let mut waiting = pin!(sender.send(3));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        receiver.close();
        assert_eq!(waiting.now_or_never(), Some(Err(3)));
        assert_eq!(permit.send(2), Err(2));
        assert_eq!(sender.try_send(4), Err(TrySendError::Closed(4)));
        assert_eq!(taken(&mut receiver), [1]);
        let mut some = Vec::new();
        assert_eq!(receiver.receive_many(&mut some, 8).now_or_never(), Some(0));
    }

    #[test]
    fn what_a_receiver_that_is_gone_has_not_taken_is_gone_too() {
        let (sender, receiver) = queue(2);
        let (value, other) = (Arc::new(()), Arc::new(()));
        sender.try_send(value.clone()).unwrap();
        let permit = sender.reserve().now_or_never().unwrap().unwrap();
        drop(receiver);
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(permit.send(other).is_err());
    }

    #[test]
    fn the_last_sender_ends_the_wait_behind_what_is_there() {
        let (sender, mut receiver) = queue(2);
        let mut some = Vec::new();
        assert_eq!(receiver.receive_many(&mut some, 8).now_or_never(), None);
        let other = sender.clone();
        drop(sender);
        other.try_send(1).unwrap();
        drop(other);
        assert_eq!(receiver.receive_many(&mut some, 8).now_or_never(), Some(1));
        assert_eq!(receiver.receive_many(&mut some, 8).now_or_never(), Some(0));
    }
}

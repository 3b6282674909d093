//! # Doorbells
//!
//! What a task waits for beside other things is polled whenever any of them wakes
//! the task, and to poll a channel, a timer or a stop signal in vain costs a few
//! locked writes each. Behind a doorbell it is polled only if it has rung: its own
//! waker rings the bell, and then wakes the task.
//!
//! - Owns: whether it has rung, and whom it wakes.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The bell of what one task waits for in one place.
#[derive(Debug)]
pub(crate) struct Doorbell {
    bell: Arc<Bell>,
    /// Rings the bell.
    waker: Waker,
    /// Whom the bell wakes, to see without a lock that it is still the same task.
    listener: Waker,
}

#[derive(Debug)]
struct Bell {
    has_rung: AtomicBool,
    listener: Mutex<Waker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        // The task is woken outside of the lock.
        let listener = self.listener().clone();
        listener.wake();
    }
}

impl Bell {
    /// A panic elsewhere leaves nothing half done in here.
    fn listener(&self) -> MutexGuard<'_, Waker> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doorbell {
    /// One that has rung: what is behind it was never polled.
    pub(crate) fn new() -> Self {
        let bell = Arc::new(Bell {
            has_rung: AtomicBool::new(true),
            listener: Mutex::new(Waker::noop().clone()),
        });
        Self {
            waker: Waker::from(bell.clone()),
            bell,
            listener: Waker::noop().clone(),
        }
    }

    /// What is behind this is to be polled, since it no longer has the bell's waker.
    pub(crate) fn ring(&self) {
        self.bell.has_rung.store(true, Ordering::Release);
    }

    /// Waits for what is behind this bell, and polls it only when the bell has rung.
    /// `behind` may be another future each time, as long as it waits for the same,
    /// and what it waits for keeps its waker when the future is dropped.
    ///
    /// # Cancel safety
    /// That of `behind`.
    pub(crate) async fn answer<F: Future>(&mut self, behind: F) -> F::Output {
        let mut behind = pin!(behind);
        poll_fn(|context| self.poll(context, |context| behind.as_mut().poll(context))).await
    }

    fn poll<T>(
        &mut self,
        context: &Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        // First, so that a ring from here on wakes this task.
        if !self.listener.will_wake(context.waker()) {
            self.listen(context.waker());
        }
        if !self.bell.has_rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // Before the poll, so that a ring during it is not lost.
        self.bell.has_rung.swap(false, Ordering::AcqRel);
        let polled = poll(&mut Context::from_waker(&self.waker));
        if polled.is_ready() {
            // Nobody has the waker now.
            self.ring();
        }
        polled
    }

    #[cold]
    fn listen(&mut self, listener: &Waker) {
        self.listener.clone_from(listener);
        self.bell.listener().clone_from(listener);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::FutureExt;
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// Receives behind a bell, and counts how often the channel is polled.
    async fn receive(
        doorbell: &mut Doorbell,
        channel: &mut mpsc::Receiver<u32>,
        polls: &Cell<u32>,
    ) -> Option<u32> {
        let behind = poll_fn(|context| {
            polls.set(polls.get() + 1);
            channel.poll_recv(context)
        });
        doorbell.answer(behind).await
    }

    #[test]
    fn what_is_behind_a_bell_is_polled_once_until_it_rings() {
        let (sender, mut channel) = mpsc::channel(4);
        let (mut doorbell, polls) = (Doorbell::new(), Cell::new(0));
        for _ in 0..3 {
            let received = receive(&mut doorbell, &mut channel, &polls);
            assert_eq!(received.now_or_never(), None);
        }
        assert_eq!(polls.get(), 1);
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        for expected in [Some(Some(1)), Some(Some(2)), None, None] {
            let received = receive(&mut doorbell, &mut channel, &polls);
            assert_eq!(received.now_or_never(), expected);
        }
        // What was received may not have been the last.
        assert_eq!(polls.get(), 4);
    }

    #[test]
    fn a_bell_that_is_rung_by_hand_has_what_is_behind_it_polled() {
        let (sender, mut channel) = mpsc::channel(4);
        let (mut doorbell, polls) = (Doorbell::new(), Cell::new(0));
        let received = receive(&mut doorbell, &mut channel, &polls);
        assert_eq!(received.now_or_never(), None);
        // Somebody else took the bell's waker out of the channel.
        let taken = channel.poll_recv(&mut Context::from_waker(Waker::noop()));
        assert!(taken.is_pending());
        doorbell.ring();
        let received = receive(&mut doorbell, &mut channel, &polls);
        assert_eq!(received.now_or_never(), None);
        sender.try_send(1).unwrap();
        let received = receive(&mut doorbell, &mut channel, &polls);
        assert_eq!(received.now_or_never(), Some(Some(1)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_task_that_waits_is_woken_by_every_ring_whoever_listened_before() {
        const COUNT: u32 = 10_000;
        let (sender, mut channel) = mpsc::channel(1);
        let (done, outcome) = oneshot::channel();
        let mut doorbell = Doorbell::new();
        let polled_elsewhere = doorbell.answer(channel.recv()).now_or_never();
        assert_eq!(polled_elsewhere, None);
        tokio::spawn(async move {
            let mut received = Vec::new();
            while let Some(number) = doorbell.answer(channel.recv()).await {
                received.push(number);
            }
            done.send(received).unwrap();
        });
        for number in 0..COUNT {
            sender.send(number).await.unwrap();
        }
        drop(sender);
        assert!(outcome.await.unwrap().into_iter().eq(0..COUNT));
    }
}

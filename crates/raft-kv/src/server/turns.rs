//! # What is under way for a client
//!
//! Owns the batches of one client that are being done, and the answers behind
//! them, in the order of the requests. There are few, so all are looked at
//! whenever one of them may have got on: no queue of wakers, and nothing
//! allocated besides the batch itself.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

/// Something that ends with replies.
enum Turn {
    UnderWay(Pin<Box<dyn Future<Output = Bytes> + Send>>),
    Done(Bytes),
}

/// A client's turns, oldest first.
#[derive(Default)]
pub(super) struct Turns {
    turns: VecDeque<Turn>,
}

impl Turns {
    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Adds a turn that is to be done. It begins with the next poll.
    pub(super) fn begin(&mut self, turn: impl Future<Output = Bytes> + Send + 'static) {
        self.turns.push_back(Turn::UnderWay(Box::pin(turn)));
    }

    /// Adds an answer that is there already.
    pub(super) fn say(&mut self, answer: Bytes) {
        self.turns.push_back(Turn::Done(answer));
    }

    /// Takes out the replies of the oldest turn, once it is done. Goes on with
    /// every turn, in order, so that they begin in order.
    ///
    /// Without turns it is never ready: there is nobody to wake whoever polls.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        for turn in &mut self.turns {
            if let Turn::UnderWay(future) = turn
                && let Poll::Ready(replies) = future.as_mut().poll(context)
            {
                *turn = Turn::Done(replies);
            }
        }
        match self.take_done() {
            Some(replies) => Poll::Ready(replies),
            None => Poll::Pending,
        }
    }

    /// Takes out the replies of the oldest turn, if it is known to be done.
    pub(super) fn take_done(&mut self) -> Option<Bytes> {
        let Turn::Done(replies) = self.turns.front_mut()? else {
            return None;
        };
        let replies = std::mem::take(replies);
        self.turns.pop_front();
        Some(replies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::future::poll_fn;
    use tokio::sync::oneshot;

    fn next(turns: &mut Turns) -> Option<Bytes> {
        poll_fn(|context| turns.poll_next(context)).now_or_never()
    }

    fn turn(turns: &mut Turns) -> oneshot::Sender<&'static [u8]> {
        let (done, replies) = oneshot::channel::<&[u8]>();
        turns.begin(replies.map(|replies| Bytes::from_static(replies.unwrap_or(b"gone"))));
        done
    }

    #[test]
    fn replies_keep_the_order_of_the_requests() {
        let mut turns = Turns::default();
        let (one, two) = (turn(&mut turns), turn(&mut turns));
        turns.say(Bytes::from_static(b"three"));
        assert_eq!(next(&mut turns), None);
        two.send(b"two").unwrap();
        assert_eq!(next(&mut turns), None);
        one.send(b"one").unwrap();
        assert_eq!(next(&mut turns).unwrap(), "one");
        assert_eq!(turns.take_done().unwrap(), "two");
        assert_eq!(turns.take_done().unwrap(), "three");
        assert_eq!(turns.take_done(), None);
        assert!(turns.is_empty());
    }

    #[test]
    fn a_turn_begins_although_an_older_one_is_not_done() {
        let mut turns = Turns::default();
        let _never = turn(&mut turns);
        let (began, begun) = oneshot::channel();
        turns.begin(async move {
            began.send(()).unwrap();
            Bytes::new()
        });
        assert_eq!(next(&mut turns), None);
        assert_eq!(begun.now_or_never(), Some(Ok(())));
    }
}

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

use crate::machine::Batch;
use crate::memory::Room;

/// How a turn ends.
#[derive(Debug)]
pub(super) struct Done {
    /// The replies to what was done.
    pub(super) replies: Bytes,
    /// What is left to do, before the turns behind this one are answered.
    pub(super) rest: Option<Batch>,
    /// What the replies are counted in, if they do not count themselves.
    pub(super) _room: Option<Room>,
}

impl Done {
    /// Everything was done.
    pub(super) fn whole(replies: Bytes) -> Self {
        Self {
            replies,
            rest: None,
            _room: None,
        }
    }
}

/// Something that ends with replies.
enum Turn {
    UnderWay(Pin<Box<dyn Future<Output = Done> + Send>>),
    Done(Done),
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
    pub(super) fn begin(&mut self, turn: impl Future<Output = Done> + Send + 'static) {
        self.turns.push_back(Turn::UnderWay(Box::pin(turn)));
    }

    /// Adds a turn that is to be done before all the others.
    pub(super) fn begin_first(&mut self, turn: impl Future<Output = Done> + Send + 'static) {
        self.turns.push_front(Turn::UnderWay(Box::pin(turn)));
    }

    /// Adds an answer that is there already.
    pub(super) fn say(&mut self, answer: Bytes) {
        self.turns.push_back(Turn::Done(Done::whole(answer)));
    }

    /// Takes the oldest turn out, once it is done. Goes on with every turn, in order,
    /// so that they begin in order.
    ///
    /// Without turns it is never ready: there is nobody to wake whoever polls.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Done> {
        for turn in &mut self.turns {
            if let Turn::UnderWay(future) = turn
                && let Poll::Ready(done) = future.as_mut().poll(context)
            {
                *turn = Turn::Done(done);
            }
        }
        match self.take_done() {
            Some(done) => Poll::Ready(done),
            None => Poll::Pending,
        }
    }

    /// Takes the oldest turn out, if it is known to be done.
    pub(super) fn take_done(&mut self) -> Option<Done> {
        match self.turns.pop_front()? {
            Turn::Done(done) => Some(done),
            turn @ Turn::UnderWay(_) => {
                self.turns.push_front(turn);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::future::poll_fn;
    use tokio::sync::oneshot;

    fn next(turns: &mut Turns) -> Option<Bytes> {
        let done = poll_fn(|context| turns.poll_next(context)).now_or_never()?;
        Some(done.replies)
    }

    fn turn(turns: &mut Turns) -> oneshot::Sender<&'static [u8]> {
        let (done, replies) = oneshot::channel::<&[u8]>();
        turns.begin(
            replies.map(|replies| Done::whole(Bytes::from_static(replies.unwrap_or(b"gone")))),
        );
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
        assert_eq!(turns.take_done().unwrap().replies, "two");
        assert_eq!(turns.take_done().unwrap().replies, "three");
        assert!(turns.take_done().is_none());
        assert!(turns.is_empty());
    }

    #[test]
    fn a_turn_begins_although_an_older_one_is_not_done() {
        let mut turns = Turns::default();
        let _never = turn(&mut turns);
        let (began, begun) = oneshot::channel();
        turns.begin(async move {
            began.send(()).unwrap();
            Done::whole(Bytes::new())
        });
        assert_eq!(next(&mut turns), None);
        assert_eq!(begun.now_or_never(), Some(Ok(())));
    }
}

//! # Answers to a query
//!
//! The replies to the first operations of a batch, and to how many. As bytes: the
//! replies, then how many as `u32`, little-endian; nothing at all if the query was
//! no batch.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::operation::MalformedBatch;

/// The replies to the first operations of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// One after the other.
    pub replies: BytesMut,
    /// To how many operations.
    pub count: u32,
}

impl Answers {
    /// What a state machine answers.
    pub fn encode(answers: Result<Self, MalformedBatch>) -> Bytes {
        let Ok(Self { mut replies, count }) = answers else {
            return Bytes::new();
        };
        replies.put_u32_le(count);
        replies.freeze()
    }

    /// The replies, and to how many operations they are; `None` if the state machine
    /// could not read the query.
    pub fn decode(mut answer: Bytes) -> Option<(Bytes, usize)> {
        let replies = answer.len().checked_sub(4)?;
        let mut count = answer.split_off(replies);
        Some((answer, usize::try_from(count.get_u32_le()).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_they_were_written() {
        let answers = Answers {
            replies: BytesMut::from(&b"+OK\r\n$-1\r\n"[..]),
            count: 2,
        };
        let decoded = Answers::decode(Answers::encode(Ok(answers)));
        assert_eq!(decoded, Some((Bytes::from_static(b"+OK\r\n$-1\r\n"), 2)));
        let malformed = Answers::encode(Err(MalformedBatch::Truncated));
        assert_eq!(Answers::decode(malformed), None);
    }
}

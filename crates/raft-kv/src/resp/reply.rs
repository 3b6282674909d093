//! # Replies
//!
//! Writing them ([`write`]), and reading them ([`parse_reply`]), which the
//! demo, the bench and the tests do.

use bytes::{Buf, Bytes, BytesMut};

use super::number::parse_integer;

/// Each of these appends one reply, or the beginning of one, to `out`.
pub mod write {
    use bytes::BytesMut;

    /// A short text: `+OK`.
    pub fn simple(out: &mut BytesMut, text: &str) {
        line(out, b'+', text);
    }

    /// An error. Its first word, in capitals, says what kind it is of.
    pub fn error(out: &mut BytesMut, message: &str) {
        line(out, b'-', message);
    }

    /// An integer.
    pub fn integer(out: &mut BytesMut, value: i64) {
        line(out, b':', &value.to_string());
    }

    /// A string of any bytes.
    pub fn bulk(out: &mut BytesMut, bytes: &[u8]) {
        // All of it at once: one piece of memory for a reply of its own.
        out.reserve(bytes.len() + 25);
        header(out, b'$', bytes.len());
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    }

    /// No value.
    pub fn nil(out: &mut BytesMut) {
        out.extend_from_slice(b"$-1\r\n");
    }

    /// The beginning of an array; its `len` elements follow.
    pub fn array(out: &mut BytesMut, len: usize) {
        header(out, b'*', len);
    }

    fn header(out: &mut BytesMut, kind: u8, len: usize) {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        let mut rest = len;
        loop {
            at -= 1;
            // A remainder of ten fits.
            digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        out.extend_from_slice(&[kind]);
        out.extend_from_slice(&digits[at..]);
        out.extend_from_slice(b"\r\n");
    }

    /// A line break inside the text would end the reply early, so it becomes a
    /// blank.
    fn line(out: &mut BytesMut, kind: u8, text: &str) {
        out.extend_from_slice(&[kind]);
        let breaks = |byte: u8| byte == b'\r' || byte == b'\n';
        out.extend(
            text.bytes()
                .map(|byte| if breaks(byte) { b' ' } else { byte }),
        );
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends a request with these arguments to `out`.
pub fn put_request<'a>(
    out: &mut BytesMut,
    arguments: impl IntoIterator<Item = &'a [u8], IntoIter: ExactSizeIterator>,
) {
    let arguments = arguments.into_iter();
    write::array(out, arguments.len());
    for argument in arguments {
        write::bulk(out, argument);
    }
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A short text.
    Simple(String),
    /// An error.
    Error(String),
    /// An integer.
    Integer(i64),
    /// A string of any bytes.
    Bulk(Bytes),
    /// No value.
    Nil,
    /// Several replies in one.
    Array(Vec<Reply>),
}

/// What a server sent is not a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server's answer is not of the Redis protocol; is the address that of raft-kv's clients?"
)]
pub struct MalformedReply;

/// How deep arrays may be nested; no command answers with more than two.
const DEPTH: usize = 8;

/// Takes the first reply off `input`, or nothing if it is not complete.
///
/// # Errors
/// The input is not a reply.
pub fn parse_reply(input: &mut BytesMut) -> Result<Option<Reply>, MalformedReply> {
    let Some(len) = reply_len(input, DEPTH)? else {
        return Ok(None);
    };
    let mut whole = input.split_to(len).freeze();
    take_reply(&mut whole, DEPTH).map(Some)
}

/// How long the first reply is, or `None` if it is not complete.
fn reply_len(input: &[u8], depth: usize) -> Result<Option<usize>, MalformedReply> {
    let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
        return Ok(None);
    };
    let next = end + 1;
    match input.first() {
        Some(b'+' | b'-' | b':') => Ok(Some(next)),
        Some(b'$') => match announced(&input[1..end])? {
            None => Ok(Some(next)),
            Some(len) => {
                let whole = next
                    .checked_add(len)
                    .and_then(|sum| sum.checked_add(2))
                    .ok_or(MalformedReply)?;
                Ok((input.len() >= whole).then_some(whole))
            }
        },
        Some(b'*') => {
            let depth = depth.checked_sub(1).ok_or(MalformedReply)?;
            let mut whole = next;
            for _ in 0..announced(&input[1..end])?.unwrap_or(0) {
                match reply_len(&input[whole..], depth)? {
                    None => return Ok(None),
                    Some(len) => whole += len,
                }
            }
            Ok(Some(whole))
        }
        _ => Err(MalformedReply),
    }
}

/// Takes a reply off bytes that [`reply_len`] has found to be complete.
fn take_reply(input: &mut Bytes, depth: usize) -> Result<Reply, MalformedReply> {
    let end = input
        .iter()
        .position(|&byte| byte == b'\n')
        .ok_or(MalformedReply)?;
    let line = input.split_to(end + 1);
    let (kind, line) = line.trim_ascii_end().split_first().ok_or(MalformedReply)?;
    let text = || String::from_utf8_lossy(line).into_owned();
    Ok(match kind {
        b'+' => Reply::Simple(text()),
        b'-' => Reply::Error(text()),
        b':' => Reply::Integer(parse_integer(line).ok_or(MalformedReply)?),
        b'$' => match announced(line)? {
            None => Reply::Nil,
            Some(len) => {
                let bytes = input.split_to(len);
                if !input.starts_with(b"\r\n") {
                    return Err(MalformedReply);
                }
                input.advance(2);
                Reply::Bulk(bytes)
            }
        },
        b'*' => match announced(line)? {
            None => Reply::Nil,
            Some(len) => {
                let depth = depth.checked_sub(1).ok_or(MalformedReply)?;
                (0..len)
                    .map(|_| take_reply(input, depth))
                    .collect::<Result<_, _>>()
                    .map(Reply::Array)?
            }
        },
        _ => return Err(MalformedReply),
    })
}

/// A length; `None` for -1, which stands for no value.
fn announced(line: &[u8]) -> Result<Option<usize>, MalformedReply> {
    match parse_integer(line.trim_ascii_end()).ok_or(MalformedReply)? {
        -1 => Ok(None),
        len => usize::try_from(len).map(Some).map_err(|_| MalformedReply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(reply: &Reply, out: &mut BytesMut) {
        match reply {
            Reply::Simple(text) => write::simple(out, text),
            Reply::Error(text) => write::error(out, text),
            Reply::Integer(value) => write::integer(out, *value),
            Reply::Bulk(bytes) => write::bulk(out, bytes),
            Reply::Nil => write::nil(out),
            Reply::Array(replies) => {
                write::array(out, replies.len());
                for reply in replies {
                    written(reply, out);
                }
            }
        }
    }

    fn replies() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            "[a-z]{0,9}".prop_map(Reply::Simple),
            "[A-Z]{1,9}".prop_map(Reply::Error),
            any::<i64>().prop_map(Reply::Integer),
            prop::collection::vec(any::<u8>(), 0..99).prop_map(|b| Reply::Bulk(b.into())),
            Just(Reply::Nil),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| {
            prop::collection::vec(inner, 0..5).prop_map(Reply::Array)
        })
    }

    #[test]
    fn a_text_cannot_end_its_line() {
        let mut out = BytesMut::new();
        write::error(&mut out, "ERR unknown command 'a\r\n+OK'");
        assert_eq!(&out[..], b"-ERR unknown command 'a  +OK'\r\n");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_once_it_is_whole(reply in replies()) {
            let mut out = BytesMut::new();
            written(&reply, &mut out);
            for end in 0..out.len() {
                prop_assert_eq!(parse_reply(&mut BytesMut::from(&out[..end])), Ok(None));
            }
            prop_assert_eq!(parse_reply(&mut out), Ok(Some(reply)));
            prop_assert!(out.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(input in "[*$+:-]?[0-9*$\r\n:+-]{0,30}") {
            let _ = parse_reply(&mut BytesMut::from(input.as_bytes()));
        }
    }
}

//! # Bytes of a client, and of a server
//!
//! Any bytes as requests and as replies, in pieces of any length. The pieces
//! make no difference; what is read can be written and read again.

use bytes::BytesMut;
use raft_kv::resp::{RequestLimits, RequestParser, parse_reply, put_request};

const LIMITS: RequestLimits = RequestLimits {
    argument_bytes: 64,
    request_bytes: 256,
    arguments: 16,
};

/// Reads one stream.
pub fn run(bytes: &[u8]) {
    let Some((first, stream)) = bytes.split_first() else {
        return;
    };
    let piece = usize::from(first % 16) + 1;
    let whole = requests(stream, stream.len().max(1));
    assert_eq!(requests(stream, piece), whole);
    for request in whole.into_iter().flatten() {
        if request.is_empty() {
            continue;
        }
        let mut out = BytesMut::new();
        put_request(&mut out, request.iter().map(Vec::as_slice));
        let mut parser = RequestParser::new(RequestLimits::default());
        let read = parser.parse(&out).expect("it was written right");
        let read = read.expect("it is whole");
        assert_eq!(read.len, out.len());
        assert_eq!(read.arguments.to_vec(), request);
    }
    replies(stream, piece);
}

/// The stream is lost; for which of several reasons depends on the pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lost;

/// The requests of a stream that arrives in pieces, up to where it is lost.
fn requests(stream: &[u8], piece: usize) -> Vec<Result<Vec<Vec<u8>>, Lost>> {
    let mut parser = RequestParser::new(LIMITS);
    let mut read = Vec::new();
    let mut start = 0;
    let mut end = 0;
    while end < stream.len() {
        end = (end + piece).min(stream.len());
        loop {
            match parser.parse(&stream[start..end]) {
                Ok(Some(request)) => {
                    assert!(request.len > 0 && request.len <= end - start);
                    start += request.len;
                    let arguments = request.arguments.iter();
                    read.push(Ok(arguments.map(|argument| argument.to_vec()).collect()));
                }
                Ok(None) => break,
                Err(_) => {
                    read.push(Err(Lost));
                    return read;
                }
            }
        }
    }
    read
}

fn replies(stream: &[u8], piece: usize) {
    let read = |piece: usize| {
        let mut buffer = BytesMut::new();
        let mut read = Vec::new();
        for piece in stream.chunks(piece) {
            buffer.extend_from_slice(piece);
            loop {
                match parse_reply(&mut buffer) {
                    Ok(Some(reply)) => read.push(Ok(reply)),
                    Ok(None) => break,
                    Err(malformed) => {
                        read.push(Err(malformed));
                        return read;
                    }
                }
            }
        }
        read
    };
    assert_eq!(read(piece), read(stream.len().max(1)));
}

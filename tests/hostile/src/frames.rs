//! # Bytes of a connection
//!
//! Any stream, in pieces of any length, once as it is and once as frames whose
//! lengths and checksums are right. The pieces make no difference, nothing is
//! reserved beyond the limit, and what is read can be written and read again.

use bytes::{BufMut, BytesMut};
use raft_wire::WireError;
use raft_wire::frame::{Frame, FrameLimits, encode_frame, try_decode_frame};

use crate::choices::Choices;

const LIMITS: FrameLimits = FrameLimits {
    frame_bytes_max: 4096,
};

/// Reads one stream.
pub fn run(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let piece = usize::from(choices.below(40)) + 1;
    let stream = if choices.bool() {
        forged(&mut choices)
    } else {
        choices.rest().to_vec()
    };
    let whole = read(&stream, stream.len().max(1));
    assert_eq!(read(&stream, piece), whole);
    for frame in whole.into_iter().flatten() {
        let mut out = BytesMut::new();
        encode_frame(&frame, &mut out).expect("it came in a frame");
        let limits = FrameLimits {
            frame_bytes_max: u32::MAX,
        };
        assert_eq!(try_decode_frame(&mut out, &limits), Ok(Some(frame)));
        assert!(out.is_empty());
    }
}

/// Frames around any body, with the length and the checksum that it needs.
fn forged(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while !choices.is_exhausted() {
        let kind = choices.below(10);
        let len = usize::from(choices.byte());
        let body = choices.slice(len);
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&[kind]), body);
        let counted = u32::try_from(body.len() + 5).expect("a body is short");
        stream.put_u32_le(counted);
        stream.put_u8(kind);
        stream.put_u32_le(checksum);
        stream.put_slice(body);
    }
    stream
}

/// What comes out of a stream that arrives in pieces, up to where it is lost.
fn read(stream: &[u8], piece: usize) -> Vec<Result<Frame, WireError>> {
    let mut buffer = BytesMut::new();
    let mut read = Vec::new();
    for piece in stream.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match try_decode_frame(&mut buffer, &LIMITS) {
                Ok(Some(frame)) => read.push(Ok(frame)),
                Ok(None) => break,
                Err(error) => {
                    let is_lost = error.loses_the_stream();
                    read.push(Err(error));
                    if is_lost {
                        return read;
                    }
                }
            }
        }
        let room = usize::try_from(LIMITS.frame_bytes_max).expect("the limit fits");
        assert!(buffer.capacity() <= 2 * (room + stream.len()));
    }
    read
}

//! # Fields to bytes
//!
//! Every encodable value names its fields once, in ascending order, to a
//! [`Sink`]. One sink counts bytes and the other writes them, so the length that
//! stands before a nested message cannot differ from what follows it.
//!
//! - Owns: nothing.
//! - Emits: protobuf fields.
//! - Source: the protobuf encoding guide.

use bytes::{BufMut, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// A value with a protobuf encoding.
pub(crate) trait Encode {
    /// Names every field that is present, in ascending order.
    fn fields(&self, sink: &mut impl Sink);

    /// The length of the encoding, in bytes.
    fn encoded_len(&self) -> usize {
        let mut length = Length { bytes: 0 };
        self.fields(&mut length);
        length.bytes
    }

    /// Appends the encoding, growing `out` once at most.
    fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.encoded_len());
        self.fields(out);
    }
}

/// Where fields go.
pub(crate) trait Sink {
    /// A number, written even if it is zero.
    fn number(&mut self, field: u32, value: u64);

    /// Bytes, written even if there are none.
    fn bytes(&mut self, field: u32, value: &[u8]);

    /// A message within the message.
    fn message(&mut self, field: u32, value: &impl Encode);

    /// Bytes, left out if there are none.
    fn bytes_unless_empty(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            self.bytes(field, value);
        }
    }
}

impl Sink for BytesMut {
    fn number(&mut self, field: u32, value: u64) {
        encode_key(field, WireType::Varint, self);
        encode_varint(value, self);
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        encode_key(field, WireType::LengthDelimited, self);
        encode_varint(number_of_len(value.len()), self);
        self.put_slice(value);
    }

    fn message(&mut self, field: u32, value: &impl Encode) {
        encode_key(field, WireType::LengthDelimited, self);
        encode_varint(number_of_len(value.encoded_len()), self);
        value.fields(self);
    }
}

/// Counts instead of writing.
struct Length {
    bytes: usize,
}

impl Length {
    fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn add_delimited(&mut self, field: u32, len: usize) {
        self.add(key_len(field));
        self.add(encoded_len_varint(number_of_len(len)));
        self.add(len);
    }
}

impl Sink for Length {
    fn number(&mut self, field: u32, value: u64) {
        self.add(key_len(field));
        self.add(encoded_len_varint(value));
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.add_delimited(field, value.len());
    }

    fn message(&mut self, field: u32, value: &impl Encode) {
        self.add_delimited(field, value.encoded_len());
    }
}

fn number_of_len(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

//! # Bytes of peers and disks
//!
//! Any bytes as a message, an entry or a state. What is read can be written,
//! and is read the same again; everything else is refused.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use raft_wire::{
    WireError, decode_conf_state, decode_entry, decode_hard_state, decode_message,
    decode_snapshot_metadata, encode_conf_state, encode_entry, encode_hard_state, encode_message,
    encode_snapshot_metadata, encoded_message_len,
};

/// Reads the bytes in every way.
pub fn run(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(message) = decode_message(bytes.clone()) {
        let mut out = BytesMut::new();
        encode_message(&message, &mut out);
        assert_eq!(out.len(), encoded_message_len(&message));
        assert_eq!(decode_message(out.freeze()), Ok(message));
    }
    again(&bytes, decode_entry, encode_entry);
    let of_slice = |bytes: Bytes| decode_hard_state(&bytes);
    again(&bytes, of_slice, encode_hard_state);
    let of_slice = |bytes: Bytes| decode_conf_state(&bytes);
    again(&bytes, of_slice, encode_conf_state);
    let of_slice = |bytes: Bytes| decode_snapshot_metadata(&bytes);
    again(&bytes, of_slice, encode_snapshot_metadata);
}

fn again<T: Debug + PartialEq>(
    bytes: &Bytes,
    decode: impl Fn(Bytes) -> Result<T, WireError>,
    encode: impl Fn(&T, &mut BytesMut),
) {
    if let Ok(value) = decode(bytes.clone()) {
        let mut out = BytesMut::new();
        encode(&value, &mut out);
        assert_eq!(decode(out.freeze()), Ok(value));
    }
}

//! Bytes for Raft: the protobuf messages of etcd's raft 3.7, and the frames in
//! which our transport carries them.
//!
//! This is the only crate that knows protobuf. Everybody else holds
//! [`raft_core`] types; here they become bytes, and bytes become them or a
//! [`WireError`]. Reading is total: whatever the bytes are, nothing panics,
//! nothing is allocated for a length before the bytes are there (but room for the
//! rest of a frame that is within its limit), and no message nests deeper than a
//! snapshot does.
//!
//! # Which bytes
//!
//! Written is what etcd's raft 3.7 writes, field by field, in ascending order:
//! a field that means something for the type of a message is there even if it
//! is zero, any other is absent, and so is an empty `bytes`. Where etcd writes
//! one value with a field and without it (the index of a [`MsgAppResp`] that
//! only tells an old leader of a later term), the field is written. Read is also
//! what 3.4 to 3.6 write: for them and us a zero is the same as nothing.
//!
//! [`MsgAppResp`]: proto::raftpb::MessageType::MsgAppResp
//!
//! # Where is it?
//!
//! | what | file |
//! |---|---|
//! | which field of a message carries what | `encode.rs`, `decode.rs` |
//! | fields to bytes and back | `sink.rs`, `reader.rs` |
//! | lengths, checksums and bodies of the transport | `frame/` |
//! | the same messages as protobuf's own types | `proto.rs`, `generated/` |
//! | what can be wrong with bytes | `error.rs` |

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::get_unwrap,
        clippy::panic,
        clippy::panic_in_result_fn,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::allow_attributes,
        clippy::fn_params_excessive_bools
    )
)]

mod decode;
mod encode;
mod error;
pub mod frame;
pub mod proto;
mod reader;
mod sink;

// The public interface is:
pub use decode::{
    decode_conf_state, decode_entry, decode_hard_state, decode_message, decode_snapshot_metadata,
};
pub use encode::{
    encode_conf_state, encode_entry, encode_hard_state, encode_message, encode_snapshot_metadata,
    encoded_message_len,
};
pub use error::WireError;

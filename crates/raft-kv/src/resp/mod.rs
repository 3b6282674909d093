//! # The Redis serialization protocol, version 2
//!
//! What clients send (`request.rs`), what they are answered (`reply.rs`). Both
//! are pure functions of bytes: no socket is in here.
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

mod number;
mod reply;
mod request;

pub(crate) use number::parse_integer;
pub use reply::{MalformedReply, Reply, parse_reply, put_request, write};
pub use request::{ProtocolError, Request, RequestLimits, RequestParser};

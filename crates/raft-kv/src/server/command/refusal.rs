//! # Requests that are refused
//!
//! The sentences that a client gets for a request that has no meaning.

use crate::resp::parse_integer;

/// A request that is refused, with the answer to it.
pub(super) type Refused = String;

pub(super) fn integer(digits: &[u8]) -> Result<i64, Refused> {
    parse_integer(digits).ok_or_else(|| "ERR value is not an integer or out of range".into())
}

pub(super) fn wrong_number(name: &str) -> Refused {
    format!("ERR wrong number of arguments for '{name}' command")
}

/// The beginning of what a client sent, fit to be shown.
fn excerpt(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(64)];
    shown.escape_ascii().to_string()
}

pub(super) fn unknown(name: &[u8]) -> Refused {
    let name = excerpt(name);
    format!("ERR unknown command '{name}'; COMMAND LIST shows what there is")
}

pub(super) fn unknown_part(command: &str, part: &[u8]) -> Refused {
    format!("ERR unknown subcommand '{}' of {command}", excerpt(part))
}

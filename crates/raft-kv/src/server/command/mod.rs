//! # What requests mean
//!
//! From the words of a client to an operation of the state machine, or to an
//! answer that needs none.
//! Source: <https://redis.io/docs/latest/commands/>.

mod about;
mod refusal;
mod session;
mod table;

use bytes::BytesMut;

pub(super) use self::session::ClientSession;

use self::refusal::{Refused, integer, unknown, wrong_number};
use self::table::{Command, CommandSpec};
use crate::machine::{Condition, Keys, Operation, Pairs, SetReply};
use crate::resp::write;

/// What to do about a request.
#[derive(Debug)]
pub(super) enum Meaning<'a> {
    /// This.
    Operation(Operation<'a>),
    /// Nothing: it is answered.
    Answered,
    /// It is answered, and was the last one.
    Farewell,
    /// It is of another protocol: the client was told so, and nothing more that it
    /// sends is read.
    Foreign,
}

/// What the request means. An answer, if it is one, is appended to `out`; `info`
/// makes the text for `INFO`.
pub(super) fn interpret<'a>(
    arguments: &[&'a [u8]],
    session: &mut ClientSession,
    info: impl FnOnce() -> String,
    out: &mut BytesMut,
) -> Meaning<'a> {
    match meaning(arguments, session, info, out) {
        Ok(meaning) => meaning,
        Err(refused) => {
            write::error(out, &refused);
            Meaning::Answered
        }
    }
}

fn meaning<'a>(
    arguments: &[&'a [u8]],
    session: &mut ClientSession,
    info: impl FnOnce() -> String,
    out: &mut BytesMut,
) -> Result<Meaning<'a>, Refused> {
    let [name, rest @ ..] = arguments else {
        return Err("ERR the request is empty".into());
    };
    if is_http(name) {
        write::error(out, "ERR this port speaks the Redis protocol, and not HTTP");
        return Ok(Meaning::Foreign);
    }
    let spec = CommandSpec::find(name).ok_or_else(|| unknown(name))?;
    if !spec.takes(arguments.len()) {
        return Err(wrong_number(spec.name));
    }
    let operation = match (spec.command, rest) {
        (Command::Get, &[key]) => Operation::Get { key },
        (Command::Set, &[key, value, ref options @ ..]) => set(key, value, options)?,
        (Command::Append, &[key, suffix]) => Operation::Append { key, suffix },
        (Command::StrLen, &[key]) => Operation::Length { key },
        (Command::DbSize, []) => Operation::Count,
        (Command::Del, keys) => Operation::Delete {
            keys: Keys::from_slice(keys),
        },
        (Command::Exists, keys) => Operation::Exists {
            keys: Keys::from_slice(keys),
        },
        (Command::MGet, keys) => Operation::GetMany {
            keys: Keys::from_slice(keys),
        },
        (Command::MSet, words) => {
            let (pairs, []) = words.as_chunks() else {
                return Err(wrong_number(spec.name));
            };
            let pairs: Pairs<'a> = pairs.iter().map(|&[key, value]| (key, value)).collect();
            Operation::SetMany { pairs }
        }
        (Command::Incr, &[key]) => Operation::Add { key, delta: 1 },
        (Command::Decr, &[key]) => Operation::Add { key, delta: -1 },
        (Command::IncrBy, &[key, by]) => Operation::Add {
            key,
            delta: integer(by)?,
        },
        (Command::DecrBy, &[key, by]) => Operation::Add {
            key,
            delta: integer(by)?
                .checked_neg()
                .ok_or("ERR decrement would overflow")?,
        },
        (Command::Quit, _) => {
            write::simple(out, "OK");
            return Ok(Meaning::Farewell);
        }
        (command, rest) => {
            answer(command, rest, session, info, out)?;
            return Ok(Meaning::Answered);
        }
    };
    Ok(Meaning::Operation(operation))
}

/// Whether a request is a line of HTTP. What follows may be of somebody's choice
/// who can make a browser send it, so nothing of that is read as commands.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
}

fn set<'a>(key: &'a [u8], value: &'a [u8], options: &[&[u8]]) -> Result<Operation<'a>, Refused> {
    let mut condition = Condition::Always;
    let mut reply = SetReply::Done;
    for option in options {
        let option = option.to_ascii_uppercase();
        match (option.as_slice(), condition) {
            (b"NX", Condition::Always | Condition::IfAbsent) => condition = Condition::IfAbsent,
            (b"XX", Condition::Always | Condition::IfPresent) => condition = Condition::IfPresent,
            (b"GET", _) => reply = SetReply::Previous,
            // Keys have no time to live that could be lost.
            (b"KEEPTTL", _) => {}
            (b"EX" | b"PX" | b"EXAT" | b"PXAT", _) => {
                return Err(format!(
                    "ERR the option {} of SET is not supported: keys do not expire here",
                    String::from_utf8_lossy(&option)
                ));
            }
            _ => return Err("ERR syntax error".into()),
        }
    }
    Ok(Operation::Set {
        key,
        value,
        condition,
        reply,
    })
}

/// Answers a request that does not concern the keys.
fn answer(
    command: Command,
    rest: &[&[u8]],
    session: &mut ClientSession,
    info: impl FnOnce() -> String,
    out: &mut BytesMut,
) -> Result<(), Refused> {
    match (command, rest) {
        (Command::Ping, []) => write::simple(out, "PONG"),
        (Command::Ping | Command::Echo, [text]) => write::bulk(out, text),
        (Command::Ping, _) => return Err(wrong_number("ping")),
        (Command::Select, [database]) => match integer(database)? {
            0 => write::simple(out, "OK"),
            _ => return Err("ERR DB index is out of range: there is one database, 0".into()),
        },
        (Command::Reset, _) => session.reset(out),
        (Command::Hello, rest) => session.hello(rest, out)?,
        (Command::Info, _) => about::info(&info(), out),
        (Command::Describe, rest) => about::describe(rest, out)?,
        (Command::Config, rest) => about::config(rest, out)?,
        (Command::Client, rest) => session.client(rest, out)?,
        (
            Command::Append
            | Command::DbSize
            | Command::Decr
            | Command::DecrBy
            | Command::Del
            | Command::Echo
            | Command::Exists
            | Command::Get
            | Command::Incr
            | Command::IncrBy
            | Command::MGet
            | Command::MSet
            | Command::Quit
            | Command::Select
            | Command::Set
            | Command::StrLen,
            _,
        ) => return Err("ERR syntax error".into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests;

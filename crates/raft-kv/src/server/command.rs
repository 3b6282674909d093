//! # What requests mean
//!
//! From the words of a client to an operation of the state machine, or to an
//! answer that needs none. Owns what a client has said about itself.
//! Source: <https://redis.io/docs/latest/commands/>.

use bytes::BytesMut;

use crate::machine::{Condition, Keys, Operation, Pairs, SetReply};
use crate::resp::{parse_integer, write};

/// What tools expect of a server that knows these commands.
const REDIS_VERSION: &str = "7.4.0";

/// What a client has said about itself.
#[derive(Debug)]
pub(super) struct ClientSession {
    id: u64,
    name: Vec<u8>,
}

impl ClientSession {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            name: Vec::new(),
        }
    }
}

/// What to do about a request.
#[derive(Debug)]
pub(super) enum Meaning<'a> {
    /// This.
    Operation(Operation<'a>),
    /// Nothing: it is answered.
    Answered,
    /// It is answered, and was the last one.
    Farewell,
}

/// A request that is refused, with the answer to it.
type Refused = String;

#[derive(Clone, Copy)]
enum Command {
    Append,
    Client,
    Config,
    DbSize,
    Decr,
    DecrBy,
    Del,
    Describe,
    Echo,
    Exists,
    Get,
    Hello,
    Incr,
    IncrBy,
    Info,
    MGet,
    MSet,
    Ping,
    Quit,
    Reset,
    Select,
    Set,
    StrLen,
}

struct CommandSpec {
    name: &'static str,
    command: Command,
    /// How many words a request has, the name included: exactly so many, or at
    /// least so many if it is negative, as Redis spells it.
    arity: i64,
    /// The words that are keys: first, last (negative: from the end), step.
    keys: (i64, i64, i64),
    flag: &'static str,
}

const fn spec(
    name: &'static str,
    command: Command,
    arity: i64,
    keys: (i64, i64, i64),
    flag: &'static str,
) -> CommandSpec {
    CommandSpec {
        name,
        command,
        arity,
        keys,
        flag,
    }
}

const NO_KEYS: (i64, i64, i64) = (0, 0, 0);
const ONE_KEY: (i64, i64, i64) = (1, 1, 1);
const ALL_KEYS: (i64, i64, i64) = (1, -1, 1);

/// Every command that there is.
const COMMANDS: &[CommandSpec] = &[
    // The ones that are asked for most are looked at first.
    spec("get", Command::Get, 2, ONE_KEY, "readonly"),
    spec("set", Command::Set, -3, ONE_KEY, "write"),
    spec("append", Command::Append, 3, ONE_KEY, "write"),
    spec("client", Command::Client, -2, NO_KEYS, "fast"),
    spec("command", Command::Describe, -1, NO_KEYS, "fast"),
    spec("config", Command::Config, -2, NO_KEYS, "fast"),
    spec("dbsize", Command::DbSize, 1, NO_KEYS, "readonly"),
    spec("decr", Command::Decr, 2, ONE_KEY, "write"),
    spec("decrby", Command::DecrBy, 3, ONE_KEY, "write"),
    spec("del", Command::Del, -2, ALL_KEYS, "write"),
    spec("echo", Command::Echo, 2, NO_KEYS, "fast"),
    spec("exists", Command::Exists, -2, ALL_KEYS, "readonly"),
    spec("hello", Command::Hello, -1, NO_KEYS, "fast"),
    spec("incr", Command::Incr, 2, ONE_KEY, "write"),
    spec("incrby", Command::IncrBy, 3, ONE_KEY, "write"),
    spec("info", Command::Info, -1, NO_KEYS, "fast"),
    spec("mget", Command::MGet, -2, ALL_KEYS, "readonly"),
    spec("mset", Command::MSet, -3, (1, -1, 2), "write"),
    spec("ping", Command::Ping, -1, NO_KEYS, "fast"),
    spec("quit", Command::Quit, -1, NO_KEYS, "fast"),
    spec("reset", Command::Reset, 1, NO_KEYS, "fast"),
    spec("select", Command::Select, 2, NO_KEYS, "fast"),
    spec("strlen", Command::StrLen, 2, ONE_KEY, "readonly"),
];

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
    let spec = COMMANDS
        .iter()
        .find(|spec| name.eq_ignore_ascii_case(spec.name.as_bytes()))
        .ok_or_else(|| unknown(arguments))?;
    let words = i64::try_from(arguments.len()).unwrap_or(i64::MAX);
    if words != spec.arity && (spec.arity > 0 || words < -spec.arity) {
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
        (Command::Reset, _) => {
            session.name.clear();
            write::simple(out, "RESET");
        }
        (Command::Hello, rest) => hello(rest, session, out)?,
        (Command::Info, _) => {
            let text = format!(
                "# Server\r\nredis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\n\
                 server_name:raft-kv\r\nraft_kv_version:{}\r\n\r\n{}\r\n",
                env!("CARGO_PKG_VERSION"),
                info()
            );
            write::bulk(out, text.as_bytes());
        }
        (Command::Describe, rest) => describe(rest, out)?,
        (Command::Config, rest) => config(rest, out)?,
        (Command::Client, rest) => client(rest, session, out)?,
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

/// The handshake: version 2 of the protocol is what there is.
fn hello(rest: &[&[u8]], session: &mut ClientSession, out: &mut BytesMut) -> Result<(), Refused> {
    if let [version, options @ ..] = rest {
        if *version != b"2" {
            return Err("NOPROTO unsupported protocol version; this server speaks RESP2".into());
        }
        match options {
            [] => {}
            [option, name] if option.eq_ignore_ascii_case(b"SETNAME") => set_name(name, session)?,
            [option, ..] if option.eq_ignore_ascii_case(b"AUTH") => {
                return Err("ERR AUTH is not supported: there are no users here".into());
            }
            _ => return Err("ERR syntax error in HELLO".into()),
        }
    }
    write::array(out, 14);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        write::bulk(out, name.as_bytes());
        write::bulk(out, value.as_bytes());
    }
    write::bulk(out, b"proto");
    write::integer(out, 2);
    write::bulk(out, b"id");
    write::integer(out, session_id(session));
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        write::bulk(out, name.as_bytes());
        write::bulk(out, value.as_bytes());
    }
    write::bulk(out, b"modules");
    write::array(out, 0);
    Ok(())
}

/// `COMMAND` and its parts, as far as tools ask for them.
fn describe(rest: &[&[u8]], out: &mut BytesMut) -> Result<(), Refused> {
    let describe_all = |out: &mut BytesMut| {
        write::array(out, COMMANDS.len());
        for spec in COMMANDS {
            describe_one(spec, out);
        }
    };
    let Some((part, names)) = rest.split_first() else {
        describe_all(out);
        return Ok(());
    };
    match part.to_ascii_uppercase().as_slice() {
        b"COUNT" => write::integer(out, i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX)),
        b"DOCS" => write::array(out, 0),
        b"LIST" => {
            write::array(out, COMMANDS.len());
            for spec in COMMANDS {
                write::bulk(out, spec.name.as_bytes());
            }
        }
        b"INFO" if names.is_empty() => describe_all(out),
        b"INFO" => {
            write::array(out, names.len());
            for name in names {
                let found = COMMANDS
                    .iter()
                    .find(|spec| name.eq_ignore_ascii_case(spec.name.as_bytes()));
                match found {
                    Some(spec) => describe_one(spec, out),
                    None => write::nil(out),
                }
            }
        }
        _ => return Err(unknown_part("COMMAND", part)),
    }
    Ok(())
}

fn describe_one(spec: &CommandSpec, out: &mut BytesMut) {
    let (first, last, step) = spec.keys;
    write::array(out, 6);
    write::bulk(out, spec.name.as_bytes());
    write::integer(out, spec.arity);
    write::array(out, 1);
    write::simple(out, spec.flag);
    write::integer(out, first);
    write::integer(out, last);
    write::integer(out, step);
}

/// The parameters that redis-benchmark asks for, so that it can print them.
const PARAMETERS: &[(&str, &str)] = &[("appendonly", "yes"), ("databases", "1"), ("save", "")];

fn config(rest: &[&[u8]], out: &mut BytesMut) -> Result<(), Refused> {
    let Some((part, names)) = rest.split_first() else {
        return Err(wrong_number("config"));
    };
    if !part.eq_ignore_ascii_case(b"GET") {
        return Err(unknown_part("CONFIG", part));
    }
    if names.is_empty() {
        return Err(wrong_number("config|get"));
    }
    let asked = |parameter: &str| {
        let matches =
            |name: &&[u8]| *name == b"*" || name.eq_ignore_ascii_case(parameter.as_bytes());
        names.iter().any(matches)
    };
    let found = || PARAMETERS.iter().filter(|(name, _)| asked(name));
    write::array(out, 2 * found().count());
    for (name, value) in found() {
        write::bulk(out, name.as_bytes());
        write::bulk(out, value.as_bytes());
    }
    Ok(())
}

fn client(rest: &[&[u8]], session: &mut ClientSession, out: &mut BytesMut) -> Result<(), Refused> {
    let Some((part, rest)) = rest.split_first() else {
        return Err(wrong_number("client"));
    };
    match (part.to_ascii_uppercase().as_slice(), rest) {
        (b"SETNAME", [name]) => {
            set_name(name, session)?;
            write::simple(out, "OK");
        }
        (b"GETNAME", []) if session.name.is_empty() => write::nil(out),
        (b"GETNAME", []) => write::bulk(out, &session.name),
        (b"ID", []) => write::integer(out, session_id(session)),
        // What a client's library is called makes no difference here.
        (b"SETINFO", [_, _]) | (b"NO-EVICT" | b"NO-TOUCH", [_]) => write::simple(out, "OK"),
        (b"INFO", []) => {
            let name = String::from_utf8_lossy(&session.name);
            write::bulk(
                out,
                format!("id={} name={name} db=0 resp=2\n", session.id).as_bytes(),
            );
        }
        (b"SETNAME" | b"GETNAME" | b"ID" | b"SETINFO" | b"NO-EVICT" | b"NO-TOUCH" | b"INFO", _) => {
            return Err(wrong_number("client"));
        }
        _ => return Err(unknown_part("CLIENT", part)),
    }
    Ok(())
}

fn set_name(name: &[u8], session: &mut ClientSession) -> Result<(), Refused> {
    if name.len() > 256 || !name.iter().all(u8::is_ascii_graphic) {
        return Err(
            "ERR a client's name has at most 256 characters, and neither blanks nor line breaks"
                .into(),
        );
    }
    session.name = name.to_vec();
    Ok(())
}

fn session_id(session: &ClientSession) -> i64 {
    i64::try_from(session.id).unwrap_or(i64::MAX)
}

fn integer(digits: &[u8]) -> Result<i64, Refused> {
    parse_integer(digits).ok_or_else(|| "ERR value is not an integer or out of range".into())
}

fn wrong_number(name: &str) -> Refused {
    format!("ERR wrong number of arguments for '{name}' command")
}

/// The beginning of what a client sent, fit to be shown.
fn excerpt(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(64)];
    shown.escape_ascii().to_string()
}

fn unknown(arguments: &[&[u8]]) -> Refused {
    let name = arguments
        .first()
        .map(|name| excerpt(name))
        .unwrap_or_default();
    format!("ERR unknown command '{name}'; COMMAND LIST shows what there is")
}

fn unknown_part(command: &str, part: &[u8]) -> Refused {
    format!("ERR unknown subcommand '{}' of {command}", excerpt(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Reply, parse_reply};
    use proptest::prelude::*;

    /// The answer to a request, or `None` if it is an operation.
    fn answered(line: &str) -> Option<Reply> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut out = BytesMut::new();
        let mut session = ClientSession::new(7);
        match interpret(&words, &mut session, || "# Raft".into(), &mut out) {
            Meaning::Operation(_) => None,
            Meaning::Answered | Meaning::Farewell => parse_reply(&mut out).unwrap(),
        }
    }

    fn error(line: &str) -> String {
        match answered(line) {
            Some(Reply::Error(message)) => message,
            other => panic!("{line}: {other:?} is no error"),
        }
    }

    #[test]
    fn every_command_is_described_and_known() {
        for spec in COMMANDS {
            let words = usize::try_from(spec.arity.abs()).unwrap();
            let line = [spec.name].into_iter().chain(vec!["0"; words - 1]);
            let line = line.collect::<Vec<_>>().join(" ");
            if let Some(Reply::Error(message)) = answered(&line) {
                assert!(!message.contains("unknown command"), "{line}: {message}");
            }
        }
    }

    #[test]
    fn operations_are_recognised_in_any_case() {
        for line in [
            "GET k",
            "set k v nx get",
            "Del a b",
            "INCRBY k -5",
            "mset a 1 b 2",
            "dbsize",
            "set k v keepttl",
        ] {
            assert_eq!(answered(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, expected) in [
            ("get", "wrong number of arguments for 'get'"),
            ("get a b", "wrong number of arguments for 'get'"),
            ("mset a 1 b", "wrong number of arguments for 'mset'"),
            ("set k v nx xx", "syntax error"),
            ("set k v ex 10", "not supported"),
            ("incrby k x", "not an integer"),
            ("decrby k -9223372036854775808", "would overflow"),
            ("select 1", "out of range"),
            ("hello 3", "NOPROTO"),
            ("hello 2 auth a b", "AUTH is not supported"),
            ("flushall", "unknown command 'flushall'"),
            ("client kill", "unknown subcommand 'kill'"),
            ("config set a b", "unknown subcommand 'set'"),
        ] {
            let message = error(line);
            assert!(message.contains(expected), "{line}: {message}");
        }
    }

    #[test]
    fn tools_get_the_answers_that_they_begin_with() {
        let empty = Some(Reply::Array(vec![]));
        assert_eq!(answered("COMMAND DOCS"), empty);
        assert_eq!(answered("PING"), Some(Reply::Simple("PONG".into())));
        assert_eq!(answered("CLIENT ID"), Some(Reply::Integer(7)));
        assert_eq!(
            answered("CLIENT SETINFO lib-name x"),
            Some(Reply::Simple("OK".into()))
        );
        assert_eq!(answered("CONFIG GET nothing"), empty);
        assert!(matches!(answered("CONFIG GET save"), Some(Reply::Array(pair)) if pair.len() == 2));
        assert!(matches!(answered("HELLO 2"), Some(Reply::Array(map)) if map.len() == 14));
        assert!(
            matches!(answered("INFO"), Some(Reply::Bulk(text)) if text.ends_with(b"# Raft\r\n"))
        );
    }

    proptest! {
        #[test]
        fn any_words_have_a_meaning(line in "(get|set|client|config|command|hello|mset|[a-z]{0,3})( [a-z0-9*]{0,8}){0,5}") {
            let _ = answered(&line);
        }
    }
}

//! # The commands that there are
//!
//! Their names, how many words they take, and which of these are keys.
//! Source: <https://redis.io/docs/latest/commands/command/>.

#[derive(Clone, Copy)]
pub(super) enum Command {
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

pub(super) struct CommandSpec {
    pub(super) name: &'static str,
    pub(super) command: Command,
    /// How many words a request has, the name included: exactly so many, or at
    /// least so many if it is negative, as Redis spells it.
    pub(super) arity: i64,
    /// The words that are keys: first, last (negative: from the end), step.
    pub(super) keys: (i64, i64, i64),
    pub(super) flag: &'static str,
}

impl CommandSpec {
    pub(super) fn find(name: &[u8]) -> Option<&'static Self> {
        COMMANDS
            .iter()
            .find(|spec| name.eq_ignore_ascii_case(spec.name.as_bytes()))
    }

    /// Whether a request may have so many words.
    pub(super) fn takes(&self, words: usize) -> bool {
        let words = i64::try_from(words).unwrap_or(i64::MAX);
        words == self.arity || (self.arity < 0 && words >= -self.arity)
    }
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
pub(super) const COMMANDS: &[CommandSpec] = &[
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

//! What requests mean, and what clients hear that are wrong.

use bytes::BytesMut;
use proptest::prelude::*;

use super::table::COMMANDS;
use super::{ClientSession, Meaning, interpret};
use crate::resp::{Reply, parse_reply};

/// The answer to a request, or `None` if it is an operation.
fn answered(line: &str) -> Option<Reply> {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let mut out = BytesMut::new();
    let mut session = ClientSession::new(7);
    match interpret(&words, &mut session, || "# Raft".into(), &mut out) {
        Meaning::Operation(_) => None,
        Meaning::Answered | Meaning::Farewell | Meaning::Foreign => parse_reply(&mut out).unwrap(),
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
    assert!(matches!(answered("INFO"), Some(Reply::Bulk(text)) if text.ends_with(b"# Raft\r\n")));
}

proptest! {
    #[test]
    fn any_words_have_a_meaning(line in "(get|set|client|config|command|hello|mset|[a-z]{0,3})( [a-z0-9*]{0,8}){0,5}") {
        let _ = answered(&line);
    }
}

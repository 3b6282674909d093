//! What the sessions in the replicated state do with a command: the first reply
//! again, nothing that is too old, and the same on every replica.

use std::sync::Arc;

use bytes::Bytes;
use raft_tokio::sessions::{SessionCommand, SessionReply, WINDOW_MAX};
use raft_tokio::{LogIndex, SessionId, SessionLimits, StateMachine};

use crate::{Glass, applied, in_session, under_way};

#[test]
fn a_repeated_command_gets_the_first_reply_and_an_old_one_none() {
    let mut machine = Glass::new(SessionLimits::default());
    let session = machine.open(2);
    assert_eq!(
        machine.step(3, &in_session(session, 1, "a")),
        applied("1:a")
    );
    assert_eq!(
        machine.step(4, &in_session(session, 1, "a")),
        applied("1:a")
    );
    // A gap: the client gave up on 2.
    assert_eq!(
        machine.step(5, &in_session(session, 3, "b")),
        applied("2:b")
    );
    let too_old = SessionReply::TooOld { applied: 3 };
    for sequence in [1, 2] {
        let late = in_session(session, sequence, "late");
        assert_eq!(machine.step(6 + sequence, &late), too_old);
    }
    assert_eq!(machine.query(&Bytes::new()), "2");
}

#[test]
fn a_number_of_zero_is_no_number() {
    let mut machine = Glass::new(SessionLimits::default());
    let session = machine.open(2);
    let reply = machine.step(3, &in_session(session, 0, "a"));
    assert_eq!(reply, SessionReply::Malformed);
}

#[test]
fn commands_that_are_under_way_together_are_applied_in_order_and_remembered() {
    let mut machine = Glass::new(SessionLimits::default());
    let session = machine.open(2);
    let second = under_way(session, 2, 0, "b");
    let early = SessionReply::TooEarly { applied: 0 };
    assert_eq!(machine.step(3, &second), early);
    let first = under_way(session, 1, 0, "a");
    assert_eq!(machine.step(4, &first), applied("1:a"));
    assert_eq!(machine.step(5, &second), applied("2:b"));
    let third = under_way(session, 3, 0, "c");
    assert_eq!(machine.step(6, &third), applied("3:c"));
    for (index, command, reply) in [(7, &second, "2:b"), (8, &first, "1:a"), (9, &third, "3:c")] {
        assert_eq!(machine.step(index, command), applied(reply));
    }
    // The client has the replies of the first two.
    let fourth = under_way(session, 4, 2, "d");
    assert_eq!(machine.step(10, &fourth), applied("4:d"));
    assert_eq!(
        machine.step(11, &second),
        SessionReply::TooOld { applied: 4 }
    );
    assert_eq!(machine.step(12, &third), applied("3:c"));
    assert_eq!(machine.query(&Bytes::new()), "4");
}

#[test]
fn what_was_given_up_is_never_applied_later() {
    let mut machine = Glass::new(SessionLimits::default());
    let session = machine.open(2);
    // The first was lost, and its client has stopped waiting.
    assert_eq!(
        machine.step(3, &under_way(session, 2, 1, "b")),
        applied("1:b")
    );
    let too_old = SessionReply::TooOld { applied: 2 };
    assert_eq!(machine.step(4, &under_way(session, 1, 0, "a")), too_old);
    // Even if that is learned from a command that is not taken itself.
    let early = SessionReply::TooEarly { applied: 4 };
    assert_eq!(machine.step(5, &under_way(session, 6, 4, "f")), early);
    let too_old = SessionReply::TooOld { applied: 4 };
    assert_eq!(machine.step(6, &under_way(session, 3, 2, "c")), too_old);
    assert_eq!(machine.query(&Bytes::new()), "1");
}

#[test]
fn a_client_that_acknowledges_nothing_is_stopped_at_the_window() {
    let mut machine = Glass::new(SessionLimits::default());
    let session = machine.open(2);
    for sequence in 1..=WINDOW_MAX {
        let reply = machine.step(2 + sequence, &under_way(session, sequence, 0, "x"));
        assert!(matches!(reply, SessionReply::Applied(_)), "{reply:?}");
    }
    let beyond = WINDOW_MAX + 1;
    let early = SessionReply::TooEarly {
        applied: WINDOW_MAX,
    };
    assert_eq!(
        machine.step(1000, &under_way(session, beyond, 0, "x")),
        early
    );
    let reply = machine.step(1001, &under_way(session, beyond, 1, "x"));
    assert!(matches!(reply, SessionReply::Applied(_)), "{reply:?}");
}

#[test]
fn commands_without_a_session_or_of_an_unknown_one_are_told_apart() {
    let mut machine = Glass::new(SessionLimits::default());
    let plain = SessionCommand::Plain(Bytes::from_static(b"p"));
    assert_eq!(machine.step(2, &plain), applied("1:p"));
    assert_eq!(machine.step(3, &plain), applied("2:p"));
    let stranger = in_session(SessionId::new(99), 1, "x");
    assert_eq!(machine.step(4, &stranger), SessionReply::UnknownSession);
    let session = machine.open(5);
    assert_eq!(
        machine.step(6, &SessionCommand::Close(session)),
        SessionReply::Closed
    );
    let late = in_session(session, 1, "x");
    assert_eq!(machine.step(7, &late), SessionReply::UnknownSession);
    for garbage in [&b""[..], b"x\x01", b"x\x02", b"\x03", b"\x09", b"x\xf8"] {
        let reply = machine.apply(LogIndex::new(8), &Bytes::from_static(garbage));
        assert_eq!(SessionReply::decode(reply), Some(SessionReply::Malformed));
    }
    assert_eq!(machine.query(&Bytes::new()), "2");
}

#[test]
fn a_session_is_forgotten_when_it_was_idle_or_when_there_are_too_many() {
    let mut machine = Glass::new(SessionLimits {
        sessions_max: 2,
        idle_entries_max: 10,
        reply_bytes_max: 1000,
    });
    let idle = machine.open(2);
    let busy = machine.open(3);
    assert_eq!(machine.step(11, &in_session(busy, 1, "a")), applied("1:a"));
    assert_eq!(machine.step(12, &in_session(idle, 1, "b")), applied("2:b"));
    assert_eq!(
        machine.step(23, &in_session(idle, 2, "c")),
        SessionReply::UnknownSession
    );
    assert_eq!(machine.with(|machine| machine.len()), 0);
    let (first, second, third) = (machine.open(24), machine.open(25), machine.open(26));
    assert_eq!(
        machine.step(27, &in_session(first, 1, "d")),
        SessionReply::UnknownSession
    );
    assert_eq!(
        machine.step(28, &in_session(second, 1, "d")),
        applied("3:d")
    );
    assert_eq!(machine.step(29, &in_session(third, 1, "e")), applied("4:e"));
}

#[test]
fn large_replies_push_out_the_sessions_that_were_quiet_longest() {
    let mut machine = Glass::new(SessionLimits {
        reply_bytes_max: 10,
        ..SessionLimits::default()
    });
    let (first, second) = (machine.open(2), machine.open(3));
    assert_eq!(
        machine.step(4, &in_session(first, 1, "12345")),
        applied("1:12345")
    );
    assert_eq!(
        machine.step(5, &in_session(second, 1, "67890")),
        applied("2:67890")
    );
    let again = in_session(second, 1, "67890");
    assert_eq!(machine.step(6, &again), applied("2:67890"));
    let gone = in_session(first, 1, "12345");
    assert_eq!(machine.step(7, &gone), SessionReply::UnknownSession);
}

#[test]
fn a_replica_that_began_from_a_snapshot_has_the_same_state_ever_after() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let limits = SessionLimits {
        sessions_max: 5,
        idle_entries_max: 40,
        reply_bytes_max: 30,
    };
    let mut one = Glass::new(limits);
    let mut other = one.clone();
    for index in 2..2_000_u64 {
        if random.u8(..) < 8 {
            // With other limits, as if somebody had changed the program.
            other = Glass::new(SessionLimits::default());
            other.set_state(one.state()).unwrap();
        }
        let session = SessionId::new(random.u64(index.saturating_sub(60)..=index));
        let command = match random.u8(0..10) {
            0 | 1 => SessionCommand::Open,
            2 => SessionCommand::Close(session),
            _ => {
                let sequence = random.u64(1..8);
                under_way(session, sequence, random.u64(0..sequence), "x")
            }
        };
        let other_is_same = Arc::ptr_eq(&one.0, &other.0);
        let reply = one.step(index, &command);
        if !other_is_same {
            assert_eq!(other.step(index, &command), reply, "at {index}");
            assert_eq!(other.state(), one.state(), "at {index}");
        }
        assert!(one.with(|machine| machine.len()) <= 5);
    }
}

#[test]
fn a_damaged_snapshot_is_refused_and_changes_nothing() {
    let mut machine = Glass::new(SessionLimits::default());
    let session = machine.open(2);
    machine.step(3, &in_session(session, 1, "a"));
    let state = machine.state();
    for len in 0..state.len() - 1 {
        // The tail belongs to the wrapped machine, which takes any.
        let cut = state.slice(..len);
        if len < state.len() - "a".len() {
            assert!(machine.set_state(cut).is_err(), "{len} bytes");
            assert_eq!(machine.state(), state);
        }
    }
    let mut many = state.to_vec();
    many[25..33].fill(0xff);
    assert!(machine.set_state(many.into()).is_err());
}

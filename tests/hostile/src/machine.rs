//! # Bytes that were committed
//!
//! Any bytes as a command, a query or a snapshot of the service's state
//! machine, and of sessions around it. Two replicas that see the same bytes
//! answer the same and end in the same state, whatever the bytes are.

use bytes::Bytes;
use raft_core::LogIndex;
use raft_kv::machine::{Answers, KvMachine};
use raft_tokio::sessions::{SessionLimits, SessionReply, Sessions};
use raft_tokio::{BoxError, SnapshotJob, SnapshotReader, StateMachine};

use crate::choices::Choices;

/// The service's machine on its own, without a replica.
#[derive(Debug, Default)]
struct Kv(KvMachine);

impl StateMachine for Kv {
    fn apply(&mut self, _: LogIndex, command: &Bytes) -> Bytes {
        self.0.apply_batch(command)
    }

    fn query(&mut self, query: &Bytes) -> Bytes {
        Answers::encode(self.0.query_batch(query))
    }

    fn snapshot(&mut self) -> SnapshotJob {
        let image = self.0.image();
        SnapshotJob::new(move |out| Ok(image.write_to(out)?))
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        Ok(self.0.restore_image(snapshot)?)
    }
}

fn replica() -> Sessions<Kv> {
    let limits = SessionLimits {
        sessions_max: 3,
        idle_entries_max: 20,
        reply_bytes_max: 200,
    };
    Sessions::new(Kv::default(), limits)
}

fn image(replica: &mut Sessions<Kv>) -> Bytes {
    let job = replica.snapshot();
    job.into_bytes().expect("a snapshot of memory works")
}

fn restore(replica: &mut Sessions<Kv>, snapshot: Bytes) -> Result<(), BoxError> {
    replica.restore(&mut SnapshotReader::of_bytes(snapshot))
}

/// Runs one script.
pub fn run(bytes: &[u8]) {
    let (mut one, mut other) = (replica(), replica());
    let mut choices = Choices::new(bytes);
    let mut index = LogIndex::ZERO;
    while !choices.is_exhausted() {
        let action = choices.below(6);
        let len = usize::from(choices.byte());
        let input = Bytes::copy_from_slice(choices.slice(len));
        match action {
            0..4 => {
                index = index.next();
                let reply = one.apply(index, &input);
                assert_eq!(reply, other.apply(index, &input));
                assert!(SessionReply::decode(reply).is_some());
            }
            4 => {
                let before = image(&mut one);
                assert_eq!(one.query(&input), other.query(&input));
                assert_eq!(image(&mut one), before, "a query wrote");
            }
            _ => {
                let before = image(&mut one);
                let restored = restore(&mut one, input.clone());
                match (restored, restore(&mut other, input)) {
                    (Ok(()), Ok(())) => {}
                    (Err(_), Err(_)) => assert_eq!(image(&mut one), before),
                    _ => panic!("one replica took the snapshot, the other did not"),
                }
            }
        }
        let state = image(&mut one);
        assert_eq!(image(&mut other), state);
        // One replica goes on from a snapshot, the other does not.
        let mut fresh = replica();
        restore(&mut fresh, state).expect("it was written right");
        one = fresh;
    }
}

//! What is certain of the replicated state. Every state machine of the soak says
//! here what it applied where; two that differ, a command that is there twice, and
//! a snapshot of another history are noticed at once.
//!
//! A replica's own state is a count and a hash, so what a replica holds does not
//! grow with what was applied: the history is here, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use raft_tokio::{BoxError, LogIndex, SnapshotJob, SnapshotReader, StateMachine};

/// A command: whose it is, and the how many of that client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CommandName {
    pub(crate) client: u32,
    pub(crate) number: u32,
}

impl CommandName {
    pub(crate) fn encode(self) -> Bytes {
        let both = u64::from(self.client) << 32 | u64::from(self.number);
        Bytes::copy_from_slice(&both.to_le_bytes())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let both = u64::from_le_bytes(bytes.try_into().ok()?);
        Some(Self {
            client: u32::try_from(both >> 32).ok()?,
            number: u32::try_from(both & u64::from(u32::MAX)).ok()?,
        })
    }
}

#[derive(Debug, Default)]
struct History {
    /// What was applied, in order.
    order: Vec<CommandName>,
    /// The hash behind each of `order`.
    hashes: Vec<u64>,
    /// Where each stands in `order`, from one on.
    places: HashMap<CommandName, u64>,
    violations: Vec<String>,
}

/// The one history of all replicas.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    history: Arc<Mutex<History>>,
}

impl Oracle {
    fn with<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        look(&mut self.history.lock().unwrap())
    }

    /// Where a command stands, from one on.
    pub(crate) fn place(&self, name: CommandName) -> Option<u64> {
        self.with(|history| history.places.get(&name).copied())
    }

    /// How many commands were applied.
    pub(crate) fn len(&self) -> u64 {
        self.with(|history| u64::try_from(history.order.len()).unwrap())
    }

    /// What the history takes, in bytes: its lists and its map.
    pub(crate) fn bytes(&self) -> u64 {
        self.with(|history| {
            let order = history.order.capacity() * size_of::<CommandName>();
            let hashes = history.hashes.capacity() * size_of::<u64>();
            let places = history.places.capacity() * size_of::<(CommandName, u64)>();
            u64::try_from(order + hashes + places).unwrap()
        })
    }

    pub(crate) fn assert_is_intact(&self) {
        self.with(|history| assert!(history.violations.is_empty(), "{:#?}", history.violations));
    }

    fn accuse(&self, what: String) {
        self.with(|history| history.violations.push(what));
    }

    fn applied(&self, count: u64, hash: u64, name: CommandName) {
        self.with(|history| {
            let next = u64::try_from(history.order.len()).unwrap() + 1;
            if count == next {
                history.order.push(name);
                history.hashes.push(hash);
                if let Some(place) = history.places.insert(name, count) {
                    let what = format!("{name:?} was applied at {place} and at {count}");
                    history.violations.push(what);
                }
                return;
            }
            let at = usize::try_from(count - 1).unwrap();
            let known = history.order.get(at).copied().zip(history.hashes.get(at));
            if known != Some((name, &hash)) {
                let what = format!("{name:?} was applied at {count}, where {known:?} stands");
                history.violations.push(what);
            }
        });
    }

    fn restored(&self, count: u64, hash: u64) {
        let known = self.with(|history| {
            let before = usize::try_from(count).unwrap().checked_sub(1);
            before.map_or(Some(0), |at| history.hashes.get(at).copied())
        });
        if known != Some(hash) {
            self.accuse(format!("a snapshot at {count} is of another history"));
        }
    }
}

/// A count of what was applied, and a hash of it.
#[derive(Debug)]
pub(crate) struct Chain {
    count: u64,
    hash: u64,
    oracle: Oracle,
}

/// Makes snapshots travel in several pieces.
const BALLAST_BYTES: usize = 600_000;

impl Chain {
    pub(crate) fn new(oracle: Oracle) -> Self {
        Self {
            count: 0,
            hash: 0,
            oracle,
        }
    }

    fn state(&self) -> [u8; 16] {
        let mut state = [0; 16];
        state[..8].copy_from_slice(&self.count.to_le_bytes());
        state[8..].copy_from_slice(&self.hash.to_le_bytes());
        state
    }
}

/// The count in a reply or an answer.
pub(crate) fn count_in(reply: &[u8]) -> u64 {
    u64::from_le_bytes(reply[..8].try_into().unwrap())
}

impl StateMachine for Chain {
    fn apply(&mut self, _index: LogIndex, command: &Bytes) -> Bytes {
        match CommandName::decode(command) {
            Some(name) => {
                self.count += 1;
                let mixed = self.hash ^ u64::from(name.client) << 32 ^ u64::from(name.number);
                self.hash = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
                self.oracle.applied(self.count, self.hash, name);
            }
            None => self
                .oracle
                .accuse(format!("{command:?} was never proposed")),
        }
        Bytes::copy_from_slice(&self.state())
    }

    fn query(&mut self, _query: &Bytes) -> Bytes {
        Bytes::copy_from_slice(&self.state())
    }

    fn snapshot(&mut self) -> SnapshotJob {
        let state = self.state();
        SnapshotJob::new(move |out| {
            out.write_all(&state)?;
            out.write_all(&vec![state[8]; BALLAST_BYTES])?;
            Ok(())
        })
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader) -> Result<(), BoxError> {
        let whole = snapshot.read_whole()?;
        let (state, ballast) = whole.split_at(16);
        self.count = u64::from_le_bytes(state[..8].try_into()?);
        self.hash = u64::from_le_bytes(state[8..].try_into()?);
        if ballast.len() != BALLAST_BYTES || ballast.iter().any(|byte| *byte != state[8]) {
            self.oracle.accuse("a snapshot is damaged".to_owned());
        }
        self.oracle.restored(self.count, self.hash);
        Ok(())
    }
}

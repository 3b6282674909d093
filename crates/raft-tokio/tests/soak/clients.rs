//! Clients that propose and read in every way that the handle has, give up now
//! and then, and write down how each call ended.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use raft_tokio::{Applied, NotTaken, ProposeError, Raft, ReadError};
use tokio::time::Instant;

use crate::oracle::{CommandName, Oracle, count_in};

/// Longer than any call may take: the timeout of a request, twice over, and an
/// election.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(15);

/// How old an answer may be, at most, that a client asks for.
const AGE_MAX: Duration = Duration::from_secs(5);

/// How a call to propose ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Applied {
        place: u64,
    },
    Refused,
    Unknown,
    /// Its client gave up.
    Dropped,
}

/// A call to propose that has ended.
#[derive(Debug)]
struct Call {
    name: CommandName,
    /// How long the history was known to be when it was made.
    floor: u64,
    ending: Ending,
}

/// How many calls ended how.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) asked: u64,
    pub(crate) applied: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    pub(crate) dropped: u64,
    /// Of the last two.
    pub(crate) applied_unheard: u64,
    pub(crate) reads_asked: u64,
    pub(crate) reads: u64,
    pub(crate) reads_failed: u64,
    pub(crate) reads_dropped: u64,
}

/// What everybody shares.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) oracle: Oracle,
    servers: Mutex<Vec<Raft>>,
    calls: Mutex<Vec<Call>>,
    counts: Mutex<Counts>,
    /// How many commands are known to be applied: no read that begins later may
    /// see fewer.
    floor: AtomicU64,
    /// What the floor was when, for answers that may be old.
    floors: Mutex<VecDeque<(Instant, u64)>>,
    is_over: AtomicBool,
}

impl World {
    pub(crate) fn set_servers(&self, servers: Vec<Raft>) {
        *self.servers.lock().unwrap() = servers;
    }

    fn server(&self, random: &mut Rng) -> Raft {
        let servers = self.servers.lock().unwrap();
        servers[random.usize(..servers.len())].clone()
    }

    fn floor(&self) -> u64 {
        self.floor.load(Ordering::SeqCst)
    }

    fn raise_floor(&self, to: u64) {
        if self.floor.fetch_max(to, Ordering::SeqCst) < to {
            let now = Instant::now();
            let mut floors = self.floors.lock().unwrap();
            floors.push_back((now, to));
            while floors
                .get(1)
                .is_some_and(|(at, _)| now.duration_since(*at) > AGE_MAX)
            {
                floors.pop_front();
            }
        }
    }

    /// The floor as it was so long ago.
    fn floor_before(&self, age: Duration) -> u64 {
        let now = Instant::now();
        let floors = self.floors.lock().unwrap();
        let known = floors
            .iter()
            .rev()
            .find(|(at, _)| now.duration_since(*at) >= age);
        known.map_or(0, |(_, floor)| *floor)
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.counts.lock().unwrap());
    }

    /// What the clients wrote down takes so much, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let calls = self.calls.lock().unwrap().capacity() * size_of::<Call>();
        u64::try_from(calls).unwrap() + self.oracle.bytes()
    }

    /// Looks at every call, now that nothing more happens: what was acknowledged
    /// is there, where it was said to be; what was refused is not; what is there
    /// stands behind what its client knew; and every call has an end.
    pub(crate) fn judge(&self) -> Counts {
        let mut counts = std::mem::take(&mut *self.counts.lock().unwrap());
        for call in &*self.calls.lock().unwrap() {
            let place = self.oracle.place(call.name);
            let is_behind = place.is_none_or(|place| place > call.floor);
            assert!(is_behind, "{call:?} stands at {place:?}");
            match call.ending {
                Ending::Applied { place: said } => {
                    assert_eq!(place, Some(said), "{call:?} was acknowledged");
                    counts.applied += 1;
                }
                Ending::Refused => {
                    assert_eq!(place, None, "{call:?} was refused");
                    counts.refused += 1;
                }
                Ending::Unknown => {
                    counts.unknown += 1;
                    counts.applied_unheard += u64::from(place.is_some());
                }
                Ending::Dropped => {
                    counts.dropped += 1;
                    counts.applied_unheard += u64::from(place.is_some());
                }
            }
        }
        let ended = counts.applied + counts.refused + counts.unknown + counts.dropped;
        assert_eq!(ended, counts.asked, "every call has an end");
        let ended = counts.reads + counts.reads_failed + counts.reads_dropped;
        assert_eq!(ended, counts.reads_asked, "every read has an end");
        let known = counts.applied + counts.applied_unheard;
        assert_eq!(known, self.oracle.len(), "nobody else proposed anything");
        counts
    }
}

/// Waits for a call that has to end.
pub(crate) async fn ends<T>(what: &str, call: impl Future<Output = T>) -> T {
    tokio::time::timeout(CALL_MAX, call)
        .await
        .unwrap_or_else(|_| panic!("a {what} did not end"))
}

/// The same, but for callers that give up after a while.
async fn ends_or_is_dropped<T>(
    what: &str,
    random: &mut Rng,
    call: impl Future<Output = T>,
) -> Option<T> {
    if random.u8(..10) > 0 {
        return Some(ends(what, call).await);
    }
    let patience = Duration::from_micros(random.u64(..300_000));
    tokio::time::timeout(patience, call).await.ok()
}

pub(crate) async fn client(world: Arc<World>, number: u32, mut random: Rng) {
    let mut name = CommandName {
        client: number,
        number: 0,
    };
    while !world.is_over.load(Ordering::SeqCst) {
        let server = world.server(&mut random);
        if random.u8(..3) == 0 {
            read(&world, &server, &mut random).await;
        } else {
            let count = if random.u8(..8) == 0 {
                random.u32(2..5)
            } else {
                1
            };
            let names: Vec<CommandName> = (0..count)
                .map(|more| CommandName {
                    number: name.number + more,
                    ..name
                })
                .collect();
            name.number += count;
            write(&world, &server, &names, &mut random).await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(1..500))).await;
    }
}

async fn read(world: &World, server: &Raft, random: &mut Rng) {
    world.count(|counts| counts.reads_asked += 1);
    let mut floor = world.floor();
    let way = random.u8(..4);
    let age_max = AGE_MAX.mul_f64(random.f64());
    if way == 0 {
        floor = world.floor_before(age_max);
    }
    let read = async {
        match way {
            0 => server.query_stale("", age_max).await,
            1 => server.query_lease("").await,
            _ => server.query("").await,
        }
    };
    let outcome: Option<Result<_, ReadError>> = ends_or_is_dropped("read", random, read).await;
    match outcome {
        Some(Ok(answer)) => {
            let seen = count_in(&answer);
            assert!(seen >= floor, "a read of {seen} after one of {floor}");
            world.raise_floor(seen);
            world.count(|counts| counts.reads += 1);
        }
        Some(Err(_)) => world.count(|counts| counts.reads_failed += 1),
        None => world.count(|counts| counts.reads_dropped += 1),
    }
}

async fn write(world: &World, server: &Raft, names: &[CommandName], random: &mut Rng) {
    let floor = world.floor();
    let asked = u64::try_from(names.len()).unwrap();
    world.count(|counts| counts.asked += asked);
    let timeout = Duration::from_millis(random.u64(1..2000));
    let (one, way) = (names[0].encode(), random.u8(..6));
    let call = async {
        if names.len() > 1 {
            let commands = names.iter().map(|name| name.encode()).collect();
            return server.propose_batch(commands).await;
        }
        let outcome = match way {
            0 => server.propose_timeout(one, timeout).await,
            1 => match server.try_propose(one) {
                Ok(reply) => reply.await,
                Err(NotTaken { error, .. }) => Err(error),
            },
            2 => match server.reserve().await {
                Ok(permit) => match permit.propose(one) {
                    Ok(reply) => reply.await,
                    Err(NotTaken { error, .. }) => Err(error),
                },
                Err(stopped) => Err(stopped.into()),
            },
            3 => server.propose_in_term(server.status().term, one).await,
            _ => server.propose(one).await,
        };
        vec![outcome]
    };
    let outcomes = ends_or_is_dropped("proposal", random, call).await;
    for (at, name) in names.iter().enumerate() {
        let outcome = outcomes.as_ref().map(|outcomes| &outcomes[at]);
        let ending = match outcome {
            Some(outcome) => ending_of(world, outcome),
            None => Ending::Dropped,
        };
        if let Ending::Applied { place } = ending {
            assert!(place > floor, "applied at {place} after a read of {floor}");
        }
        let call = Call {
            name: *name,
            floor,
            ending,
        };
        world.calls.lock().unwrap().push(call);
    }
}

fn ending_of(world: &World, outcome: &Result<Applied, ProposeError>) -> Ending {
    match outcome {
        Ok(applied) => {
            let place = count_in(&applied.reply);
            world.raise_floor(place);
            Ending::Applied { place }
        }
        Err(error) if error.is_indeterminate() => Ending::Unknown,
        Err(_) => Ending::Refused,
    }
}

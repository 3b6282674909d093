//! Calls whose end races with the loop that takes them, on several threads and in
//! real time: what is said of each is true all the same.

mod support;

use std::collections::HashMap;
use std::time::Duration;

use fastrand::Rng;
use raft_tokio::{ProposeError, Raft};
use tokio::time::{Instant, sleep, timeout};

use support::{Cluster, Journal};

/// Nothing here takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const CLIENTS: u64 = 32;
const CALLS: usize = 150;

/// How often a command may be in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Never,
    Once,
    OnceOrNever,
}

fn expected<T>(outcome: &Result<T, ProposeError>) -> Expected {
    match outcome {
        Ok(_) => Expected::Once,
        Err(error) if error.is_indeterminate() => Expected::OnceOrNever,
        Err(_) => Expected::Never,
    }
}

/// Waits for a call for so many turns of this thread. A timer would be too coarse:
/// a command takes less than its steps.
async fn for_turns<T>(turns: u32, call: impl Future<Output = T>) -> Option<T> {
    let patience = async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        output = call => Some(output),
        () = patience => None,
    }
}

/// Proposes in one of the ways there are, and gives up at some time.
async fn call(raft: &Raft, name: String, random: &mut Rng) -> Expected {
    let turns = random.u32(0..40);
    let told = match random.u8(0..5) {
        0 | 1 => {
            let deadline = Duration::from_millis(random.u64(0..3));
            Some(expected(&raft.propose_timeout(name, deadline).await))
        }
        2 => for_turns(turns, raft.propose(name))
            .await
            .map(|outcome| expected(&outcome)),
        3 => match raft.try_propose(name) {
            Ok(reply) => for_turns(turns, reply)
                .await
                .map(|outcome| expected(&outcome)),
            Err(_) => Some(Expected::Never),
        },
        _ => for_turns(turns, raft.propose_batch(vec![name.into()]))
            .await
            .map(|outcomes| expected(&outcomes[0])),
    };
    told.unwrap_or(Expected::OnceOrNever)
}

async fn client(rafts: Vec<Raft>, number: u64, mut random: Rng) -> Vec<(String, Expected)> {
    let mut told = Vec::new();
    for count in 0..CALLS {
        let name = format!("{number}/{count}");
        let raft = &rafts[random.usize(0..rafts.len())];
        let expected = call(raft, name.clone(), &mut random).await;
        told.push((name, expected));
    }
    told
}

/// Hands leadership round, so that there are moments without a leader.
async fn hand_round(rafts: Vec<Raft>, mut random: Rng) {
    loop {
        let to = rafts[random.usize(0..rafts.len())].id();
        for raft in &rafts {
            let _ = timeout(Duration::from_millis(200), raft.transfer_leadership(to)).await;
        }
        sleep(Duration::from_millis(random.u64(1..30))).await;
    }
}

/// Every command in a replica's history, with how often.
async fn history(raft: &Raft) -> HashMap<String, usize> {
    let deadline = Instant::now() + PATIENCE;
    let all = loop {
        match raft.query("all").await {
            Ok(all) => break all,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    let mut times = HashMap::new();
    for name in std::str::from_utf8(&all).unwrap().lines() {
        *times.entry(name.to_owned()).or_default() += 1;
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_a_call_said_when_it_ended_is_true() {
    let seed = std::env::var("RAFT_SEED").map_or_else(
        |_| fastrand::u64(..),
        |seed| seed.parse().expect("RAFT_SEED is a number"),
    );
    println!("RAFT_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let configure = |config: &mut raft_tokio::RaftConfig| {
        config.tick = Duration::from_millis(10);
        // So that some wait in front of the queue.
        config.requests_waiting_max = 8;
    };
    let cluster: Cluster<Journal> = Cluster::start_with(3, configure).await;
    cluster.leader().await;
    let rafts = cluster.all();
    let trouble = tokio::spawn(hand_round(rafts.clone(), random.fork()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(client(rafts.clone(), number, random.fork())))
        .collect();
    let mut told = Vec::new();
    for client in clients {
        let ended = timeout(PATIENCE, client).await.expect("every call ends");
        told.extend(ended.unwrap());
    }
    trouble.abort();
    // What was passed on and given up arrives.
    sleep(Duration::from_millis(500)).await;
    let times = history(&rafts[0]).await;
    let mut seen = HashMap::<_, usize>::new();
    for (name, expected) in &told {
        let times = times.get(name).copied().unwrap_or(0);
        let is_true = match expected {
            Expected::Never => times == 0,
            Expected::Once => times == 1,
            Expected::OnceOrNever => times <= 1,
        };
        assert!(
            is_true,
            "{name} is there {times} times, which was to be {expected:?}"
        );
        *seen.entry(format!("{expected:?} {times}")).or_default() += 1;
    }
    println!("{seen:?}");
    // Otherwise nothing was shown.
    for kind in ["Never 0", "Once 1", "OnceOrNever 0", "OnceOrNever 1"] {
        assert!(seen.contains_key(kind), "no call was {kind}: {seen:?}");
    }
    for raft in &rafts {
        assert_eq!(history(raft).await, times, "node {}", raft.id());
    }
}

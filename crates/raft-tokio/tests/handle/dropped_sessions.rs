//! Commands of sessions and of typed replicas whose caller is gone, at any await.

use std::time::Duration;

use bytes::BytesMut;
use raft_tokio::{
    LogIndex, Raft, SessionClient, SessionError, SessionLimits, SessionPipeline, Sessions,
};
use tokio::time::{sleep, timeout};

use crate::support::{Cluster, Journal};
use crate::{Dropped, applied_commands, drop_at_await};

/// Nothing here takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// Calls wait for a reply, for a pause, and again.
const AWAITS_MIN: usize = 3;

async fn cluster() -> Cluster<Sessions<Journal>> {
    let machine = || Sessions::new(Journal::default(), SessionLimits::default());
    Cluster::start_of(3, |_| {}, machine).await
}

/// A leader that nobody hears for longer than a proposal waits, so that calls on
/// it try again, and are done in the end.
fn cut_off_for_a_while(cluster: &Cluster<Sessions<Journal>>, leader: &Raft) {
    cluster.network().isolate(leader.id());
    let network = cluster.network().clone();
    tokio::spawn(async move {
        sleep(Duration::from_secs(7)).await;
        network.heal();
    });
}

fn times(commands: &[String], name: &str) -> usize {
    commands.iter().filter(|other| *other == name).count()
}

fn place(commands: &[String], name: &str) -> Option<usize> {
    commands.iter().position(|other| other == name)
}

#[tokio::test(start_paused = true)]
async fn a_command_of_a_session_whose_caller_is_gone_is_applied_once_or_never() {
    for when in [Dropped::Waiting, Dropped::Woken] {
        for goes_on in [false, true] {
            let mut awaits = 0;
            loop {
                let cluster = cluster().await;
                let leader = cluster.leader().await;
                let opened = SessionClient::open(leader.clone(), RETRY_TIMEOUT).await;
                let mut client = opened.unwrap();
                client.propose("before").await.unwrap();
                cut_off_for_a_while(&cluster, &leader);
                let call = drop_at_await(awaits, when, client.propose("dropped"));
                let outcome = timeout(PATIENCE, call).await.expect("it is woken or ends");
                let is_done = outcome.is_some();
                if goes_on {
                    client.propose("after").await.unwrap();
                } else {
                    // As its documentation says, that is how to find out.
                    let applied = client.retry("dropped").await.unwrap();
                    assert_eq!(applied.reply, "2:dropped");
                }
                // Whatever is on its way arrives.
                sleep(Duration::from_secs(10)).await;
                let commands = applied_commands(&cluster.leader().await).await;
                let dropped = times(&commands, "dropped");
                assert!(dropped <= 1, "{commands:?}");
                if goes_on && dropped == 1 {
                    let after = place(&commands, "after");
                    assert!(place(&commands, "dropped") < after, "{commands:?}");
                }
                if is_done || !goes_on {
                    assert_eq!(dropped, 1, "{commands:?}");
                }
                if is_done {
                    break;
                }
                awaits += 1;
            }
            assert!(awaits >= AWAITS_MIN, "{awaits}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_opening_or_closing_is_dropped_is_in_nobodys_way() {
    for when in [Dropped::Waiting, Dropped::Woken] {
        let mut awaits = 0;
        loop {
            let cluster = cluster().await;
            let leader = cluster.leader().await;
            cut_off_for_a_while(&cluster, &leader);
            let call = SessionClient::open(leader.clone(), RETRY_TIMEOUT);
            let call = drop_at_await(awaits, when, call);
            let opened = timeout(PATIENCE, call).await.expect("it is woken or ends");
            let is_open = opened.is_some();
            let again = SessionClient::open(leader.clone(), RETRY_TIMEOUT).await;
            let mut client = again.unwrap();
            client.propose("a").await.unwrap();
            let (session, sequence) = (client.session(), client.sequence());
            let leader = cluster.leader().await;
            cut_off_for_a_while(&cluster, &leader);
            let call = drop_at_await(awaits, when, client.close());
            let closed = timeout(PATIENCE, call).await.expect("it is woken or ends");
            sleep(Duration::from_secs(10)).await;
            // Closed or not, and whoever goes on with it hears which.
            let leader = cluster.leader().await;
            let mut late = SessionClient::resume(leader.clone(), session, sequence, RETRY_TIMEOUT);
            match late.propose("b").await {
                Ok(_) => assert!(closed.is_none()),
                Err(error) => assert_eq!(error, SessionError::Expired),
            }
            let commands = applied_commands(&leader).await;
            assert_eq!(times(&commands, "a"), 1);
            assert!(times(&commands, "b") <= 1);
            if is_open && closed.is_some() {
                break;
            }
            awaits += 1;
        }
        assert!(awaits >= AWAITS_MIN, "{awaits}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_of_a_pipeline_that_is_dropped_holds_up_nobody_and_never_comes_late() {
    for when in [Dropped::Waiting, Dropped::Woken] {
        let mut awaits = 0;
        loop {
            let cluster = cluster().await;
            let leader = cluster.leader().await;
            cut_off_for_a_while(&cluster, &leader);
            let pipeline = SessionPipeline::new(leader.clone(), RETRY_TIMEOUT);
            let begun = |name: &str| pipeline.propose(BytesMut::from(name));
            let (first, dropped, last) = (begun("first"), begun("dropped"), begun("last"));
            let first = tokio::spawn(first);
            let last = tokio::spawn(last);
            let call = drop_at_await(awaits, when, dropped);
            let outcome = timeout(PATIENCE, call).await.expect("it is woken or ends");
            for other in [first, last] {
                let outcome = timeout(PATIENCE, other).await.expect("it ends").unwrap();
                outcome.expect("it is applied");
            }
            sleep(Duration::from_secs(10)).await;
            let commands = applied_commands(&cluster.leader().await).await;
            for name in ["first", "last"] {
                assert_eq!(times(&commands, name), 1, "{commands:?}");
            }
            let mut sorted = commands.clone();
            sorted.sort_by_key(|name| ["first", "dropped", "last"].iter().position(|n| n == name));
            assert_eq!(commands, sorted, "in the order in which they were begun");
            assert!(times(&commands, "dropped") <= 1, "{commands:?}");
            if awaits == 0 {
                assert_eq!(times(&commands, "dropped"), 0, "it was never polled");
            }
            if outcome.is_some() {
                assert_eq!(times(&commands, "dropped"), 1);
                break;
            }
            awaits += 1;
        }
        assert!(awaits >= AWAITS_MIN, "{awaits}");
    }
}

#[cfg(feature = "serde")]
#[tokio::test(start_paused = true)]
async fn a_typed_command_or_read_whose_caller_is_gone_leaves_the_state_to_others() {
    use raft_tokio::{
        MemoryLogStore, MemoryNetwork, RaftConfig, ReplicaStatus, SerdeMachine, TypedRaft,
    };

    use crate::support::node_id;

    #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    struct Sum(u64);

    impl SerdeMachine for Sum {
        type Command = u64;
        type Reply = u64;

        fn apply(&mut self, by: u64) -> u64 {
            self.0 += by;
            self.0
        }
    }

    for when in [Dropped::Waiting, Dropped::Woken] {
        let (mut awaits, mut done) = (0, 0);
        while done < 3 {
            done = 0;
            let config = RaftConfig::new(node_id(1), vec![node_id(1)]);
            let log = MemoryLogStore::new();
            let network = MemoryNetwork::new();
            let start = || {
                let transport = network.join(node_id(1));
                TypedRaft::start(config.clone(), Sum::default(), log.clone(), transport)
            };
            let started = drop_at_await(awaits, when, start()).await;
            done += u8::from(started.is_some());
            drop(started);
            // What was begun is no obstacle to another attempt.
            let raft = start().await.unwrap();
            raft.raft()
                .wait_for(ReplicaStatus::is_leader)
                .await
                .unwrap();
            let proposed = drop_at_await(awaits, when, raft.propose(&1)).await;
            done += u8::from(proposed.is_some());
            let read = drop_at_await(awaits, when, raft.read(|sum| sum.0)).await;
            done += u8::from(read.is_some());
            let sum = raft.propose(&10).await.unwrap();
            assert!([10, 11].contains(&sum), "{sum}");
            if let Some(reply) = proposed {
                assert_eq!((reply, sum), (Ok(1), 11));
            }
            assert_eq!(raft.read(|sum| sum.0).await, Ok(sum));
            assert!(raft.raft().status().applied > LogIndex::ZERO);
            raft.raft().shutdown().await;
            awaits += 1;
        }
        assert!(awaits >= 2, "{awaits}");
    }
}

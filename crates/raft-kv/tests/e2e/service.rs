//! Nodes, clients, and what survives which deaths.

use std::net::SocketAddr;
use std::time::Duration;

use futures::stream::{FuturesOrdered, StreamExt};

use crate::support::{TestCluster, http_page, raw_exchange};
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a client waits for a reply: longer than a server tries for one.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) async fn connect(address: SocketAddr) -> redis::RedisResult<MultiplexedConnection> {
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(2)))
        .set_response_timeout(Some(PATIENCE));
    redis::Client::open(format!("redis://{address}/"))?
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// Sets keys of its own, one after the other, at whichever node answers, until
/// told to stop; which of them were acknowledged.
async fn write_until_stopped(
    writer: usize,
    addresses: Vec<SocketAddr>,
    stop: watch::Receiver<bool>,
) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut connection = None;
    for number in 0_u64.. {
        if *stop.borrow() {
            break;
        }
        let node = (writer + usize::try_from(number).unwrap()) % addresses.len();
        if connection.is_none() {
            connection = connect(addresses[node]).await.ok();
        }
        let Some(open) = &mut connection else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let key = format!("writer-{writer}:{number}");
        let set: redis::RedisResult<()> = redis::cmd("SET")
            .arg(&key)
            .arg(number)
            .query_async(open)
            .await;
        match set {
            Ok(()) => acknowledged.push(key),
            Err(_) => connection = None,
        }
    }
    acknowledged
}

pub(crate) async fn assert_readable(address: SocketAddr, keys: &[String]) {
    let mut connection = connect(address).await.unwrap();
    for keys in keys.chunks(500) {
        let values: Vec<Option<u64>> = redis::cmd("MGET")
            .arg(keys)
            .query_async(&mut connection)
            .await
            .unwrap();
        for (key, value) in keys.iter().zip(values) {
            let number = key.rsplit(':').next().unwrap().parse().ok();
            assert_eq!(value, number, "{key} was acknowledged");
        }
    }
}

#[tokio::test]
async fn acknowledged_writes_survive_killed_leaders_and_a_killed_cluster() {
    let mut cluster = TestCluster::start(3).await;
    let addresses = cluster.nodes.client_addresses();
    let (stop, stopped) = watch::channel(false);
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        writers.spawn(write_until_stopped(
            writer,
            addresses.clone(),
            stopped.clone(),
        ));
    }
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let leadership = cluster.nodes.wait_until_ready().await.unwrap();
        let leader = usize::try_from(leadership.leader - 1).unwrap();
        cluster.nodes.kill(leader).await;
        // The others elect a leader and go on.
        cluster.nodes.wait_until_ready().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.nodes.spawn(leader).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.nodes.kill_all().await;
    stop.send(true).unwrap();
    let acknowledged = writers.join_all().await.concat();
    assert!(
        acknowledged.len() > 100,
        "only {} writes",
        acknowledged.len()
    );

    for at in 0..cluster.nodes.len() {
        cluster.nodes.spawn(at).unwrap();
    }
    cluster.nodes.wait_until_ready().await.unwrap();
    for address in addresses {
        assert_readable(address, &acknowledged).await;
    }
}

/// What a client saw of the number that only it increments.
#[derive(Debug, Default)]
struct Counted {
    /// The last sum that was answered.
    sum: i64,
    /// How many increments were answered.
    answered: i64,
    /// How often the connection broke.
    breaks: u64,
    /// How many increments may have been done, or may still be, without an answer.
    unheard: i64,
}

/// Increments a number of its own until told to stop, in pipelines of which four
/// are under way at any time. Every reply has to be the sum that comes next,
/// except behind a connection that broke, where up to a whole pipeline of
/// increments may have been done that nobody heard of.
async fn count_until_stopped(
    client: usize,
    address: SocketAddr,
    stop: watch::Receiver<bool>,
) -> Counted {
    const PIPELINES: usize = 4;
    const INCREMENTS: usize = 5;
    let key = format!("counter-{client}");
    let mut pipeline = redis::pipe();
    for _ in 0..INCREMENTS {
        pipeline.cmd("INCR").arg(&key);
    }
    let mut counted = Counted::default();
    while !*stop.borrow() {
        let Ok(open) = connect(address).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let mut under_way = FuturesOrdered::new();
        'connection: loop {
            while under_way.len() < PIPELINES && !*stop.borrow() {
                let (pipeline, mut open) = (pipeline.clone(), open.clone());
                under_way.push_back(async move {
                    let replies: redis::RedisResult<Vec<i64>> =
                        pipeline.query_async(&mut open).await;
                    replies
                });
            }
            let Some(replies) = under_way.next().await else {
                break;
            };
            match replies {
                Ok(sums) => {
                    for sum in sums {
                        let unheard = sum - counted.sum - 1;
                        assert!(
                            (0..=counted.unheard).contains(&unheard),
                            "client {client}: {sum} after {counted:?}"
                        );
                        counted.unheard -= unheard;
                        counted.sum = sum;
                        counted.answered += 1;
                    }
                }
                // Whatever a server says in its own words is no excuse.
                Err(error) if error.is_io_error() && !error.is_timeout() => {
                    counted.unheard += i64::try_from(PIPELINES * INCREMENTS).unwrap();
                    counted.breaks += 1;
                    break 'connection;
                }
                Err(error) => panic!("client {client}: {error}"),
            }
        }
    }
    counted
}

#[tokio::test]
async fn increments_are_done_once_and_in_order_while_leaders_are_killed() {
    let mut cluster = TestCluster::start(3).await;
    let addresses = cluster.nodes.client_addresses();
    let (stop, stopped) = watch::channel(false);
    let mut clients = Vec::new();
    for client in 0..6 {
        let address = addresses[client % addresses.len()];
        clients.push(tokio::spawn(count_until_stopped(
            client,
            address,
            stopped.clone(),
        )));
    }
    let mut kills = vec![0; addresses.len()];
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let leadership = cluster.nodes.wait_until_ready().await.unwrap();
        let leader = usize::try_from(leadership.leader - 1).unwrap();
        cluster.nodes.kill(leader).await;
        kills[leader] += 1;
        // The others elect a leader and go on.
        cluster.nodes.wait_until_ready().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.nodes.spawn(leader).unwrap();
    }
    cluster.nodes.wait_until_ready().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send(true).unwrap();
    let mut reader = connect(addresses[0]).await.unwrap();
    for (client, task) in clients.into_iter().enumerate() {
        let counted = task.await.unwrap();
        let node = client % addresses.len();
        assert!(counted.answered > 20, "client {client}: {counted:?}");
        assert!(
            counted.breaks <= kills[node],
            "client {client}: {counted:?}"
        );
        if kills[node] == 0 {
            assert_eq!(counted.sum, counted.answered, "client {client}");
        }
        let sum: i64 = redis::cmd("GET")
            .arg(format!("counter-{client}"))
            .query_async(&mut reader)
            .await
            .unwrap();
        let unheard = sum - counted.sum;
        assert!(
            (0..=counted.unheard).contains(&unheard),
            "client {client}: {sum} after {counted:?}"
        );
    }
}

#[tokio::test]
async fn every_node_answers_a_published_client() {
    let cluster = TestCluster::start(3).await;
    for (at, address) in cluster.nodes.client_addresses().into_iter().enumerate() {
        let mut connection = connect(address).await.unwrap();
        let key = format!("key-{at}");
        let (set, again, old, appended, len, count, sum, removed): (
            String,
            Option<String>,
            String,
            u64,
            u64,
            u64,
            i64,
            u64,
        ) = redis::pipe()
            .cmd("SET")
            .arg(&key)
            .arg("one")
            .cmd("SET")
            .arg(&key)
            .arg("two")
            .arg("NX")
            .cmd("SET")
            .arg(&key)
            .arg("three")
            .arg("GET")
            .cmd("APPEND")
            .arg(&key)
            .arg("!")
            .cmd("STRLEN")
            .arg(&key)
            .cmd("EXISTS")
            .arg(&key)
            .arg("nothing")
            .cmd("DECRBY")
            .arg("number")
            .arg(7)
            .cmd("DEL")
            .arg("number")
            .arg("nothing")
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!((set.as_str(), again), ("OK", None));
        assert_eq!((old.as_str(), appended, len, count), ("one", 6, 6, 1));
        assert_eq!((sum, removed), (-7, 1));
        let keys: u64 = redis::cmd("DBSIZE")
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(keys, at as u64 + 1);
    }
}

#[tokio::test]
async fn what_one_node_acknowledged_every_node_reads() {
    let cluster = TestCluster::start(3).await;
    let mut connections = Vec::new();
    for address in cluster.nodes.client_addresses() {
        connections.push(connect(address).await.unwrap());
    }
    for number in 0..60_usize {
        let writer = &mut connections[number % 3];
        let sum: usize = redis::cmd("INCR")
            .arg("n")
            .query_async(writer)
            .await
            .unwrap();
        assert_eq!(sum, number + 1, "nothing is done twice");
        for reader in &mut connections {
            let read: usize = redis::cmd("GET")
                .arg("n")
                .query_async(reader)
                .await
                .unwrap();
            assert_eq!(read, sum);
        }
    }
}

#[tokio::test]
async fn bad_input_is_answered_and_harms_nobody() {
    let cluster = TestCluster::start(1).await;
    let address = cluster.nodes.client_addresses()[0];
    let mut bystander = connect(address).await.unwrap();
    for (input, expected) in [
        (&b"FLY me\r\n"[..], "-ERR unknown command 'FLY'"),
        (b"GET\r\n", "-ERR wrong number of arguments for 'get'"),
        (
            b"SET k v EX 10\r\n",
            "-ERR the option EX of SET is not supported",
        ),
        (
            b"*1\r\n$536870912\r\n",
            "-ERR Protocol error: argument too large",
        ),
        (b"*99999999\r\n", "-ERR Protocol error: too many arguments"),
        (b"*1\r\n!\r\n", "-ERR Protocol error: expected '$', got '!'"),
        (b"\x00\xff\xfe\r\n", "-ERR unknown command"),
        (b"HELLO 3\r\n", "-NOPROTO"),
    ] {
        let answer = raw_exchange(address, input).await;
        assert!(answer.starts_with(expected), "{input:?}: {answer}");
    }
    // Half a request, and none: there is nothing to answer.
    for input in [&b"*2\r\n$3\r\nGET\r\n$100\r\nhalf"[..], b""] {
        assert_eq!(raw_exchange(address, input).await, "");
    }
    // More than a client may send: it is told so although it goes on sending.
    let large = [
        &b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8388608\r\n"[..],
        &vec![b'v'; 8 << 20],
    ]
    .concat();
    let answer = raw_exchange(address, &large).await;
    assert!(
        answer.starts_with("-ERR Protocol error: argument too large"),
        "{answer}"
    );
    let pong: String = redis::cmd("PING")
        .query_async(&mut bystander)
        .await
        .unwrap();
    assert_eq!(pong, "PONG");
    let set: redis::RedisResult<()> = redis::cmd("INCRBY")
        .arg("n")
        .arg("much")
        .query_async(&mut bystander)
        .await;
    assert!(set.unwrap_err().to_string().contains("not an integer"));
}

/// A pipeline of some hundred bytes that asks for six gigabytes.
#[tokio::test]
async fn what_a_pipeline_asks_for_is_bounded_and_answered_by_every_node() {
    let cluster = TestCluster::start(3).await;
    let addresses = cluster.nodes.client_addresses();
    let mut client = connect(addresses[0]).await.unwrap();
    let value = vec![b'v'; 1 << 20];
    let set: redis::RedisResult<()> = redis::cmd("SET")
        .arg("m")
        .arg(&value)
        .query_async(&mut client)
        .await;
    set.unwrap();
    let many = format!("MGET{}\r\n", " m".repeat(30));
    let writes = format!("INCR n\r\n{}INCR n\r\n", many.repeat(200));
    for (number, address) in (1..).zip(&addresses) {
        let answer = raw_exchange(*address, writes.as_bytes()).await;
        assert!(answer.starts_with(&format!(":{}\r\n*30\r\n", 2 * number - 1)));
        assert!(answer.ends_with(&format!("\r\n:{}\r\n", 2 * number)));
        // How many batches it is depends on how it arrives; each shows one reply.
        let refused = answer.matches("-ERR the values before this one").count();
        assert!((190..200).contains(&refused), "{refused}");
    }
    // What only reads is answered whole, a portion at a time.
    let reads = "GET m\r\n".repeat(60);
    for address in &addresses {
        let answer = raw_exchange(*address, reads.as_bytes()).await;
        assert_eq!(answer.matches("$1048576\r\n").count(), 60);
        assert_eq!(answer.len(), 60 * ((1 << 20) + 12));
    }
}

#[tokio::test]
async fn the_pages_say_what_a_node_does() {
    let cluster = TestCluster::start(3).await;
    let http = cluster.nodes.http_addresses();
    let statuses = raft_kv::operate::status::ask(&http).await;
    assert!(statuses.is_complete(), "{statuses}");
    let leaders: Vec<_> = statuses
        .nodes
        .iter()
        .filter_map(|node| node.status.as_ref()?.leader)
        .collect();
    assert_eq!(leaders.len(), 3);
    assert!(leaders.iter().all(|leader| *leader == leaders[0]));

    let page = |path: &'static str| http_page(http[0], path);
    assert!(page("/livez").await.starts_with("HTTP/1.0 200"));
    assert!(page("/readyz").await.starts_with("HTTP/1.0 200"));
    assert!(page("/metrics").await.contains("\nraft_has_leader 1\n"));
    let nothing = page("/nothing").await;
    assert!(nothing.starts_with("HTTP/1.0 404"), "{nothing}");
    assert!(nothing.contains("there are /status, /metrics"), "{nothing}");
    for node in &statuses.nodes {
        let page = node.status.as_ref().expect("complete");
        assert!(page.live && page.ready && page.unfit.is_empty(), "{page:?}");
    }
}

#[tokio::test]
async fn the_pages_say_what_is_wrong_with_a_node() {
    let mut cluster = TestCluster::start(3).await;
    cluster.nodes.wait_until_ready().await.unwrap();
    let http = cluster.nodes.http_addresses()[0];
    cluster.nodes.kill(1).await;
    cluster.nodes.kill(2).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let alone = loop {
        let statuses = raft_kv::operate::status::ask(&[http]).await;
        let page = statuses.nodes[0].status.clone().expect("it lives");
        if !page.ready {
            break statuses;
        }
        assert!(Instant::now() < deadline, "{page:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let page = alone.nodes[0].status.as_ref().expect("it lives");
    assert!(page.live, "{page:?}");
    assert_eq!(page.unfit, ["it knows no leader"]);
    assert!(alone.to_string().contains("node 1: it knows no leader"));
    let ready = http_page(http, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.0 503"), "{ready}");
    assert!(ready.ends_with("it knows no leader\n"), "{ready}");
    assert!(http_page(http, "/livez").await.starts_with("HTTP/1.0 200"));
    let metrics = http_page(http, "/metrics").await;
    for line in ["raft_live 1", "raft_ready 0", "raft_disk_stalled 0"] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{metrics}");
    }
}

#[tokio::test]
async fn a_node_that_is_asked_to_stop_hands_over_and_leaves_nothing_behind() {
    let mut cluster = TestCluster::start(3).await;
    let before = cluster.nodes.wait_until_ready().await.unwrap();
    let leader = usize::try_from(before.leader - 1).unwrap();
    let code = cluster.nodes.stop_node(leader).await;
    assert_eq!(code, Some(0), "{}", cluster.log(leader));
    let after = cluster.nodes.wait_until_ready().await.unwrap();
    assert_ne!(before.leader, after.leader);
    // The folder and the ports are free at once.
    cluster.nodes.spawn(leader).unwrap();
    cluster.nodes.wait_until_ready().await.unwrap();
}

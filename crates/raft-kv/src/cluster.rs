//! # A cluster of child processes
//!
//! Owns `raft-kv serve` processes on loopback and the folders with their logs:
//! what the demo, the bench and the tests run against. They are real processes,
//! so that killing one is what it is anywhere else.
//!
//! The children watch their standard input and leave when it ends, so none
//! outlives this process, however that ends.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::client::Client;
use crate::resp::Reply;

/// How long a cluster may take to elect a leader after it was started.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How long a node may take to stop.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);
/// How often the children are asked whether they are there yet.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What to run.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// The raft-kv program.
    pub program: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// Where their data is; a folder for each node is made in it.
    pub data: PathBuf,
    /// Further arguments for each `raft-kv serve`.
    pub arguments: Vec<String>,
}

/// The cluster does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// A folder or a file for a node cannot be made.
    #[error("cannot write to {}: {error}; choose another folder for the data", path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The program cannot be started.
    #[error("cannot start {}: {error}", program.display())]
    Program {
        /// Which.
        program: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// No port is free.
    #[error("no port is free on 127.0.0.1: {0}")]
    Ports(io::Error),
    /// A node has left on its own.
    #[error("node {id} has stopped: {said}")]
    NodeStopped {
        /// Which.
        id: u64,
        /// The last line that it wrote.
        said: String,
    },
    /// There is no leader.
    #[error("the nodes did not agree on a leader in {} s; see their logs in {}",
        READY_WITHIN.as_secs(), data.display())]
    NoLeader {
        /// Where the logs are.
        data: PathBuf,
    },
}

/// Who leads, as a node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The term.
    pub term: u64,
    /// The leader's id.
    pub leader: u64,
}

#[derive(Debug)]
struct Member {
    id: u64,
    peers: SocketAddr,
    clients: SocketAddr,
    http: SocketAddr,
    origin: Origin,
    process: Option<Child>,
}

/// How a node came into the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// It began it.
    Founder,
    /// It is to be added.
    Joiner,
}

/// Processes that together are one cluster. Killed when this is dropped.
#[derive(Debug)]
pub struct LocalCluster {
    plan: ClusterPlan,
    cluster_id: u128,
    members: Vec<Member>,
}

impl LocalCluster {
    /// Starts the nodes and waits until they have a leader.
    ///
    /// # Errors
    /// They cannot be started, or find no leader.
    ///
    /// # Cancel safety
    /// If it is cancelled, the nodes are killed.
    pub async fn start(plan: ClusterPlan) -> Result<Self, ClusterError> {
        let members = new_members(1, plan.nodes, Origin::Founder)?;
        let mut cluster = Self {
            plan,
            cluster_id: u128::from(RandomState::new().hash_one("cluster")),
            members,
        };
        for at in 0..cluster.members.len() {
            cluster.spawn(at)?;
        }
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    /// Starts one more node, which is to be added by whoever calls this; its place.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn join(&mut self) -> Result<usize, ClusterError> {
        let at = self.members.len();
        let joiner = new_members(at as u64 + 1, 1, Origin::Joiner)?;
        self.members.extend(joiner);
        self.spawn(at)?;
        Ok(at)
    }

    /// How many nodes there are, running or not.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Where the nodes take clients.
    pub fn client_addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.clients).collect()
    }

    /// Where the nodes take other nodes.
    pub fn peer_addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.peers).collect()
    }

    /// Where the nodes answer over HTTP.
    pub fn http_addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.http).collect()
    }

    /// Where the data of all nodes is.
    pub fn data(&self) -> &Path {
        &self.plan.data
    }

    /// The folder of the node at this place.
    pub fn node_data(&self, at: usize) -> PathBuf {
        self.plan.data.join(format!("node-{}", self.members[at].id))
    }

    /// The arguments with which the node at this place runs.
    pub fn node_arguments(&self, at: usize) -> Vec<String> {
        let member = &self.members[at];
        let mut arguments = vec![
            "serve".to_owned(),
            format!("--id={}", member.id),
            format!("--cluster-id={:x}", self.cluster_id),
            format!("--data={}", self.node_data(at).display()),
            format!("--listen-peer={}", member.peers),
            format!("--listen-client={}", member.clients),
            format!("--listen-http={}", member.http),
        ];
        // Those that came later are told by the cluster.
        let founders = |peer: &&Member| peer.origin == Origin::Founder;
        for peer in self.members.iter().filter(founders) {
            arguments.push(format!("--peer={}={}", peer.id, peer.peers));
        }
        if member.origin == Origin::Joiner {
            arguments.push("--join".to_owned());
        }
        arguments.extend(self.plan.arguments.iter().cloned());
        arguments
    }

    /// Starts the node at this place.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&mut self, at: usize) -> Result<(), ClusterError> {
        let log_path = self.log_path(at);
        let data_error = |error| ClusterError::Data {
            path: log_path.clone(),
            error,
        };
        fs::create_dir_all(&self.plan.data).map_err(data_error)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(data_error)?;
        let process = Command::new(&self.plan.program)
            .args(self.node_arguments(at))
            .arg("--until-stdin-ends")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| ClusterError::Program {
                program: self.plan.program.clone(),
                error,
            })?;
        self.members[at].process = Some(process);
        Ok(())
    }

    /// Kills the node at this place (`SIGKILL`): it gets no chance to write
    /// anything. Returns when it is gone.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the node is killed all the same.
    pub async fn kill(&mut self, at: usize) {
        if let Some(mut process) = self.members[at].process.take() {
            // It can only fail if the process has left already.
            let _ = process.kill().await;
        }
    }

    /// Kills all nodes at once.
    ///
    /// # Cancel safety
    /// Dropped while it waits, all of them are killed all the same.
    pub async fn kill_all(&mut self) {
        for member in &mut self.members {
            if let Some(process) = &mut member.process {
                let _ = process.start_kill();
            }
        }
        for at in 0..self.members.len() {
            self.kill(at).await;
        }
    }

    /// Asks the node at this place to stop and waits until it has; the code with
    /// which it left, if it did so on its own and in time.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the node is killed.
    pub async fn stop_node(&mut self, at: usize) -> Option<i32> {
        let mut process = self.members[at].process.take()?;
        drop(process.stdin.take());
        // Whoever is still there is killed when this is dropped.
        let status = timeout(STOPPED_WITHIN, process.wait()).await.ok()?;
        status.ok()?.code()
    }

    /// Asks all nodes to stop and waits until they have.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the nodes are killed.
    pub async fn stop(mut self) {
        for member in &mut self.members {
            if let Some(process) = &mut member.process {
                drop(process.stdin.take());
            }
        }
        for member in &mut self.members {
            if let Some(process) = &mut member.process {
                // Whoever is still there is killed when this is dropped.
                let _ = timeout(STOPPED_WITHIN, process.wait()).await;
            }
        }
    }

    /// Waits until all nodes that run know the same leader, and it is one of
    /// them.
    ///
    /// # Errors
    /// One of them has stopped, or they do not agree in time.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wait_until_ready(&mut self) -> Result<Leadership, ClusterError> {
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            self.check_processes()?;
            if let Some(leadership) = self.agreed_leadership().await {
                return Ok(leadership);
            }
            sleep(ASK_EVERY).await;
        }
        Err(ClusterError::NoLeader {
            data: self.plan.data.clone(),
        })
    }

    /// The place of the leader, if the running nodes agree on one.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn leader(&self) -> Option<usize> {
        let leadership = self.agreed_leadership().await?;
        self.members
            .iter()
            .position(|member| member.id == leadership.leader)
    }

    async fn agreed_leadership(&self) -> Option<Leadership> {
        let mut agreed: Option<Leadership> = None;
        for member in self
            .members
            .iter()
            .filter(|member| member.process.is_some())
        {
            let seen = leadership_at(member.clients).await?;
            if agreed.is_some_and(|agreed| agreed != seen) {
                return None;
            }
            agreed = Some(seen);
        }
        let runs = |id| {
            let runs = |member: &Member| member.id == id && member.process.is_some();
            self.members.iter().any(runs)
        };
        agreed.filter(|agreed| runs(agreed.leader))
    }

    fn check_processes(&mut self) -> Result<(), ClusterError> {
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            let Some(process) = &mut member.process else {
                continue;
            };
            if let Ok(Some(_)) = process.try_wait() {
                let id = member.id;
                member.process = None;
                let log = fs::read_to_string(self.log_path(at)).unwrap_or_default();
                let said = log.lines().last().unwrap_or("it said nothing").to_owned();
                return Err(ClusterError::NodeStopped { id, said });
            }
        }
        Ok(())
    }

    fn log_path(&self, at: usize) -> PathBuf {
        self.plan
            .data
            .join(format!("node-{}.log", self.members[at].id))
    }
}

/// What the node at this address says about who leads; `None` if it says
/// nothing, or knows of nobody.
///
/// # Cancel safety
/// Cancel safe.
pub async fn leadership_at(address: SocketAddr) -> Option<Leadership> {
    let asked = async {
        let mut client = Client::connect(address).await.ok()?;
        client.request(&[b"INFO"]).await.ok()
    };
    let reply = timeout(Duration::from_secs(1), asked).await.ok()??;
    leadership_in(&reply)
}

/// The same, in a reply to `INFO`.
pub fn leadership_in(reply: &Reply) -> Option<Leadership> {
    let Reply::Bulk(text) = reply else {
        return None;
    };
    let text = std::str::from_utf8(text).ok()?;
    let field = |name: &str| {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(':')?.parse().ok();
        text.lines().find_map(value)
    };
    Some(Leadership {
        term: field("raft_term")?,
        leader: field("raft_leader")?,
    })
}

/// Nodes that do not run yet, with addresses of their own.
fn new_members(first_id: u64, count: usize, origin: Origin) -> Result<Vec<Member>, ClusterError> {
    let ports = free_ports(3 * count).map_err(ClusterError::Ports)?;
    let mut ports = ports.into_iter();
    let mut address = || SocketAddr::from((Ipv4Addr::LOCALHOST, ports.next().unwrap_or(0)));
    let members = (first_id..).take(count).map(|id| Member {
        id,
        peers: address(),
        clients: address(),
        http: address(),
        origin,
        process: None,
    });
    Ok(members.collect())
}

/// Ports that are free now. They lie below those that the system gives to
/// outgoing connections, so nobody takes them while a node is down.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    const LOWEST: u16 = 10_000;
    const SPAN: u16 = 20_000;
    let hasher = RandomState::new();
    let mut ports: Vec<u16> = Vec::with_capacity(count);
    let mut last_error = None;
    for attempt in 0..1000_u32 {
        if ports.len() == count {
            return Ok(ports);
        }
        let offset = hasher.hash_one(attempt) % u64::from(SPAN);
        let port = LOWEST + u16::try_from(offset).unwrap_or(0);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) if !ports.contains(&port) => ports.push(port),
            Ok(_) => {}
            Err(error) => last_error = Some(error),
        }
    }
    Err(last_error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

//! # `raft-kv demo`
//!
//! Real nodes in processes of their own, a load of writes and reads, the leader
//! killed and brought back again and again, at the end all nodes killed at once:
//! and then the check that everything that was acknowledged is there.
//!
//! What counts as a fault is in `load.rs`, where each reply is checked, in
//! `check.rs`, where everything is read back, and in
//! `report.rs`, where the result is judged.

mod availability;
mod check;
mod load;
mod report;
mod tally;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::Client;
use crate::cluster::{ClusterError, ClusterPlan, LocalCluster, leadership_in};
use crate::units::whole_ms;
use load::{LoadClient, Shared};
pub use report::DemoReport;
use tally::Tally;

/// How often the leader is killed, at most.
const KILL_EVERY: Duration = Duration::from_secs(4);
/// How often nodes are asked who leads.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What to show meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    /// A progress bar where there is a terminal, else lines.
    Bar,
    /// Lines.
    Lines,
    /// Nothing.
    Nothing,
}

/// What to do.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The raft-kv program.
    pub program: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// How long the load lasts, in seconds.
    pub seconds: u64,
    /// How many clients make it.
    pub clients: usize,
    /// What to show meanwhile.
    pub display: Display,
    /// Whether the nodes' folders and logs stay.
    pub keep_data: bool,
}

/// The demo could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// There is no folder for the nodes.
    #[error("cannot make a temporary folder: {0}; set TMPDIR to one that can be written")]
    Folder(std::io::Error),
    /// The nodes do not run.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// What was written could not be read back: there was no answer.
    #[error("the nodes did not answer the final check: {0}")]
    Check(String),
}

/// Says what happens, as it was asked to.
struct Narrator {
    bar: Option<ProgressBar>,
    lines: bool,
}

impl Narrator {
    fn new(display: Display, length: Duration) -> Self {
        let bar = (display == Display::Bar).then(|| ProgressBar::new(whole_ms(length)));
        let bar = bar.filter(|bar| !bar.is_hidden());
        if let Some(bar) = &bar {
            let template = "{bar:40.cyan/blue} {elapsed_precise}  {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
        }
        Self {
            lines: bar.is_none() && display != Display::Nothing,
            bar,
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None if self.lines => println!("{line}"),
            None => {}
        }
    }

    fn progress(&self, elapsed: Duration, shared: &Shared) {
        if let Some(bar) = &self.bar {
            bar.set_position(whole_ms(elapsed));
            let writes = shared.writes_acknowledged.load(Ordering::Relaxed);
            let reads = shared.reads_answered.load(Ordering::Relaxed);
            bar.set_message(format!("{writes} writes acknowledged, {reads} reads"));
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Carries the demo out.
///
/// # Errors
/// The nodes cannot be started, or do not come back. Lost writes are no error
/// of this function, but a finding: see [`DemoReport::is_sound`].
///
/// # Cancel safety
/// If it is cancelled, the nodes are killed.
pub async fn run(options: DemoOptions) -> Result<DemoReport, DemoError> {
    let folder = TempDir::with_prefix("raft-kv-demo-").map_err(DemoError::Folder)?;
    let data = if options.keep_data {
        folder.keep()
    } else {
        folder.path().to_owned()
    };
    let length = Duration::from_secs(options.seconds);
    let narrator = Narrator::new(options.display, length);
    narrator.say(&format!(
        "Starting {} nodes; their logs are in {}.",
        options.nodes,
        data.display()
    ));
    let mut cluster = LocalCluster::start(ClusterPlan {
        program: options.program.clone(),
        nodes: options.nodes,
        data: data.clone(),
        // Snapshots happen too, within seconds.
        arguments: vec!["--snapshot-entries=20000".to_owned()],
    })
    .await?;

    let shared = Arc::new(Shared::new(cluster.client_addresses()));
    let mut clients = JoinSet::new();
    for number in 0..options.clients {
        clients.spawn(LoadClient::new(number, shared.clone()).run());
    }
    let elections_seen = tokio::spawn(watch_leaders(shared.clone()));

    let started = Instant::now();
    let kills = disturb(&mut cluster, &narrator, &shared, started, length).await?;
    let load_time = started.elapsed();
    shared.stop();
    let mut tally = Tally::default();
    while let Some(client) = clients.join_next().await {
        match client {
            Ok(client) => tally.add(client),
            Err(error) => return Err(DemoError::Check(format!("a client failed: {error}"))),
        }
    }
    let elections = elections_seen.await.unwrap_or(0);

    narrator.say("Killing all nodes at once and starting them again.");
    cluster.kill_all().await;
    for at in 0..cluster.len() {
        cluster.spawn(at)?;
    }
    cluster.wait_until_ready().await?;
    narrator.say("Reading everything back.");
    check::check_final_state(&mut tally, &shared)
        .await
        .map_err(|error| DemoError::Check(error.to_string()))?;
    cluster.stop().await;
    narrator.finish();
    Ok(DemoReport::new(
        &tally,
        &report::Circumstances {
            nodes: options.nodes,
            clients: options.clients,
            kills,
            elections,
            load_time,
            longest_unavailable: shared.longest_unavailable(),
            data_kept: options.keep_data.then_some(data),
        },
    ))
}

/// Kills the leader and brings it back until the time is over; how often.
async fn disturb(
    cluster: &mut LocalCluster,
    narrator: &Narrator,
    shared: &Shared,
    started: Instant,
    length: Duration,
) -> Result<u64, ClusterError> {
    let round = KILL_EVERY.min(length / 2).max(Duration::from_secs(1));
    let rounds = u32::try_from(length.as_millis() / round.as_millis()).unwrap_or(u32::MAX);
    let mut kills = 0;
    for number in 0..rounds {
        let begins = started + round * number;
        wait_until(begins + round * 3 / 10, started, narrator, shared).await;
        let Some(leader) = cluster.leader().await else {
            narrator.say("There is no leader to kill at the moment.");
            continue;
        };
        narrator.say(&format!("Killing node {}, the leader.", leader + 1));
        cluster.kill(leader).await;
        kills += 1;
        wait_until(begins + round * 7 / 10, started, narrator, shared).await;
        narrator.say(&format!("Starting node {} again.", leader + 1));
        cluster.spawn(leader)?;
    }
    wait_until(started + length, started, narrator, shared).await;
    Ok(kills)
}

async fn wait_until(until: Instant, started: Instant, narrator: &Narrator, shared: &Shared) {
    while Instant::now() < until {
        narrator.progress(started.elapsed(), shared);
        sleep_until(until.min(Instant::now() + LOOK_EVERY)).await;
    }
}

/// Asks the nodes who leads until the load stops; how many leaders there were
/// after the first.
async fn watch_leaders(shared: Arc<Shared>) -> u64 {
    let mut connections: Vec<Option<Client>> = shared.addresses.iter().map(|_| None).collect();
    let mut last_term = None;
    let mut elections = 0;
    while !shared.is_stopped() {
        for (connection, &address) in connections.iter_mut().zip(&shared.addresses) {
            let asked = async {
                let mut client = match connection.take() {
                    Some(client) => client,
                    None => Client::connect(address).await.ok()?,
                };
                let reply = client.request(&[b"INFO"]).await.ok()?;
                *connection = Some(client);
                leadership_in(&reply)
            };
            let seen = tokio::time::timeout(LOOK_EVERY, asked).await;
            if let Ok(Some(seen)) = seen
                && last_term.is_none_or(|last| seen.term > last)
            {
                elections += u64::from(last_term.is_some());
                last_term = Some(seen.term);
            }
        }
        sleep(LOOK_EVERY).await;
    }
    elections
}

//! # What a node shows over HTTP
//!
//! `/status` for people and scripts, `/metrics` for Prometheus, `/livez` and
//! `/readyz` for whoever restarts nodes. Reads the replica's status and counts,
//! and changes nothing.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use raft_tokio::{ConfState, Flow, Health, MetricKind, NodeId, ReplicaStatus, Unfit};
use serde::{Deserialize, Serialize};

use crate::replica::{ReplicaBackend, role_name};

/// What a node says that has nothing to complain of.
const FINE: &str = "ok\n";

/// What a node says about itself under `/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusPage {
    /// The node.
    pub id: u64,
    /// `follower`, `pre-candidate`, `candidate` or `leader`.
    pub role: String,
    /// The current term.
    pub term: u64,
    /// Who leads, if that is known.
    pub leader: Option<u64>,
    /// The highest index known to be committed.
    pub commit: u64,
    /// The last index that was applied.
    pub applied: u64,
    /// The first index in the log.
    pub first_index: u64,
    /// The last index in the log.
    pub last_index: u64,
    /// The last index that the latest snapshot covers.
    pub snapshot_index: u64,
    /// How often another leader was seen since the node started.
    pub leader_changes: u64,
    /// The voters.
    pub voters: Vec<u64>,
    /// The voters of the old half of a joint configuration.
    pub voters_outgoing: Vec<u64>,
    /// The learners.
    pub learners: Vec<u64>,
    /// What a leader knows of the members; empty on others.
    pub progress: Vec<ProgressRow>,
    /// Why the replica has stopped, if it has.
    pub stopped: Option<String>,
    /// Whether the replica can go on by itself: what `/livez` says.
    pub live: bool,
    /// Whether requests to it make sense: what `/readyz` says.
    pub ready: bool,
    /// Everything that is wrong, a sentence each; empty if nothing is.
    pub unfit: Vec<String>,
}

/// What a leader knows of one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressRow {
    /// The member.
    pub id: u64,
    /// The last index known to be in its log.
    pub matched: u64,
    /// The next index to send.
    pub next: u64,
    /// `probe`, `replicate` or `snapshot`.
    pub flow: String,
    /// Whether it was heard of since the leader looked last, once in an election
    /// timeout.
    pub recent_active: bool,
    /// Whether it was not heard of for an election timeout or longer.
    pub silent: bool,
    /// Whether it is a learner.
    pub is_learner: bool,
    /// Append messages on their way to it.
    pub inflight_messages: usize,
}

impl StatusPage {
    /// Whether the node leads.
    pub fn is_leader(&self) -> bool {
        self.leader == Some(self.id) && self.role == "leader"
    }
}

impl From<ReplicaStatus> for StatusPage {
    fn from(status: ReplicaStatus) -> Self {
        let numbers = |ids: &[NodeId]| ids.iter().map(|id| id.get()).collect::<Vec<_>>();
        let ConfState {
            voters,
            learners,
            voters_outgoing,
            ..
        } = &status.conf_state;
        let health = status.health();
        let progress = status.progress.iter().map(|(id, progress)| ProgressRow {
            id: id.get(),
            matched: progress.matched.get(),
            next: progress.next.get(),
            flow: flow_name(&progress.flow).to_owned(),
            recent_active: progress.recent_active,
            silent: progress.is_silent,
            is_learner: progress.is_learner,
            inflight_messages: progress.inflight_messages,
        });
        Self {
            id: status.id.get(),
            role: role_name(&status).to_owned(),
            term: status.term.get(),
            leader: status.leader.map(NodeId::get),
            commit: status.commit.get(),
            applied: status.applied.get(),
            first_index: status.first_index.get(),
            last_index: status.last_index.get(),
            snapshot_index: status.snapshot_index.get(),
            leader_changes: status.leader_changes,
            voters: numbers(voters),
            voters_outgoing: numbers(voters_outgoing),
            learners: numbers(learners),
            progress: progress.collect(),
            live: health.is_live(),
            ready: health.is_ready(),
            unfit: health.reasons.iter().map(Unfit::to_string).collect(),
            stopped: status.stopped.map(|reason| reason.to_string()),
        }
    }
}

fn flow_name(flow: &Flow) -> &'static str {
    match flow {
        Flow::Probe => "probe",
        Flow::Replicate => "replicate",
        Flow::Snapshot { .. } => "snapshot",
    }
}

/// The pages.
pub(crate) fn router(backend: ReplicaBackend) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .fallback(no_such_page)
        .with_state(backend)
}

async fn no_such_page() -> (StatusCode, &'static str) {
    let pages = "there is no such page; there are /status, /metrics, /livez and /readyz, \
                 and /members for orders\n";
    (StatusCode::NOT_FOUND, pages)
}

async fn status(State(backend): State<ReplicaBackend>) -> Json<StatusPage> {
    Json(backend.status().into())
}

async fn alive(State(backend): State<ReplicaBackend>) -> (StatusCode, String) {
    let health = backend.status().health();
    if health.is_live() {
        (StatusCode::OK, FINE.to_owned())
    } else {
        unfit(&health)
    }
}

async fn ready(State(backend): State<ReplicaBackend>) -> (StatusCode, String) {
    let health = backend.status().health();
    if health.is_ready() {
        (StatusCode::OK, FINE.to_owned())
    } else {
        unfit(&health)
    }
}

/// Everything that is wrong, a line for each.
fn unfit(health: &Health) -> (StatusCode, String) {
    let lines = health.reasons.iter().map(|reason| format!("{reason}\n"));
    (StatusCode::SERVICE_UNAVAILABLE, lines.collect())
}

async fn metrics(State(backend): State<ReplicaBackend>) -> impl IntoResponse {
    let text = metrics_text(&backend);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// What the replica says of itself, and what this service adds.
fn metrics_text(backend: &ReplicaBackend) -> String {
    let status = backend.status();
    let counts = backend.counts();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let own = [
        (
            "raft_kv_writes_pending",
            "Batches of writes of this node's clients under way.",
            MetricKind::Gauge,
            count(&counts.writes_pending),
        ),
        (
            "raft_kv_writes_failed_total",
            "Batches of writes of this node's clients that failed.",
            MetricKind::Counter,
            count(&counts.writes_failed),
        ),
        (
            "raft_kv_reads_pending",
            "Batches of reads of this node's clients under way.",
            MetricKind::Gauge,
            count(&counts.reads_pending),
        ),
        (
            "raft_kv_reads_failed_total",
            "Batches of reads of this node's clients that failed.",
            MetricKind::Counter,
            count(&counts.reads_failed),
        ),
        (
            "raft_kv_client_bytes",
            "What this node's clients have sent and not taken yet, in bytes.",
            MetricKind::Gauge,
            u64::try_from(backend.client_bytes()).unwrap_or(u64::MAX),
        ),
    ];
    let mut text = String::new();
    let mut latest = "";
    let metrics = status.metrics();
    let of_replica = metrics.iter().map(|metric| {
        (
            metric.name,
            metric.help,
            metric.kind,
            metric.value,
            metric.to,
        )
    });
    let of_service = own
        .into_iter()
        .map(|(name, help, kind, value)| (name, help, kind, value, None));
    for (name, help, kind, value, to) in of_replica.chain(of_service) {
        // Writing to a string cannot fail.
        if name != latest {
            let kind = kind.as_str();
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            latest = name;
        }
        let _ = match to {
            Some(to) => writeln!(text, "{name}{{to=\"{to}\"}} {value}"),
            None => writeln!(text, "{name} {value}"),
        };
    }
    text
}

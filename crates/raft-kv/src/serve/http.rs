//! # What a node shows over HTTP
//!
//! `/status` for people and scripts, `/metrics` for Prometheus, `/livez` and
//! `/readyz` for whoever restarts nodes. Reads the replica's status and counts,
//! and changes nothing.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use raft_tokio::{ConfState, Flow, Health, NodeId, ReplicaStatus};
use serde::{Deserialize, Serialize};

use crate::replica::{ReplicaBackend, role_name};
use crate::units::whole_ms;

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
    /// Whether it was heard of lately.
    pub recent_active: bool,
    /// Whether it is a learner.
    pub is_learner: bool,
    /// Append messages on their way to it.
    pub inflight_messages: usize,
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
        let progress = status.progress.iter().map(|(id, progress)| ProgressRow {
            id: id.get(),
            matched: progress.matched.get(),
            next: progress.next.get(),
            flow: flow_name(&progress.flow).to_owned(),
            recent_active: progress.recent_active,
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
        .with_state(backend)
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

/// The names follow etcd's, with `raft` in the place of `etcd_server`.
fn metrics_text(backend: &ReplicaBackend) -> String {
    let status = backend.status();
    let counts = backend.counts();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let mut text = String::new();
    let mut put = |name: &str, kind: &str, help: &str, value: u64| {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "# HELP raft_{name} {help}\n# TYPE raft_{name} {kind}\nraft_{name} {value}\n"
        );
    };
    put(
        "has_leader",
        "gauge",
        "Whether a leader is known.",
        status.leader.is_some().into(),
    );
    put(
        "is_leader",
        "gauge",
        "Whether this node leads.",
        status.is_leader().into(),
    );
    put(
        "is_learner",
        "gauge",
        "Whether this node is a learner.",
        status.conf_state.learners.contains(&status.id).into(),
    );
    put(
        "leader_changes_seen_total",
        "counter",
        "Changes of leader seen since the start.",
        status.leader_changes,
    );
    put("term", "gauge", "The current term.", status.term.get());
    put(
        "proposals_committed_total",
        "gauge",
        "The last index known to be committed.",
        status.commit.get(),
    );
    put(
        "proposals_applied_total",
        "gauge",
        "The last index that was applied.",
        status.applied.get(),
    );
    put(
        "proposals_pending",
        "gauge",
        "Batches of writes of this node's clients under way.",
        count(&counts.writes_pending),
    );
    put(
        "proposals_failed_total",
        "counter",
        "Batches of writes of this node's clients that failed.",
        count(&counts.writes_failed),
    );
    put(
        "read_indexes_pending",
        "gauge",
        "Batches of reads of this node's clients under way.",
        count(&counts.reads_pending),
    );
    put(
        "read_indexes_failed_total",
        "counter",
        "Batches of reads of this node's clients that failed.",
        count(&counts.reads_failed),
    );
    put(
        "disk_lag_milliseconds",
        "gauge",
        "How long the oldest write has been on its way to the disk.",
        whole_ms(status.disk_lag),
    );
    put(
        "log_first_index",
        "gauge",
        "The first index in the log.",
        status.first_index.get(),
    );
    put(
        "log_last_index",
        "gauge",
        "The last index in the log.",
        status.last_index.get(),
    );
    put(
        "snapshot_index",
        "gauge",
        "The last index that the latest snapshot covers.",
        status.snapshot_index.get(),
    );
    if !status.progress.is_empty() {
        let _ = write!(
            text,
            "# HELP raft_follower_match_index The last index known to be in a member's log.\n\
             # TYPE raft_follower_match_index gauge\n"
        );
        for (id, progress) in &status.progress {
            let _ = writeln!(
                text,
                "raft_follower_match_index{{to=\"{id}\"}} {}",
                progress.matched
            );
        }
    }
    text
}

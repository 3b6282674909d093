//! # Changing the members over HTTP
//!
//! `POST /members` with an order as JSON. Only the leader carries orders out; each
//! is answered when it is in effect, or with the reason why it is not.
//!
//! - Reads: orders of whoever may reach the address for HTTP.
//! - Emits: changes of the members, and of the leader, into the replica.

use std::error::Error;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use raft_tokio::{ChangeMembershipError, ConfState, NodeId, Raft, TransferError};
use serde::{Deserialize, Serialize};

/// Where orders go.
pub(crate) const MEMBERS_PATH: &str = "/members";

/// The longest order that is taken, in bytes: many times the longest that makes
/// sense.
const ORDER_BYTES_MAX: usize = 16 << 10;

/// What an order looks like, for whoever sent something else.
const EXAMPLE: &str =
    r#"send an order such as {"do": "add_learner", "id": 4, "address": "10.0.0.4:7000"}"#;

/// A node's number in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct MemberId(pub NodeId);

impl From<MemberId> for u64 {
    fn from(id: MemberId) -> Self {
        id.0.get()
    }
}

impl TryFrom<u64> for MemberId {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        NodeId::new(number)
            .map(Self)
            .ok_or_else(|| format!("a node id is a number from 1 to {}", NodeId::MAX))
    }
}

/// What the leader is to do, for instance
/// `{"do": "add_learner", "id": 4, "address": "10.0.0.4:7000"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum MemberOrder {
    /// Add a node that gets the log and has no vote.
    AddLearner {
        /// The node.
        id: MemberId,
        /// Where other nodes connect to it.
        address: String,
    },
    /// Give a learner a vote, once it has caught up.
    Promote {
        /// The node.
        id: MemberId,
    },
    /// Remove a node.
    Remove {
        /// The node.
        id: MemberId,
    },
    /// Put a learner in the place of a voter, once it has caught up.
    Replace {
        /// Who leaves.
        old: MemberId,
        /// Who comes.
        new: MemberId,
    },
    /// Reach a node at another address.
    Move {
        /// The node.
        id: MemberId,
        /// Where other nodes connect to it from now on.
        address: String,
    },
    /// Hand leadership over.
    Transfer {
        /// To whom.
        to: MemberId,
    },
}

/// Who is in the cluster, after an order was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The voters.
    pub voters: Vec<u64>,
    /// The learners.
    pub learners: Vec<u64>,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// What to do about it.
    pub kind: ComplaintKind,
    /// A sentence.
    pub error: String,
}

/// What to do about an order that was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComplaintKind {
    /// Ask the leader.
    NotLeader,
    /// Wait, and ask again.
    NotCaughtUp,
    /// Ask for something else.
    Refused,
    /// Look at the members before asking again: it may have happened.
    OutcomeUnknown,
    /// Send an order: this was none.
    Malformed,
}

impl ComplaintKind {
    fn status(self) -> StatusCode {
        match self {
            Self::NotLeader => StatusCode::MISDIRECTED_REQUEST,
            Self::NotCaughtUp => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused => StatusCode::CONFLICT,
            Self::OutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
            Self::Malformed => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<ChangeMembershipError> for Complaint {
    fn from(error: ChangeMembershipError) -> Self {
        let kind = match &error {
            ChangeMembershipError::NotLeader { .. } => ComplaintKind::NotLeader,
            ChangeMembershipError::NotCaughtUp { .. } => ComplaintKind::NotCaughtUp,
            ChangeMembershipError::Propose(error) if error.is_indeterminate() => {
                ComplaintKind::OutcomeUnknown
            }
            _ => ComplaintKind::Refused,
        };
        Self {
            kind,
            error: error.to_string(),
        }
    }
}

impl From<TransferError> for Complaint {
    fn from(error: TransferError) -> Self {
        let kind = match &error {
            TransferError::NotLeader { .. } => ComplaintKind::NotLeader,
            _ => ComplaintKind::Refused,
        };
        Self {
            kind,
            error: error.to_string(),
        }
    }
}

/// Why what came is no order.
impl From<JsonRejection> for Complaint {
    fn from(rejection: JsonRejection) -> Self {
        // What is wrong in particular is underneath.
        let why = match rejection.source() {
            Some(source) => source.to_string(),
            None => rejection.body_text(),
        };
        let error = match rejection {
            JsonRejection::JsonDataError(_) => format!("this is no order: {why}; {EXAMPLE}"),
            JsonRejection::JsonSyntaxError(_) => format!("this is no JSON: {why}; {EXAMPLE}"),
            JsonRejection::MissingJsonContentType(_) => format!(
                "an order is JSON and has to say so: send it with the header \
                 `content-type: application/json`, and {EXAMPLE}"
            ),
            rejection if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                format!("this is longer than the {ORDER_BYTES_MAX} bytes of an order; {EXAMPLE}")
            }
            _ => format!("the order did not come whole: {why}; send it again"),
        };
        Self {
            kind: ComplaintKind::Malformed,
            error,
        }
    }
}

impl From<ConfState> for Members {
    fn from(conf_state: ConfState) -> Self {
        let numbers = |ids: &[NodeId]| ids.iter().map(|id| id.get()).collect();
        Self {
            voters: numbers(&conf_state.voters),
            learners: numbers(&conf_state.learners),
        }
    }
}

/// The address for orders.
pub(crate) fn router(raft: Raft) -> Router {
    Router::new()
        .route(MEMBERS_PATH, post(carry_out).fallback(no_order))
        .layer(DefaultBodyLimit::max(ORDER_BYTES_MAX))
        .with_state(raft)
}

/// A complaint, as it is sent.
type Complained = (StatusCode, Json<Complaint>);

async fn carry_out(
    State(raft): State<Raft>,
    order: Result<Json<MemberOrder>, JsonRejection>,
) -> Result<Json<Members>, Complained> {
    let Json(order) = order.map_err(|rejection| (rejection.status(), Json(rejection.into())))?;
    tracing::info!(node = %raft.id(), ?order, "an order to change the members");
    let members = obey(&raft, order).await;
    let members = members.map_err(|complaint| (complaint.kind.status(), Json(complaint)))?;
    Ok(Json(members.into()))
}

/// Whoever looks at this page sends no order.
async fn no_order() -> Complained {
    let complaint = Complaint {
        kind: ComplaintKind::Malformed,
        error: format!("orders come with POST: {EXAMPLE}; who is in the cluster is in /status"),
    };
    (StatusCode::METHOD_NOT_ALLOWED, Json(complaint))
}

async fn obey(raft: &Raft, order: MemberOrder) -> Result<ConfState, Complaint> {
    Ok(match order {
        MemberOrder::AddLearner { id, address } => raft.add_learner(id.0, Some(address)).await?,
        MemberOrder::Promote { id } => raft.promote(id.0).await?,
        MemberOrder::Remove { id } => raft.remove(id.0).await?,
        MemberOrder::Replace { old, new } => raft.replace(old.0, new.0).await?,
        MemberOrder::Move { id, address } => raft.move_member(id.0, address).await?,
        MemberOrder::Transfer { to } => {
            raft.transfer_leadership(to.0).await?;
            raft.status().conf_state
        }
    })
}

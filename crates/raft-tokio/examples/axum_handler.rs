//! A replica behind HTTP handlers: `POST /hits` counts, `GET /hits` reads. Shows
//! how the errors of the handle become status codes.
//!
//! ```text
//! cargo run -p raft-tokio --example axum_handler -- 127.0.0.1:8080
//! curl -X POST http://127.0.0.1:8080/hits
//! curl http://127.0.0.1:8080/hits
//! ```

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use raft_tokio::{
    MemoryLogStore, MemoryNetwork, NodeId, RaftConfig, SerdeMachine, TypedProposeError, TypedRaft,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Hits(u64);

#[derive(Serialize, Deserialize)]
enum Command {
    Hit,
}

impl SerdeMachine for Hits {
    type Command = Command;
    type Reply = u64;

    fn apply(&mut self, Command::Hit: Command) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// The handle is cheap to clone, and so a good state for handlers. A client that
/// hangs up drops the handler's future; the command may be applied all the same.
type Replica = TypedRaft<Hits>;

async fn hit(State(raft): State<Replica>) -> Response {
    match raft.propose(&Command::Hit).await {
        Ok(hits) => format!("{hits}\n").into_response(),
        Err(error) => (status_of(&error), format!("{error}\n")).into_response(),
    }
}

fn status_of(error: &TypedProposeError) -> StatusCode {
    if error.is_retryable() {
        // It certainly did not happen: the client may try again at once.
        StatusCode::SERVICE_UNAVAILABLE
    } else if error.is_indeterminate() {
        // It may have happened: only the client knows whether twice is harm.
        StatusCode::GATEWAY_TIMEOUT
    } else {
        StatusCode::BAD_REQUEST
    }
}

async fn hits(State(raft): State<Replica>) -> Response {
    match raft.read(|hits| hits.0).await {
        Ok(hits) => format!("{hits}\n").into_response(),
        // Reads change nothing, so they may always be tried again.
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .ok_or("usage: axum_handler <address>")?;
    // One node in memory, to keep to the point; `kv.rs` has three with disks.
    let id = NodeId::new(1).ok_or("ids begin at 1")?;
    let config = RaftConfig::new(id, vec![id]);
    let transport = MemoryNetwork::new().join(id);
    let raft = TypedRaft::start(config, Hits::default(), MemoryLogStore::new(), transport).await?;
    raft.raft().campaign().await?;

    let app = Router::new()
        .route("/hits", get(hits).post(hit))
        .with_state(raft);
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

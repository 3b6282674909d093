//! # The server for Redis clients
//!
//! Owns the listening socket and how many clients there are. Each client has a
//! task of its own (`connection.rs`); what their requests mean is in `command.rs`;
//! who does them is a [`Backend`], which is the replica.

mod backend;
mod command;
mod connection;
mod turns;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::Instrument;

pub use backend::{Backend, Refusal};
pub use connection::{ClientLimits, Closed};

use command::ClientSession;
use connection::Connection;

use crate::memory::Memory;

/// How long clients have, once the server stops, to get their last replies.
const GRACE: Duration = Duration::from_secs(5);

/// Serves clients, each with a backend of its own, until `stop` turns true or its
/// sender is gone, and then finishes what they have asked for. Never fails: a
/// connection that goes wrong is closed, and the others do not notice. What they
/// hold is counted in `memory`, where the answers of the backend may be, too.
///
/// # Cancel safety
/// If it is cancelled, all connections are closed at once.
pub async fn serve_clients<B: Backend>(
    listener: TcpListener,
    backend_of_client: impl Fn() -> B,
    limits: ClientLimits,
    memory: Memory,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.clients));
    let next_id = AtomicU64::new(1);
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = clients.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Mostly too many open files: wait for some to be closed.
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            clients.spawn(turn_away(stream));
            continue;
        };
        let session = ClientSession::new(next_id.fetch_add(1, Ordering::Relaxed));
        let connection = Connection::new(session, backend_of_client(), limits, memory.clone());
        let stop = stop.clone();
        let served = async move {
            let closed = serve_client(stream, connection, stop).await;
            if let Err(error) = closed {
                tracing::debug!(%error, "a client's connection broke");
            }
            drop(place);
        };
        clients.spawn(served.in_current_span());
    }
    let finished = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        tracing::warn!("some clients did not take their replies in time");
    }
}

async fn serve_client<B: Backend>(
    mut stream: TcpStream,
    connection: Connection<B>,
    stop: watch::Receiver<bool>,
) -> io::Result<Closed> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.split();
    connection.run(reader, writer, stop).await
}

async fn turn_away(mut stream: TcpStream) {
    let told = stream.write_all(b"-ERR max number of clients reached\r\n");
    // It is turned away whether it learns why or not.
    let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
}

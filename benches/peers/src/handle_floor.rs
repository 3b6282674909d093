//! # The floor under any handle
//!
//! One task that takes requests, puts them into a `Vec` and answers. No Raft:
//! what the channels and the runtime cost alone.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::handle_load::{Client, Layout, PAYLOAD, Runtimes};

const REQUESTS_WAITING_MAX: usize = 4096;

#[derive(Debug)]
struct Request {
    payload: Bytes,
    reply: oneshot::Sender<usize>,
}

impl Client for mpsc::Sender<Request> {
    async fn command(&self) {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            payload: PAYLOAD,
            reply,
        };
        self.send(request).await.expect("the task lives");
        answer.await.expect("an answer");
    }
}

pub fn measure(layout: Layout, clients: usize, time: Duration) -> f64 {
    let runtimes = Runtimes::new(layout);
    let (requests, mut inbox) = mpsc::channel::<Request>(REQUESTS_WAITING_MAX);
    runtimes.servers.spawn(async move {
        let mut log = Vec::new();
        let mut batch = Vec::new();
        while inbox.recv_many(&mut batch, REQUESTS_WAITING_MAX).await > 0 {
            for request in batch.drain(..) {
                log.push(request.payload);
                let _ = request.reply.send(log.len());
            }
            if log.len() > 1_000_000 {
                log.clear();
            }
        }
    });
    runtimes.drive(clients, time, &requests)
}

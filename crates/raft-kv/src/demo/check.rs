//! # The check at the end
//!
//! Reads back everything that the load has written, from whichever node answers,
//! and compares it with what was acknowledged.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::load::{COUNTER, PATIENCE, PAUSE, Shared};
use super::tally::{Tally, number_in};
use crate::client::{Client, ClientError};
use crate::resp::Reply;

/// Keys that the check at the end reads at once.
const CHECK_CHUNK: usize = 256;
/// How long all nodes together may take to answer the final check.
const CHECK_PATIENCE: Duration = Duration::from_secs(30);

/// Reads back everything that was written, and adds what is missing to the
/// tally.
pub(super) async fn check_final_state(tally: &mut Tally, shared: &Shared) -> Result<(), NoAnswer> {
    let mut reader = FinalReader::new(&shared.addresses);
    let keys = std::mem::take(&mut tally.keys);
    for chunk in keys.chunks(CHECK_CHUNK) {
        let names = chunk.iter().map(|key| key.name.as_bytes());
        let request: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain(names).collect();
        let values = match reader.ask(&request).await? {
            Reply::Array(values) if values.len() == chunk.len() => values,
            other => return Err(NoAnswer(format!("it was {other:?}"))),
        };
        for (key, value) in chunk.iter().zip(&values) {
            tally.keys_checked += 1;
            let found = number_in(value);
            if found != Some(key.acknowledged) && (found.is_none() || found != key.uncertain) {
                tally.lost += 1;
                tally.describe(format!(
                    "in the end {} had {value:?} instead of {}",
                    key.name, key.acknowledged
                ));
            }
        }
    }
    let counter = reader.ask(&[b"GET", COUNTER]).await?;
    let least = tally.sums.len() as u64;
    let most = least + tally.sums_uncertain;
    if !number_in(&counter).is_some_and(|sum| (least..=most).contains(&sum)) {
        tally.miscounted += 1;
        tally.describe(format!(
            "in the end the counter was {counter:?} instead of {least} to {most}"
        ));
    }
    Ok(())
}

/// No node could be brought to answer: what it said last.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAnswer(String);

/// Reads from whichever node answers.
struct FinalReader<'a> {
    addresses: &'a [SocketAddr],
    node: usize,
    client: Option<Client>,
}

impl<'a> FinalReader<'a> {
    fn new(addresses: &'a [SocketAddr]) -> Self {
        Self {
            addresses,
            node: 0,
            client: None,
        }
    }

    /// Asks one node after the other until there is an answer: right after a start
    /// a leader may be missing, and a node may hang. An error is no answer.
    async fn ask(&mut self, request: &[&[u8]]) -> Result<Reply, NoAnswer> {
        let deadline = Instant::now() + CHECK_PATIENCE;
        loop {
            let failed = match timeout(PATIENCE, self.ask_once(request)).await {
                Ok(Ok(Reply::Error(error))) => error,
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no reply came within {} s", PATIENCE.as_secs()),
            };
            if Instant::now() >= deadline {
                return Err(NoAnswer(failed));
            }
            self.client = None;
            self.node = (self.node + 1) % self.addresses.len();
            sleep(PAUSE).await;
        }
    }

    async fn ask_once(&mut self, request: &[&[u8]]) -> Result<Reply, ClientError> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(Client::connect(self.addresses[self.node]).await?),
        };
        client.request(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that takes connections and says nothing.
    #[tokio::test(start_paused = true)]
    async fn a_node_that_hangs_is_no_answer_and_no_lost_write() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [silent.local_addr().unwrap()];
        let asked = FinalReader::new(&addresses).ask(&[b"GET", b"k"]).await;
        assert!(asked.unwrap_err().to_string().contains("no reply came"));
    }
}

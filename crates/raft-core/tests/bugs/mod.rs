//! # What has gone wrong elsewhere
//!
//! Each test plays a bug that a Raft implementation really had, and that no
//! sentence of the paper names. `docs/TESTING.md` has the whole list, with the
//! tests elsewhere that catch the rest of it.

mod elections;
mod membership;
mod replication;
mod snapshots;
mod writes;

use raft_core::{Body, Config, Round, StorageWrites, VoteResponse};

use crate::support::heartbeat;

fn asynchronous(mut config: Config) -> Config {
    config.storage_writes = StorageWrites::Asynchronous;
    config
}

fn answer(round: Round, vote: VoteResponse) -> Body {
    Body::VoteResponse { round, vote }
}

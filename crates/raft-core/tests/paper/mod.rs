//! # The paper, sentence by sentence
//!
//! One file per section of the Raft paper (extended version) and of the thesis;
//! each test proves a sentence of it, in our words.

mod s5_1_terms;
mod s5_2_election;
mod s5_3_replication;
mod s5_4_safety;
mod s5_5_crashes;
mod s5_6_timing;
mod s6_membership;
mod s7_snapshots;
mod s8_clients;
mod thesis_3_10_transfer;
mod thesis_6_2_check_quorum;
mod thesis_6_4_reads;
mod thesis_9_6_pre_vote;

use raft_core::{Body, Round};

use crate::support::{message, plain};

fn asks_for_vote(body: &Body) -> bool {
    matches!(
        body,
        Body::RequestVote {
            round: Round::Vote,
            ..
        }
    )
}

//! # Profiles
//!
//! What a script has at all: each seed leaves some kinds of commands out and
//! does more of others, because a little of everything never gets deep into
//! anything.
//!
//! - Owns: nothing.

use fastrand::Rng;

/// A kind of command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ready,
    Deliver,
    AppendThread,
    ApplyThread,
    Settle,
    Round,
    Propose,
    Change,
    Read,
    Tick,
    Beat,
    Timeout,
    Campaign,
    Transfer,
    Forget,
    Restart,
    Compact,
    SendSnapshot,
    CreateSnapshot,
    Unreachable,
    SnapshotReport,
}

/// How nodes write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    Synchronous,
    Asynchronous,
}

/// What a script is like.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) voters: u64,
    pub(super) learners: u64,
    /// Nodes that are in no configuration at first.
    pub(super) strangers: u64,
    pub(super) index: u64,
    /// The settings of all nodes, as `add-nodes` takes them.
    pub(super) settings: String,
    pub(super) writes: Writes,
    pub(super) weights: Vec<(Kind, u32)>,
    pub(super) drop_percent: u8,
    pub(super) commands: usize,
}

impl Profile {
    pub(super) fn nodes(&self) -> u64 {
        self.voters + self.learners + self.strangers
    }
}

fn one_of<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

/// Draws one.
pub(super) fn draw(rng: &mut Rng) -> Profile {
    let writes = one_of(rng, &[Writes::Synchronous, Writes::Asynchronous]);
    Profile {
        voters: one_of(rng, &[1, 2, 3, 3, 3, 4, 5]),
        learners: one_of(rng, &[0, 0, 1, 2]),
        strangers: one_of(rng, &[0, 0, 1, 2]).min(2),
        index: rng.u64(2..25),
        settings: settings(rng, writes),
        writes,
        weights: weights(rng, writes),
        drop_percent: one_of(rng, &[0, 5, 20, 50]),
        commands: rng.usize(40..200),
    }
}

/// Without the validation of configuration changes nothing is promised: two may be
/// under way at once, and majorities of before and after need not overlap. So it
/// stays on here; scripts of the reference switch it off, and hostile input does.
fn settings(rng: &mut Rng, writes: Writes) -> String {
    let mut words = vec!["driver=careful".to_owned()];
    let mut check_quorum = false;
    for (word, percent) in [
        ("prevote", 50),
        ("checkquorum", 50),
        ("step-down-on-removal", 50),
        ("disable-proposal-forwarding", 10),
    ] {
        if rng.u8(0..100) < percent {
            words.push(format!("{word}=true"));
            check_quorum |= word == "checkquorum";
        }
    }
    if check_quorum && rng.u8(0..100) < 15 {
        words.push("read-only=lease-based".to_owned());
    }
    if writes == Writes::Asynchronous {
        words.push("async-storage-writes=true".to_owned());
    }
    if rng.bool() {
        words.push(format!("inflight={}", one_of(rng, &[1, 2, 3, 4])));
    }
    if rng.u8(0..100) < 40 {
        let bytes = rng.u64(0..80);
        words.push(format!("max-committed-size-per-ready={bytes}"));
    }
    if rng.u8(0..100) < 40 {
        let bytes = rng.u64(0..80);
        words.push(format!("max-size-per-msg={bytes}"));
        if rng.bool() {
            // A window of no bytes would let nothing through.
            let window = (bytes + rng.u64(0..60)).max(1);
            words.push(format!("max-inflight-bytes={window}"));
        }
    }
    if rng.u8(0..100) < 20 {
        words.push(format!("max-uncommitted-size={}", rng.u64(10..100)));
    }
    words.join(" ")
}

fn weights(rng: &mut Rng, writes: Writes) -> Vec<(Kind, u32)> {
    // Without these nothing moves.
    let mut weights = vec![
        (Kind::Ready, rng.u32(10..25)),
        (Kind::Deliver, rng.u32(8..20)),
        (Kind::Propose, rng.u32(3..10)),
        (Kind::Round, rng.u32(1..10)),
    ];
    if writes == Writes::Asynchronous {
        weights.push((Kind::AppendThread, rng.u32(5..15)));
        weights.push((Kind::ApplyThread, rng.u32(5..15)));
    }
    for (kind, weight_max) in [
        (Kind::Settle, 10),
        (Kind::Change, 8),
        (Kind::Read, 6),
        (Kind::Tick, 8),
        (Kind::Beat, 8),
        (Kind::Timeout, 4),
        (Kind::Campaign, 6),
        (Kind::Transfer, 4),
        (Kind::Forget, 2),
        (Kind::Restart, 6),
        (Kind::Compact, 5),
        (Kind::SendSnapshot, 2),
        (Kind::CreateSnapshot, 1),
        (Kind::Unreachable, 3),
        (Kind::SnapshotReport, 2),
    ] {
        if rng.u8(0..100) < 65 {
            weights.push((kind, rng.u32(1..=weight_max)));
        }
    }
    weights
}

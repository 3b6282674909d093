//! # Quorums
//!
//! How many are enough: the committed index and the outcome of a vote for one
//! majority and for two at once (Raft §5.2, §5.3, thesis §4.3).

mod joint;
mod majority;

pub use joint::JointConfig;
pub use majority::MajorityConfig;

/// The outcome of a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoteResult {
    /// Undecided: enough votes are missing.
    Pending,
    /// A quorum voted no, or can no longer vote yes.
    Lost,
    /// A quorum voted yes.
    Won,
}

//! # Errors in etcd's words
//!
//! They are typed in the core; only here do they get the reference's sentences.
//!
//! - Owns: nothing.

use raft_core::{ConfChangeError, MemoryStorageError, ProposeError, StepError};

/// Why a configuration change is refused.
pub fn conf_change_error(error: &ConfChangeError) -> String {
    match error {
        ConfChangeError::AlreadyJoint => "config is already joint".to_owned(),
        ConfChangeError::NotJoint => "can't leave a non-joint config".to_owned(),
        ConfChangeError::JointWithoutVoters => "can't make a zero-voter config joint".to_owned(),
        ConfChangeError::SimpleWhileJoint => {
            "can't apply simple config change in joint config".to_owned()
        }
        ConfChangeError::MoreThanOneVoter => {
            "more than one voter changed without entering joint config".to_owned()
        }
        ConfChangeError::NoVotersLeft => "removed all voters".to_owned(),
        other => other.to_string(),
    }
}

/// Why a proposal is refused: etcd has one error for every reason.
pub fn propose_error(error: &ProposeError) -> String {
    match error {
        ProposeError::Halted(halted) => halted.to_string(),
        ProposeError::Malformed(malformed) => malformed.to_string(),
        _ => "raft proposal dropped".to_owned(),
    }
}

/// Why a message is not taken.
pub fn step_error(error: &StepError) -> String {
    match error {
        StepError::PeerNotFound(_) => "raft: cannot step as peer not found".to_owned(),
        StepError::Propose(why) => propose_error(why),
        other => other.to_string(),
    }
}

/// Why the storage does not do what it is asked to.
pub fn storage_error(error: MemoryStorageError) -> String {
    match error {
        MemoryStorageError::Compacted => {
            "requested index is unavailable due to compaction".to_owned()
        }
        MemoryStorageError::SnapshotOutOfDate => {
            "requested index is older than the existing snapshot".to_owned()
        }
        other => other.to_string(),
    }
}

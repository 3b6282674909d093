//! # Restoring a configuration
//!
//! Builds the active configuration from a stored one, and refuses one that no
//! sequence of changes can lead to.
//!
//! - Owns: nothing.
//! - Source: etcd `confchange.Restore`.

use alloc::vec::Vec;

use super::{ConfChangeError, Membership};
use crate::quorum::JointConfig;
use crate::types::ConfState;

impl Membership {
    /// The configuration that `state` describes.
    ///
    /// # Errors
    /// The stored configuration breaks an invariant.
    pub fn restore(state: &ConfState) -> Result<Self, ConfChangeError> {
        let mut learners: Vec<_> = state.learners.clone();
        learners.sort_unstable();
        learners.dedup();
        let mut learners_next: Vec<_> = state.learners_next.clone();
        learners_next.sort_unstable();
        learners_next.dedup();
        let membership = Self {
            voters: JointConfig {
                incoming: state.voters.iter().copied().collect(),
                outgoing: state.voters_outgoing.iter().copied().collect(),
            },
            learners,
            learners_next,
            auto_leave: state.auto_leave,
        };
        membership.check()?;
        // A joint configuration starts from a half with voters, and a change
        // that removes the last voter is refused.
        if membership.voters.incoming.is_empty()
            && (membership.is_joint() || !membership.learners.is_empty())
        {
            return Err(ConfChangeError::NoVotersLeft);
        }
        if !membership.conf_state().is_equivalent_to(state) {
            return Err(ConfChangeError::Inconsistent);
        }
        Ok(membership)
    }

    /// What `state` says, whether or not it can be.
    #[cfg(test)]
    pub(crate) fn unchecked(state: &ConfState) -> Self {
        Self {
            voters: JointConfig {
                incoming: state.voters.iter().copied().collect(),
                outgoing: state.voters_outgoing.iter().copied().collect(),
            },
            learners: state.learners.clone(),
            learners_next: state.learners_next.clone(),
            auto_leave: state.auto_leave,
        }
    }
}

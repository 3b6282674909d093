//! # Where proposals went
//!
//! What a proposer hears at once: not that its entry is committed, but where it
//! stands, so that it can recognise it when it is.

use crate::error::ConfChangeRefusal;
use crate::types::{LogIndex, NodeId, Term};

/// Where a proposal went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// Into this leader's log. It is committed if these entries are: an entry
    /// of another term at the same index is another proposal.
    Appended {
        /// The term of the entries.
        term: Term,
        /// The first entry.
        first: LogIndex,
        /// The last entry.
        last: LogIndex,
        /// Why configuration changes among the proposals were replaced by empty
        /// entries.
        refused: Option<ConfChangeRefusal>,
    },
    /// On its way to the leader. Whether it arrives nobody will say.
    Forwarded {
        /// The leader as far as this server knows.
        to: NodeId,
    },
}

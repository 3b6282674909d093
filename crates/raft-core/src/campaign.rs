//! # Campaigning
//!
//! Whether this server may ask for votes, and the asking.
//!
//! - Owns: nothing.
//! - Reads: the configuration, the log.
//! - Emits: requests for votes, the own vote.
//! - Source: Raft §5.2, §6; thesis §3.10, §9.6; etcd `hup`, `campaign`,
//!   `promotable`, `hasUnappliedConfChanges`.

use crate::common::{Candidacy, Common};
use crate::role::Campaign;
use crate::storage::{Storage, StorageError};
use crate::types::{Body, EntryType, Round};

/// Whether this server could lead: it votes, no snapshot is about to replace
/// its log, its disk has not lost what it promised, and its driver lets it.
pub(crate) fn is_promotable<S: Storage>(common: &Common<S>) -> bool {
    common.membership.voters().contains(common.id())
        && !common.log.has_pending_snapshot()
        && common.quarantine.is_none()
        && common.candidacy == Candidacy::Allowed
}

/// Whether this server may campaign now. Not before it has applied every
/// committed change of the configuration: it would count the wrong majority.
pub(crate) fn may_campaign<S: Storage>(common: &Common<S>) -> Result<bool, StorageError> {
    Ok(is_promotable(common) && !has_unapplied_conf_change(common)?)
}

fn has_unapplied_conf_change<S: Storage>(common: &Common<S>) -> Result<bool, StorageError> {
    let log = &common.log;
    let end = log.committed().next();
    let mut low = log.applied().next();
    // In pages, so that a long backlog is not in memory at once.
    while low < end {
        let page = log.slice(low, end, log.applying_bytes_max())?;
        if page
            .iter()
            .any(|entry| entry.entry_type() != EntryType::Normal)
        {
            return Ok(true);
        }
        match page.last_id() {
            Some(last) => low = last.index.next(),
            None => break,
        }
    }
    Ok(false)
}

/// Asks every voter, and votes for itself when that is durable. The term and
/// the vote have been set by the transition.
pub(crate) fn request_votes<S: Storage>(
    common: &mut Common<S>,
    campaign: Campaign,
) -> Result<(), StorageError> {
    let (round, term) = match campaign {
        // For the term that the election would be in.
        Campaign::PreElection => (Round::PreVote, common.term.next()),
        Campaign::Election | Campaign::Transfer => (Round::Vote, common.term),
    };
    let last = common.log.last_id()?;
    for id in common.membership.voters().ids() {
        if id == common.id() {
            common.vote_for_self(round, term);
        } else {
            common.send_in_term(
                term,
                id,
                Body::RequestVote {
                    round,
                    last,
                    transfer: campaign == Campaign::Transfer,
                },
            );
        }
    }
    Ok(())
}

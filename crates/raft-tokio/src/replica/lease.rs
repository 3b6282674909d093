//! # The lease
//!
//! How long a leader may answer reads without asking. A quorum that confirmed a
//! round has promised, by hearing from the leader, to elect nobody else for an
//! election timeout from when it was asked.
//!
//! The promise does not bind whoever is told to campaign by a transfer of
//! leadership, and a message that says so may arrive late. So once a transfer
//! was begun there is no lease for the rest of the term. A change of the members
//! changes which quorum counts, so what was asked before it counts no more.
//!
//! - Owns: until when the promise holds.
//! - Source: thesis §6.4.1; Gray and Cheriton, "Leases" (1989).

use std::time::Duration;

use raft_core::Term;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Lease {
    length: Duration,
    held: Option<(Term, Instant)>,
    barred_term: Option<Term>,
    reconfigured: Option<Instant>,
}

impl Lease {
    pub(super) fn new(length: Duration) -> Self {
        Self {
            length,
            held: None,
            barred_term: None,
            reconfigured: None,
        }
    }

    /// A round that was begun at `asked` by the leader of `term` was confirmed.
    pub(super) fn extend(&mut self, term: Term, asked: Instant) {
        let too_early = self.reconfigured.is_some_and(|at| asked <= at);
        if self.barred_term == Some(term) || too_early {
            return;
        }
        let until = asked + self.length;
        match self.held {
            Some((held, before)) if held == term && before >= until => {}
            _ => self.held = Some((term, until)),
        }
    }

    /// A transfer was begun in `term`.
    pub(super) fn bar(&mut self, term: Term) {
        self.barred_term = Some(term);
        self.held = None;
    }

    /// The members changed.
    pub(super) fn reconfigured(&mut self, now: Instant) {
        self.reconfigured = Some(now);
        self.held = None;
    }

    /// Whether the leader of `term` may answer on its own at `now`.
    pub(super) fn covers(&self, term: Term, now: Instant) -> bool {
        self.held
            .is_some_and(|(held, until)| held == term && now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_millis(800);

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_in_time_with_its_term_and_with_a_transfer() {
        let now = Instant::now();
        let (one, two) = (Term::new(1), Term::new(2));
        let mut lease = Lease::new(LENGTH);
        assert!(!lease.covers(one, now));
        lease.extend(one, now);
        assert!(lease.covers(one, now + LENGTH - Duration::from_millis(1)));
        assert!(!lease.covers(one, now + LENGTH));
        assert!(!lease.covers(two, now));
        lease.bar(one);
        lease.extend(one, now);
        assert!(!lease.covers(one, now));
        lease.extend(two, now);
        assert!(lease.covers(two, now));
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_configuration_was_asked_extends_nothing() {
        let now = Instant::now();
        let term = Term::new(1);
        let mut lease = Lease::new(LENGTH);
        lease.reconfigured(now);
        lease.extend(term, now);
        assert!(!lease.covers(term, now));
        lease.extend(term, now + Duration::from_millis(1));
        assert!(lease.covers(term, now + Duration::from_millis(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_round_that_is_confirmed_late_does_not_shorten_the_lease() {
        let now = Instant::now();
        let term = Term::new(1);
        let mut lease = Lease::new(LENGTH);
        lease.extend(term, now + Duration::from_millis(300));
        lease.extend(term, now);
        assert!(lease.covers(term, now + LENGTH));
    }
}

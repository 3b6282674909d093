//! # Reports of writing
//!
//! Which writes are done. The log store says so from a thread of its own, and
//! then the loop is woken; or inside the call that hands the write over, and then
//! the loop is awake, and looks here before it sleeps.
//!
//! - Owns: the reports that the loop has not taken. There are never more than
//!   writes that it has handed over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::request::Event;
use crate::log_store::{LogStoreError, WriteListener};

/// A write is done, or has failed.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) sequence: u64,
    pub(super) result: Result<(), LogStoreError>,
}

/// The reports between the log store and the loop.
pub(super) struct WriteReports {
    shared: Arc<Mutex<Shared>>,
    listener: WriteListener,
}

#[derive(Debug, Default)]
struct Shared {
    untaken: Vec<Written>,
    the_loop: TheLoop,
}

/// Whether the loop has to be woken for a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TheLoop {
    #[default]
    MaySleep,
    /// It looks here before it sleeps.
    Looks,
}

impl WriteReports {
    /// None yet. The loop is woken by an event.
    pub(super) fn new(events: mpsc::UnboundedSender<Event>) -> Self {
        let shared = Arc::<Mutex<Shared>>::default();
        let reports = shared.clone();
        let listener = move |sequence, result| {
            let mut shared = locked(&reports);
            shared.untaken.push(Written { sequence, result });
            let the_loop = shared.the_loop;
            drop(shared);
            if the_loop == TheLoop::MaySleep {
                // A loop that is gone no longer waits.
                let _ = events.send(Event::Written);
            }
        };
        Self {
            shared,
            listener: Arc::new(listener),
        }
    }

    /// Who is to hear of a write. The loop looks at the reports before it sleeps.
    pub(super) fn listener(&self) -> WriteListener {
        locked(&self.shared).the_loop = TheLoop::Looks;
        self.listener.clone()
    }

    /// Takes all of them, and puts them behind `taken`. If there are none the loop
    /// may sleep.
    pub(super) fn take(&self, taken: &mut Vec<Written>) {
        let mut shared = locked(&self.shared);
        if shared.untaken.is_empty() {
            shared.the_loop = TheLoop::MaySleep;
        } else {
            taken.append(&mut shared.untaken);
        }
    }
}

/// A panic elsewhere leaves nothing half done in here.
fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(reports: &WriteReports) -> Vec<u64> {
        let mut taken = Vec::new();
        reports.take(&mut taken);
        taken.into_iter().map(|written| written.sequence).collect()
    }

    #[test]
    fn a_write_that_is_done_inside_its_call_wakes_nobody_and_is_found() {
        let (events, mut eventc) = mpsc::unbounded_channel();
        let reports = WriteReports::new(events);
        let listener = reports.listener();
        listener(0, Ok(()));
        assert!(eventc.try_recv().is_err());
        assert_eq!(taken(&reports), [0]);
    }

    #[test]
    fn a_write_that_is_done_later_wakes_the_loop() {
        let (events, mut eventc) = mpsc::unbounded_channel();
        let reports = WriteReports::new(events);
        let listener = reports.listener();
        assert_eq!(taken(&reports), []);
        listener(0, Ok(()));
        assert!(matches!(eventc.try_recv(), Ok(Event::Written)));
        assert_eq!(taken(&reports), [0]);
    }

    #[test]
    fn a_write_that_is_done_after_some_were_taken_is_found_or_wakes() {
        let (events, mut eventc) = mpsc::unbounded_channel();
        let reports = WriteReports::new(events);
        let (first, second) = (reports.listener(), reports.listener());
        first(0, Ok(()));
        assert_eq!(taken(&reports), [0]);
        // The loop has not slept since: it looks once more.
        second(1, Ok(()));
        assert!(eventc.try_recv().is_err());
        assert_eq!(taken(&reports), [1]);
        assert_eq!(taken(&reports), []);
    }
}

//! What makes a state machine stop whenever a test wants it to.

use std::sync::{Arc, Condvar, Mutex};

/// Whether whoever comes is let through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    is_shut: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    pub(crate) fn shut(&self) {
        *self.is_shut.0.lock().unwrap() = true;
    }

    pub(crate) fn open(&self) {
        *self.is_shut.0.lock().unwrap() = false;
        self.is_shut.1.notify_all();
    }

    /// Blocks until it is open.
    pub(crate) fn pass(&self) {
        let (is_shut, changed) = &*self.is_shut;
        let guard = is_shut.lock().unwrap();
        drop(changed.wait_while(guard, |is_shut| *is_shut).unwrap());
    }
}

/// Opens the gate when a test ends in any way, or the runtime would wait for it.
pub(crate) struct OpenAtLast(pub(crate) Gate);

impl Drop for OpenAtLast {
    fn drop(&mut self) {
        self.0.open();
    }
}

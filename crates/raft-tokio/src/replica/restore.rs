//! # Restoring
//!
//! From a stored snapshot to the state machine, on a thread that may wait for the
//! disk. At the start, if the data of the latest snapshot has gone bad, from an
//! older one: the entries between the two are in the log still, or it would not
//! be offered, so nothing is lost but time.
//!
//! - Owns: nothing; the state machine passes through.
//! - Source: Raft §7; etcd `snap.Snapshotter.LoadNewestAvailable`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use raft_core::{NodeId, Snapshot};

use crate::box_error::BoxError;
use crate::error::StartError;
use crate::log_store::{SnapshotLost, StoredLog};
use crate::snapshot::{SnapshotStorage, open_checked};
use crate::state_machine::StateMachine;
use crate::task::panic_text;

/// A state machine that could not be restored.
pub(super) struct NotRestored<M> {
    /// In whatever state it is now; `None` if the thread was cancelled.
    machine: Option<M>,
    pub(super) error: BoxError,
}

/// Restores a state machine from a snapshot that is stored.
///
/// # Errors
/// It cannot read the snapshot, or it panicked.
pub(super) async fn restore<M: StateMachine>(
    mut machine: M,
    snapshot: Snapshot,
    storage: Arc<dyn SnapshotStorage>,
) -> Result<M, NotRestored<M>> {
    let work = tokio::task::spawn_blocking(move || {
        let read = AssertUnwindSafe(|| {
            let mut reader = open_checked(storage.as_ref(), &snapshot)?;
            machine.restore(&mut reader)?;
            reader.finish()?;
            Ok(())
        });
        let read = std::panic::catch_unwind(read)
            .unwrap_or_else(|panic| Err(panic_text(panic.as_ref()).into()));
        (machine, read)
    });
    match work.await {
        Ok((machine, Ok(()))) => Ok(machine),
        Ok((machine, Err(error))) => Err(NotRestored {
            machine: Some(machine),
            error,
        }),
        Err(cancelled) => Err(NotRestored {
            machine: None,
            error: cancelled.into(),
        }),
    }
}

/// Restores a state machine from the newest of the stored snapshots whose data is
/// good, and drops the others from `stored`.
///
/// # Errors
/// The state machine cannot read a snapshot whose data is good, or the data of
/// none is.
pub(super) async fn restore_newest<M: StateMachine>(
    node: NodeId,
    mut machine: M,
    stored: &mut StoredLog,
    storage: Arc<dyn SnapshotStorage>,
) -> Result<M, StartError> {
    let mut older = std::mem::take(&mut stored.older_snapshots).into_iter();
    while let Some(snapshot) = stored.snapshot.clone() {
        let id = snapshot.metadata.id();
        let failed = match restore(machine, snapshot.clone(), storage.clone()).await {
            Ok(restored) => return Ok(restored),
            Err(failed) => failed,
        };
        let Some(damage) = damage_of(snapshot, storage.clone()).await else {
            return Err(StartError::Restore(failed.error));
        };
        let lost = SnapshotLost {
            snapshot: storage.describe(id),
            why: damage.to_string(),
        };
        let (Some(survivor), Some(next)) = (failed.machine, older.next()) else {
            return Err(StartError::SnapshotLost(lost));
        };
        tracing::error!(%node, index = %id.index, snapshot = lost.snapshot, error = lost.why,
            "a stored snapshot is damaged; the node begins with an older one, and the log \
             behind that. Look at the disk");
        stored.damaged_snapshot.get_or_insert(id.index);
        stored.snapshot = Some(next);
        machine = survivor;
    }
    Ok(machine)
}

/// What is wrong with the data of a snapshot, if anything is.
async fn damage_of(snapshot: Snapshot, storage: Arc<dyn SnapshotStorage>) -> Option<BoxError> {
    let check = tokio::task::spawn_blocking(move || {
        Ok::<(), BoxError>(open_checked(storage.as_ref(), &snapshot)?.finish()?)
    });
    match check.await {
        Ok(checked) => checked.err(),
        Err(cancelled) => Some(cancelled.into()),
    }
}

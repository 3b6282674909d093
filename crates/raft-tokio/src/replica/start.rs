//! # Starting
//!
//! From a stored log to a running replica.
//!
//! - Owns: nothing; what it makes goes to the loop and to the state machine's
//!   task.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use raft_core::{
    ConfState, Entries, EntryId, HardState, LogIndex, RawNode, SnapshotMetadata, Term,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::apply::{self, ApplyTask, Links};
use super::configuration::Configuration;
use super::handle::{Inner, Raft};
use super::host::{Parts, ReplicaHost};
use super::log_view::{LogView, ReadLimits, TailLimits};
use super::owed::Owed;
use super::replay::Replayed;
use super::reports::Reports;
use super::request::Event;
use super::restore::restore_newest;
use super::room::Room;
use crate::address_book::AddressBook;
use crate::config::RaftConfig;
use crate::error::StartError;
use crate::event_loop::{EventLoop, Ticks};
use crate::log_store::{Durability, LogStore, LogStoreError, LogWrite, StoredLog, WriteDone};
use crate::queue;
use crate::snapshot::{SnapshotExchange, build};
use crate::state_machine::StateMachine;
use crate::status::ReplicaStatus;
use crate::task::TaskControl;
use crate::transport::{Inbox, LargePackets, Transport};

/// Packets that may wait in front of the loop; beyond that connections wait.
const PACKETS_WAITING_MAX: usize = 4096;
const COMMANDS_WAITING_MAX: usize = 64;
/// Election timeouts after which a read of old entries is given up. A disk that
/// is busy with writes may take that long; a snapshot instead costs more.
const LOG_READ_PATIENCE_ELECTIONS: u64 = 5;

/// Where the first snapshot of a cluster stands.
const FIRST_INDEX: LogIndex = LogIndex::new(1);
const FIRST_TERM: Term = Term::new(1);

impl Raft {
    /// Starts a replica with what is in `log`, on the current runtime: reads the
    /// log back, restores the state machine, begins to listen.
    ///
    /// ```no_run
    /// # async fn example(machine: impl raft_tokio::StateMachine) -> Result<(), raft_tokio::StartError> {
    /// use raft_tokio::{MemoryLogStore, MemoryNetwork, NodeId, RaftConfig, Raft, StateMachine};
    ///
    /// let id = NodeId::new(1).expect("1 is a node id");
    /// let config = RaftConfig::new(id, vec![id]);
    /// let transport = MemoryNetwork::new().join(id);
    /// let raft = Raft::start(config, machine, MemoryLogStore::new(), transport).await?;
    /// println!("node {} runs", raft.id());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The log or the snapshot cannot be read, or the configuration contradicts
    /// itself.
    ///
    /// # Panics
    /// Outside of a tokio runtime with a clock (`enable_time`).
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing runs.
    pub async fn start(
        config: RaftConfig,
        machine: impl StateMachine,
        log: impl LogStore,
        transport: impl Transport,
    ) -> Result<Self, StartError> {
        start(config, machine, log, transport).await
    }
}

async fn start(
    config: RaftConfig,
    mut machine: impl StateMachine,
    mut log: impl LogStore,
    mut transport: impl Transport,
) -> Result<Raft, StartError> {
    let mut stored = log.load()?;
    // Who has stored nothing has promised nothing.
    let votes_from_tick = if config.lease_reads && !is_pristine(&stored) {
        u64::from(config.election_ticks)
    } else {
        0
    };
    if is_pristine(&stored) && !config.initial_voters.is_empty() {
        stored = found(&config, &mut machine, &mut log).await?;
    }
    let machine = restore_newest(config.id, machine, &mut stored, log.snapshots()).await?;
    let damaged_snapshot = stored.damaged_snapshot;
    let snapshot = stored.snapshot.as_ref();
    let covered = snapshot.map_or(EntryId::default(), |snapshot| snapshot.metadata.id());
    let configuration = match snapshot.map(Configuration::of).transpose() {
        Ok(configuration) => configuration.unwrap_or_default(),
        Err(malformed) => return Err(LogStoreError(Arc::new(malformed)).into()),
    };
    let replayed = Replayed {
        machine,
        applied: covered,
        configuration,
    };
    let Replayed {
        machine,
        applied,
        configuration,
    } = replayed.through_unloaded(&mut stored, &mut log).await?;
    // What the cluster has agreed on is newer than what the settings say.
    for (id, address) in configuration.addresses.iter() {
        transport.set_peer(id, Some(address));
    }
    let storage = view_of(&config, stored, applied, &configuration)?;
    let node = RawNode::new(config.core(applied.index), storage)?;

    let (propc, propc_receiver) = queue::queue(config.requests_waiting_max);
    let (recvc, recvc_receiver) = mpsc::channel(PACKETS_WAITING_MAX);
    let (controlc, controlc_receiver) = mpsc::channel(COMMANDS_WAITING_MAX);
    let (events, eventc) = mpsc::unbounded_channel();
    let damage = events.clone();
    let snapshots = SnapshotExchange::reporting(log.snapshots(), move |id| {
        // A loop that is gone needs no snapshot.
        let _ = damage.send(Event::SnapshotDamaged(id));
    });
    let (work, queue) = mpsc::unbounded_channel();
    let (status, _) = watch::channel(ReplicaStatus::starting(config.id));
    let control = TaskControl::new(config.id);
    let tick = Arc::new(AtomicU64::new(0));
    let room = Room::new(&config);
    let raft = Raft {
        inner: Arc::new(Inner {
            id: config.id,
            propc,
            controlc,
            tick: tick.clone(),
            status: status.clone(),
            control: control.clone(),
            events: events.clone(),
            room: room.clone(),
            command_bytes_max: config.command_bytes_max,
            catch_up_timeout: config.catch_up_timeout,
            election_timeout: config.tick * config.election_ticks,
        }),
    };

    let workers = control.workers();
    let reports = Reports::default();
    let owed = Owed::default();
    let machine = ApplyTask::new(
        machine,
        applied,
        configuration.clone(),
        Links {
            events: events.clone(),
            reports: reports.clone(),
            owed: owed.clone(),
        },
        workers.clone(),
        snapshots.clone(),
    );
    workers.spawn(apply::run(machine, queue));
    let large_packets = LargePackets::new(config.packets_bytes_max);
    let inbox = Inbox::bounded(recvc, large_packets.clone());
    transport.start(inbox, snapshots.clone());
    let mut interval = tokio::time::interval(config.tick);
    // Ticks that a stall swallowed are not made up: a burst would be an election.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick of an interval is immediate.
    interval.reset();
    let stop = control.stop_token();
    let ended = control.clone();
    let event_loop = EventLoop {
        node,
        host: ReplicaHost::new(Parts {
            config,
            control: control.clone(),
            log: Box::new(log),
            transport: Box::new(transport),
            apply: work,
            events,
            reports,
            owed: owed.clone(),
            snapshots,
            applied: applied.index,
            configuration,
            snapshot: covered.index,
            damaged_snapshot,
            tick,
            status,
            room,
            large_packets,
            votes_from_tick,
        }),
        ticks: Ticks::Interval(interval),
        propc: propc_receiver,
        recvc: recvc_receiver,
        controlc: controlc_receiver,
        eventc: Some(eventc),
        readyc: None,
        advancec: None,
        stop,
    };
    // A state machine that does not return still has callers.
    control.spawn(event_loop, move || owed.refuse_all(&ended.stopped_now()));
    Ok(raft)
}

fn is_pristine(stored: &StoredLog) -> bool {
    stored.hard_state.is_empty() && stored.snapshot.is_none() && stored.entries.is_empty()
}

/// Begins a new cluster: every initial voter stores the same snapshot, of a
/// state machine to which nothing was done, with the initial configuration. So
/// the configuration is in the replicated state from the start, and a server
/// that is added later gets it with the log or with a snapshot.
async fn found(
    config: &RaftConfig,
    machine: &mut impl StateMachine,
    log: &mut impl LogStore,
) -> Result<StoredLog, StartError> {
    let metadata = SnapshotMetadata {
        index: FIRST_INDEX,
        term: FIRST_TERM,
        conf_state: ConfState::of_voters(config.initial_voters.iter().copied()),
    };
    // Where they are reached each of them has in its settings.
    let addresses = AddressBook::default();
    let job = machine.snapshot();
    let storage = log.snapshots();
    let snapshot =
        tokio::task::spawn_blocking(move || build(storage.as_ref(), metadata, &addresses, job))
            .await
            .map_err(|error| StartError::FirstSnapshot(error.into()))?
            .map_err(StartError::FirstSnapshot)?;
    let hard_state = HardState {
        term: FIRST_TERM,
        vote: None,
        commit: FIRST_INDEX,
    };
    let (done, written) = oneshot::channel();
    let write = LogWrite {
        hard_state: Some(hard_state),
        entries: Entries::new(),
        snapshot: Some(snapshot.clone()),
        durability: Durability::Synced,
    };
    log.append(
        write,
        WriteDone::new(move |result| {
            let _ = done.send(result);
        }),
    );
    match written.await {
        Ok(result) => result?,
        // The store dropped the write: it does not keep its contract.
        Err(dropped) => return Err(LogStoreError(Arc::new(dropped)).into()),
    }
    Ok(StoredLog {
        hard_state,
        snapshot: Some(snapshot),
        ..StoredLog::default()
    })
}

/// The view of the stored log that the node reads. What is to be applied again is
/// in memory until it is.
fn view_of(
    config: &RaftConfig,
    stored: StoredLog,
    applied: EntryId,
    configuration: &Configuration,
) -> Result<LogView, StartError> {
    let limits = TailLimits {
        bytes_max: config.log_tail_bytes_max,
        entries_max: config.log_tail_entries_max,
    };
    let read_limits = ReadLimits {
        bytes_max: config.log_read_bytes_max,
        patience_ticks: LOG_READ_PATIENCE_ELECTIONS * u64::from(config.election_ticks),
    };
    let mut storage = LogView::new(limits, read_limits);
    let mut start = LogIndex::ZERO;
    if let Some(snapshot) = stored.snapshot {
        start = snapshot.metadata.index;
        storage
            .apply_snapshot(snapshot)
            .map_err(StartError::Damaged)?;
    }
    let reopened = match stored.terms {
        None => storage.append(stored.entries),
        Some(terms) => {
            let conf_state = configuration.conf_state.clone();
            storage.reopen(terms, stored.entries, applied.index, conf_state)
        }
    };
    reopened.map_err(StartError::Damaged)?;
    let mut hard_state = stored.hard_state;
    // A snapshot is committed, whether or not the hard state got that far.
    hard_state.commit = hard_state.commit.max(start);
    if !hard_state.is_empty() {
        storage.set_hard_state(hard_state);
    }
    Ok(storage)
}

//! # One server of the test cluster
//!
//! A node, its disk and its state machine. The disk keeps what was written in
//! order; a crash keeps what was synced, and as many of the later writes as the
//! test says.
//!
//! - Owns: the node, the writes and applications that are under way, the model
//!   of its log.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft_core::{
    AppendOutcome, AppendReceipt, ConfState, Config, Entries, EntryId, LogIndex, MemoryStorage,
    Message, NodeId, RawNode, ReadOnly, ReadState, Ready, RoleKind, Snapshot, SnapshotMetadata,
    Storage, StorageAppend, StorageApply, StorageWrites, Term,
};

use super::machine::Machine;
use super::{History, SlowStorage};

/// When writes and applications are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// At once.
    Instant,
    /// When the test says so.
    Held,
}

/// How much of what was applied a server has at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// All of the log.
    Whole,
    /// Nothing: it has to be read.
    Unapplied,
}

/// A write under way; in synchronous use, the rest of its Ready too.
#[derive(Debug)]
struct Write {
    append: StorageAppend,
    must_sync: bool,
    then_apply: Option<StorageApply>,
}

/// A server that may be down.
#[derive(Debug)]
pub(crate) struct Server {
    config: Config,
    disk: Disk,
    memory: Memory,
    node: Option<RawNode<SlowStorage>>,
    /// What the disk has while the server is down.
    stored: MemoryStorage,
    /// The commit index that a crash cannot take away.
    synced_commit: LogIndex,
    writes: VecDeque<Write>,
    applies: VecDeque<StorageApply>,
    machine: Machine,
    /// Entries up to here come with a snapshot that has been received, so that
    /// earlier ones must not be applied any more.
    superseded_to: LogIndex,
    log: BTreeMap<LogIndex, Term>,
    log_start: EntryId,
    seen_commit: LogIndex,
    seen_term: Term,
    reads: Vec<ReadState>,
}

impl Server {
    pub(crate) fn new(config: Config, stored: MemoryStorage) -> Self {
        let mut server = Self {
            disk: Disk::Instant,
            memory: Memory::Whole,
            node: None,
            synced_commit: stored.hard_state().commit,
            stored,
            writes: VecDeque::new(),
            applies: VecDeque::new(),
            machine: Machine::default(),
            superseded_to: LogIndex::ZERO,
            log: BTreeMap::new(),
            log_start: EntryId::default(),
            seen_commit: LogIndex::ZERO,
            seen_term: Term::ZERO,
            reads: Vec::new(),
            config,
        };
        server.start();
        server
    }

    pub(crate) fn is_up(&self) -> bool {
        self.node.is_some()
    }

    pub(crate) fn id(&self) -> NodeId {
        self.config.id
    }

    /// The last entry of the log.
    pub(crate) fn last_id(&self) -> EntryId {
        self.log
            .last_key_value()
            .map_or(self.log_start, |(index, term)| EntryId::new(*term, *index))
    }

    pub(crate) fn node(&self) -> &RawNode<SlowStorage> {
        self.node.as_ref().expect("the server is up")
    }

    pub(crate) fn node_mut(&mut self) -> &mut RawNode<SlowStorage> {
        self.node.as_mut().expect("the server is up")
    }

    /// Another configuration, from the next start on.
    pub(crate) fn choose(&mut self, choose: impl Fn(Config) -> Config) {
        self.config = choose(self.config.clone());
    }

    pub(crate) fn hold_disk(&mut self, disk: Disk) {
        self.disk = disk;
    }

    pub(crate) fn hold_in_memory(&mut self, memory: Memory) {
        self.memory = memory;
    }

    pub(crate) fn has_write(&self) -> bool {
        !self.writes.is_empty()
    }

    pub(crate) fn has_apply(&self) -> bool {
        !self.applies.is_empty()
    }

    pub(crate) fn reads(&self) -> &[ReadState] {
        &self.reads
    }

    /// The commands that were applied since the server started or installed a
    /// snapshot.
    pub(crate) fn commands(&self) -> &[Bytes] {
        &self.machine.commands
    }

    /// What the state machine has computed, and up to where.
    pub(crate) fn state(&self) -> (LogIndex, u64) {
        (self.machine.index, self.machine.state)
    }

    /// The terms of the entries of the whole log, stable or not.
    pub(crate) fn terms(&self) -> Vec<u64> {
        self.log.values().map(|term| term.get()).collect()
    }

    // ── starting and crashing ────────────────────────────────────────────────

    /// Starts from the disk. The state machine starts from the snapshot.
    pub(crate) fn start(&mut self) {
        let snapshot = self.stored.snapshot().expect("memory has a snapshot");
        self.machine = Machine::of(&snapshot);
        self.superseded_to = LogIndex::ZERO;
        let first = self.stored.first_index();
        let start = first.prev();
        let term = self.stored.term(start).expect("the term before the log");
        self.log_start = EntryId::new(term, start);
        let entries = self
            .stored
            .entries(first, self.stored.last_index().next(), u64::MAX)
            .expect("the log can be read");
        self.log = entries.iter().map(|e| (e.index(), e.term())).collect();
        // The state machine is at the snapshot, which may be ahead of the log's
        // first entry.
        let config = Config {
            applied: self.machine.index,
            ..self.config.clone()
        };
        let node = RawNode::new(config, SlowStorage::new(self.stored.clone()))
            .expect("a server can start again");
        self.seen_commit = node.commit_index();
        assert!(
            node.term() >= self.seen_term || self.seen_term == Term::ZERO,
            "a restart loses the term"
        );
        self.node = Some(node);
    }

    /// Crashes after `completed` of the writes under way reached the disk. No
    /// answer of theirs was sent. What was not synced is lost.
    pub(crate) fn crash(&mut self, completed: usize) {
        for _ in 0..completed {
            if let Some(write) = self.writes.pop_front() {
                self.write_to_disk(&write);
            }
        }
        let Some(node) = self.node.take() else {
            return;
        };
        self.stored = MemoryStorage::clone(node.storage());
        let mut hard_state = self.stored.hard_state();
        hard_state.commit = self.synced_commit.max(snapshot_index(&self.stored));
        self.stored.set_hard_state(hard_state);
        // Only what is on the disk binds it.
        self.seen_term = hard_state.term;
        self.writes.clear();
        self.applies.clear();
        self.reads.clear();
    }

    // ── effects ──────────────────────────────────────────────────────────────

    /// Takes every Ready that can be taken, and carries out what is not held.
    /// Returns the messages that may be sent.
    pub(crate) fn pump(&mut self, history: &mut History) -> Vec<Message> {
        let mut out = Vec::new();
        loop {
            let mut progressed = false;
            let node = self.node_mut();
            if node.has_ready() && !node.is_ready_outstanding() {
                let ready = node.ready().expect("nothing is outstanding");
                self.take(ready, history, &mut out);
                progressed = true;
            }
            if self.disk == Disk::Instant {
                progressed |= self.complete_write(history, &mut out);
                progressed |= self.complete_apply(history);
                progressed |= self.complete_read(1);
            }
            if self.memory == Memory::Unapplied {
                let node = self.node_mut();
                let applied = node.applied_index();
                node.storage_mut().evict_to(applied);
            }
            self.check(history);
            if !progressed {
                return out;
            }
        }
    }

    fn take(&mut self, ready: Ready, history: &mut History, out: &mut Vec<Message>) {
        let own = self.config.id;
        let synchronous = self.config.storage_writes == StorageWrites::Synchronous;
        let Ready {
            read_states,
            messages,
            append,
            apply,
            must_sync,
            ..
        } = ready;
        for read in read_states {
            // A leader that removed itself and leads on can answer with old
            // indexes: see `divergences`.
            if self.config.read_only == ReadOnly::Safe && self.config.step_down_on_removal {
                history.may_read(own, &read);
            }
            self.reads.push(read);
        }
        history.hears(&messages);
        out.extend(messages);
        if let Some(append) = &append {
            self.observe_append(append, history);
        }
        let (then_apply, apply) = if synchronous {
            (apply, None)
        } else {
            (None, apply)
        };
        if synchronous || append.is_some() {
            self.writes.push_back(Write {
                append: append.unwrap_or_default(),
                must_sync,
                then_apply,
            });
        }
        self.applies.extend(apply);
    }

    /// Follows in the model of the log what is about to be written.
    fn observe_append(&mut self, append: &StorageAppend, history: &mut History) {
        if let Some(snapshot) = &append.snapshot {
            self.log.clear();
            self.log_start = snapshot.metadata.id();
            self.superseded_to = snapshot.metadata.index;
        }
        if let Some(first) = append.entries.first() {
            self.log.split_off(&first.index());
            let mut previous = self
                .term_at(first.index().prev())
                .expect("entries leave no gap");
            for entry in append.entries.iter() {
                previous = history.entry(previous, entry);
                self.log.insert(entry.index(), entry.term());
            }
        }
    }

    fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.log_start.index {
            return Some(self.log_start.term);
        }
        self.log.get(&index).copied()
    }

    /// Completes the oldest write: whether there was one.
    pub(crate) fn complete_write(&mut self, history: &mut History, out: &mut Vec<Message>) -> bool {
        let Some(write) = self.writes.pop_front() else {
            return false;
        };
        self.write_to_disk(&write);
        let mut receipts: Vec<AppendReceipt> = Vec::new();
        for outcome in write.append.responses {
            match outcome {
                AppendOutcome::Send(message) => {
                    history.hears(std::slice::from_ref(&message));
                    out.push(message);
                }
                AppendOutcome::Receipt(receipt) => receipts.push(receipt),
            }
        }
        for receipt in receipts {
            // A receipt of a server that was removed meanwhile does not count.
            let _ = self.node_mut().persisted(receipt);
        }
        if self.config.storage_writes == StorageWrites::Synchronous {
            if let Some(apply) = write.then_apply {
                self.apply(&apply.entries, history);
            }
            self.node_mut().advance().expect("the node is alive");
        }
        true
    }

    fn write_to_disk(&mut self, write: &Write) {
        let append = &write.append;
        let snapshot = append.snapshot.clone();
        let entries = append.entries.clone();
        let hard_state = append.hard_state;
        let storage = self.node_mut().storage_mut();
        if let Some(snapshot) = snapshot.clone() {
            storage
                .apply_snapshot(snapshot)
                .expect("the snapshot is news");
        }
        storage.append(entries).expect("entries leave no gap");
        if let Some(mut hard_state) = hard_state {
            // A snapshot that was made meanwhile covers more than was known to
            // be committed when this write was handed out.
            let covered = snapshot_index(storage);
            hard_state.commit = hard_state.commit.max(covered);
            storage.set_hard_state(hard_state);
        }
        // Everything in the file before a synced write is synced too.
        if write.must_sync || snapshot.is_some() {
            self.synced_commit = self.node().storage().hard_state().commit;
        }
        if let Some(snapshot) = snapshot {
            self.machine = Machine::of(&snapshot);
        }
    }

    /// Completes the oldest application: whether there was one.
    pub(crate) fn complete_apply(&mut self, history: &mut History) -> bool {
        let Some(apply) = self.applies.pop_front() else {
            return false;
        };
        self.apply(&apply.entries, history);
        if let Some(receipt) = apply.receipt {
            self.node_mut().applied(receipt).expect("the node is alive");
        }
        true
    }

    /// Completes one read, which yields `count` entries at most: whether there
    /// was one.
    pub(crate) fn complete_read(&mut self, count: u64) -> bool {
        let node = self.node_mut();
        let completed = node.storage_mut().complete_read(count);
        if completed {
            node.entries_available().expect("the node is alive");
        }
        completed
    }

    fn apply(&mut self, entries: &Entries, history: &mut History) {
        for entry in entries.iter() {
            if entry.index() <= self.superseded_to {
                continue;
            }
            // A change that cannot be made is void, on every server alike.
            if let Ok(Some(change)) = entry.conf_change()
                && let Ok(conf_state) = self.node_mut().apply_conf_change(&change)
            {
                self.machine.conf_state = conf_state;
            }
            self.machine.apply(entry);
            history.computes(
                self.config.id,
                entry.index(),
                self.machine.state,
                &self.machine.conf_state,
            );
        }
    }

    /// Makes a snapshot of the state machine and drops all but `kept` of the
    /// entries that it covers. Both are durable.
    pub(crate) fn compact(&mut self, kept: u64) {
        let machine = self.machine.clone();
        let storage = self.node_mut().storage_mut();
        let own = storage.snapshot().expect("memory has a snapshot");
        if machine.index <= own.metadata.index || machine.index > storage.last_index() {
            return;
        }
        storage
            .create_snapshot(
                machine.index,
                Some(machine.conf_state),
                Bytes::copy_from_slice(&machine.state.to_le_bytes()),
            )
            .expect("the index is in the log");
        let to = LogIndex::new(machine.index.get().saturating_sub(kept));
        if to >= storage.first_index() {
            storage.compact(to).expect("the index is in the log");
        }
        let mut hard_state = storage.hard_state();
        hard_state.commit = hard_state.commit.max(machine.index);
        storage.set_hard_state(hard_state);
        self.synced_commit = hard_state.commit;
    }

    // ── looking ──────────────────────────────────────────────────────────────

    /// Looks at everything that must hold after every step.
    fn check(&mut self, history: &mut History) {
        let node = self.node();
        let own = node.id();
        if let Err(broken) = node.check() {
            panic!("invariant broken on {own}: {broken}");
        }
        let (current, commit) = (node.term(), node.commit_index());
        let leads = node.role() == RoleKind::Leader;
        assert!(current >= self.seen_term, "the term of {own} went back");
        assert!(
            commit >= self.seen_commit,
            "the commit index of {own} went back"
        );
        // The model lags until the Ready is taken, which has to wait while the
        // one before it is being written.
        if !node.has_ready() {
            let mut at = self.seen_commit.next().max(self.log_start.index);
            while at <= commit {
                if let Some(term) = self.term_at(at) {
                    history.commits(own, current, EntryId::new(term, at));
                }
                at = at.next();
            }
            self.seen_commit = commit;
            if leads {
                history.leads(own, current);
                history.has_all(own, current, self.log_start.index.next(), |at| {
                    self.term_at(at)
                });
            }
        }
        self.seen_term = current;
    }
}

fn snapshot_index(storage: &MemoryStorage) -> LogIndex {
    storage
        .snapshot()
        .map_or(LogIndex::ZERO, |snapshot| snapshot.metadata.index)
}

/// An empty log behind a snapshot at index 1, as a cluster that was set up by
/// hand has it: who joins later gets the configuration with the snapshot.
pub(crate) fn bootstrapped(conf_state: ConfState) -> MemoryStorage {
    let mut storage = MemoryStorage::new();
    storage
        .apply_snapshot(Snapshot {
            metadata: SnapshotMetadata {
                index: LogIndex::new(1),
                term: Term::new(1),
                conf_state,
            },
            data: Bytes::copy_from_slice(&[0; 8]),
        })
        .expect("the storage is empty");
    let mut hard_state = storage.hard_state();
    hard_state.term = Term::new(1);
    hard_state.commit = LogIndex::new(1);
    storage.set_hard_state(hard_state);
    storage
}

//! # Metrics through the facade
//!
//! Hands the numbers to whatever recorder the program has installed when the
//! replica starts, each with the label `node`, and `to` where it is about a
//! member. Handles are made once.
//!
//! - Owns: the handles.

use std::collections::HashMap;

use metrics::{Counter, Gauge, Label, counter, describe_counter, describe_gauge, gauge};
use raft_core::NodeId;

use super::{Metric, MetricKind};
use crate::status::ReplicaStatus;

enum Handle {
    Gauge(Gauge),
    Counter(Counter),
}

/// The handles of one replica.
pub(crate) struct Recorder {
    node: NodeId,
    handles: HashMap<(&'static str, Option<NodeId>), Handle>,
}

impl Recorder {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node,
            handles: HashMap::new(),
        }
    }

    pub(crate) fn record(&mut self, status: &ReplicaStatus) {
        for metric in status.metrics() {
            let node = self.node;
            let handle = self
                .handles
                .entry((metric.name, metric.to))
                .or_insert_with(|| register(node, &metric));
            match handle {
                // Indexes are far below 2^53, up to which this is exact.
                #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
                Handle::Gauge(gauge) => gauge.set(metric.value as f64),
                Handle::Counter(counter) => counter.absolute(metric.value),
            }
        }
    }
}

fn register(node: NodeId, metric: &Metric) -> Handle {
    let mut labels = vec![Label::new("node", node.to_string())];
    if let Some(to) = metric.to {
        labels.push(Label::new("to", to.to_string()));
    }
    match metric.kind {
        MetricKind::Gauge => {
            describe_gauge!(metric.name, metric.help);
            Handle::Gauge(gauge!(metric.name, labels))
        }
        MetricKind::Counter => {
            describe_counter!(metric.name, metric.help);
            Handle::Counter(counter!(metric.name, labels))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    use metrics::{CounterFn, GaugeFn, Histogram, Key, KeyName, Metadata, SharedString, Unit};

    /// Remembers what was recorded last under each key.
    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<HashMap<String, f64>>>);

    struct Note(Notes, String);

    impl Note {
        fn put(&self, value: f64) {
            self.0.0.lock().unwrap().insert(self.1.clone(), value);
        }
    }

    impl GaugeFn for Note {
        fn increment(&self, _: f64) {}
        fn decrement(&self, _: f64) {}
        fn set(&self, value: f64) {
            self.put(value);
        }
    }

    impl CounterFn for Note {
        fn increment(&self, _: u64) {}
        fn absolute(&self, value: u64) {
            self.put(f64::from(u32::try_from(value).unwrap()));
        }
    }

    impl Notes {
        fn note(&self, key: &Key) -> Arc<Note> {
            let labels = key
                .labels()
                .map(|label| format!(" {}={}", label.key(), label.value()));
            let name = key.name().to_owned() + &labels.collect::<String>();
            Arc::new(Note(self.clone(), name))
        }
    }

    impl metrics::Recorder for Notes {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.note(key))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.note(key))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn the_recorder_of_the_program_gets_every_number_of_the_status() {
        let notes = Notes::default();
        let node = NodeId::new(3).unwrap();
        let mut status = ReplicaStatus::starting(node);
        let mut recorder = Recorder::new(node);
        metrics::with_local_recorder(&notes, || recorder.record(&status));
        status.leader = Some(node);
        status.leader_changes = 4;
        recorder.record(&status);
        let notes = notes.0.lock().unwrap();
        assert_eq!(notes.len(), status.metrics().len());
        assert_eq!(notes["raft_has_leader node=3"].to_bits(), 1_f64.to_bits());
        let changes = notes["raft_leader_changes_seen_total node=3"];
        assert_eq!(changes.to_bits(), 4_f64.to_bits());
    }
}

//! # raft-core under the core load
//!
//! The three nodes of our own benches.

use crate::core_load::{Load, Trio};

pub struct Ours(raft_benches::Trio);

impl Trio for Ours {
    fn elected() -> Self {
        Self(raft_benches::Trio::default())
    }

    fn commit(&mut self, load: Load) {
        self.0.commit(load.batch, load.payload_bytes);
    }

    fn applied(&self) -> [u64; 3] {
        self.0.applied()
    }
}

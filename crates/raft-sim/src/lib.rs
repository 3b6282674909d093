//! raft-sim.

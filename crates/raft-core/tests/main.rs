//! The tests of the protocol, in one binary around one cluster.

mod hostile;
mod paper;
mod properties;
mod random_cluster;
mod support;

//! The tests of the protocol, in one binary around one cluster.

mod bugs;
mod paper;
mod properties;
mod random_cluster;
mod readys;
mod regressions;
mod support;

//! The tests of the wire. A failing property prints the input that it failed on.

mod conf_changes;
mod frames;
mod generated;
mod golden;
mod messages;
mod support;

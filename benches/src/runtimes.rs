//! # Runtimes
//!
//! - Owns: how many threads a load has.

use tokio::runtime::{Builder, Runtime};

/// One thread, so that what is counted is repeatable.
///
/// # Panics
/// If there is no runtime to be had.
pub fn one_thread() -> Runtime {
    built(Builder::new_current_thread())
}

/// Two threads, for clients and nodes together.
///
/// # Panics
/// If there is no runtime to be had.
pub fn two_threads() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2);
    built(builder)
}

fn built(mut builder: Builder) -> Runtime {
    builder.enable_all().build().expect("a runtime")
}

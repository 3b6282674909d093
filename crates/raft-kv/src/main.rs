//! The `raft-kv` program.

use std::process::ExitCode;

use clap::Parser;
use raft_kv::cli::{self, Arguments};

/// Every request makes and drops several small pieces of memory, often on
/// different threads. docs/PERFORMANCE.md has what this one saves.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("raft-kv: {error}");
            ExitCode::FAILURE
        }
    }
}

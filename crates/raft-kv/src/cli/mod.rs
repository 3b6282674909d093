//! # The command line
//!
//! What can be asked for, and who does it.
//!
//! | file | room |
//! |---|---|
//! | `serve.rs`, `demo.rs`, `bench.rs`, `operate.rs` | how a command is typed |
//! | `values.rs` | values that several commands take |
//! | `stop.rs` | being asked to stop |

mod bench;
mod demo;
mod operate;
mod serve;
mod stop;
mod values;

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

use self::bench::BenchArguments;
use self::demo::DemoArguments;
use self::operate::{Asked, MemberCommand};
use self::serve::ServeArguments;
use self::stop::{or_interrupted, stop_signal};
use crate::operate::{member, status};

/// A replicated key-value store that speaks the Redis protocol.
#[derive(Debug, Parser)]
#[command(name = "raft-kv", version, propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run three nodes here, load them, kill the leader, and check that nothing
    /// acknowledged is lost.
    Demo(DemoArguments),
    /// Run one node.
    Serve(ServeArguments),
    /// Measure a cluster: the one at --addr, or one started for the purpose.
    Bench(BenchArguments),
    /// Show what nodes are doing.
    Status(Asked),
    /// Add, remove or replace a node, or have another one lead.
    #[command(subcommand)]
    Member(MemberCommand),
}

/// An error that is shown to whoever typed the command.
pub type ShownError = Box<dyn Error + Send + Sync>;

/// Which log lines are shown.
fn log_filter() -> Result<EnvFilter, ShownError> {
    let Some(filter) = std::env::var_os("RAFT_KV_LOG") else {
        return Ok(EnvFilter::new("warn,raft_kv=info,raft_tokio=info"));
    };
    let filter = filter.to_string_lossy();
    EnvFilter::try_new(&filter).map_err(|error| {
        format!("RAFT_KV_LOG is {filter:?}, which is no filter ({error}); try `info`").into()
    })
}

/// Does what was asked for.
///
/// # Errors
/// It cannot be done; the error is a sentence for whoever asked.
pub fn run(arguments: Arguments) -> Result<ExitCode, ShownError> {
    tracing_subscriber::fmt()
        .with_env_filter(log_filter()?)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    match arguments.command {
        Command::Serve(arguments) => {
            let runtime = runtime(arguments.threads)?;
            let until_stdin_ends = arguments.until_stdin_ends;
            let config = arguments.into_config()?;
            runtime.block_on(async {
                let stop = stop_signal(until_stdin_ends)?;
                crate::serve::serve(config, stop).await?;
                Ok(ExitCode::SUCCESS)
            })
        }
        Command::Demo(arguments) => runtime(1)?.block_on(or_interrupted(async {
            let json = arguments.json;
            let report = crate::demo::run(arguments.into_options()?).await?;
            show(&report, json.into())?;
            Ok(if report.is_sound() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        })),
        Command::Bench(arguments) => runtime(1)?.block_on(or_interrupted(async {
            let (json, svg) = (arguments.json, arguments.svg.clone());
            let picture = match &svg {
                // Before anything is measured, so that no figures are lost.
                Some(path) => Some(File::create(path).map_err(|error| unwritten(path, &error))?),
                None => None,
            };
            let report = crate::bench::run(arguments.into_options()?).await?;
            show(&report, json.into())?;
            if let (Some(mut picture), Some(path)) = (picture, svg) {
                let drawn = picture.write_all(report.to_svg().as_bytes());
                drawn.map_err(|error| unwritten(&path, &error))?;
            }
            Ok(ExitCode::SUCCESS)
        })),
        Command::Status(asked) => runtime(1)?.block_on(async {
            let pages = status::ask(&asked.http).await;
            show(&pages, asked.json.into())?;
            Ok(if pages.is_complete() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }),
        Command::Member(command) => runtime(1)?.block_on(async {
            let (change, catch_up, asked) = command.into_change();
            let report = member::change(&asked.http, change, catch_up).await?;
            show(&report, asked.json.into())?;
            Ok(ExitCode::SUCCESS)
        }),
    }
}

/// For whom a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Person,
    Program,
}

impl From<bool> for Reader {
    /// As `--json` says.
    fn from(json: bool) -> Self {
        if json { Self::Program } else { Self::Person }
    }
}

/// Prints a result. Whoever reads it may have seen enough before its end.
fn show<R: fmt::Display + Serialize>(result: &R, reader: Reader) -> Result<(), ShownError> {
    let mut out = io::stdout().lock();
    let printed = match reader {
        Reader::Person => writeln!(out, "{result}"),
        Reader::Program => writeln!(out, "{}", serde_json::to_string_pretty(result)?),
    };
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn unwritten(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}

fn runtime(threads: usize) -> Result<Runtime, ShownError> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(threads).enable_all().build();
    runtime.map_err(|error| format!("cannot start threads: {error}").into())
}

fn this_program() -> Result<PathBuf, ShownError> {
    std::env::current_exe()
        .map_err(|error| format!("cannot find the raft-kv program itself: {error}").into())
}

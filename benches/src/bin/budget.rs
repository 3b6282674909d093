//! Counts the instructions of each operation under valgrind and compares them
//! with the budget in `benches/budget.json`.
//!
//! ```text
//! cargo run --release -p raft-benches --bin budget
//! cargo run --release -p raft-benches --bin budget -- --bless
//! ```
//!
//! An operation is counted twice, with so many repetitions and with twice as
//! many. The difference is free of what the start of the process costs. It
//! fails if an operation needs over 10 % more than its budget. What is not to
//! depend on the length of the log has to keep the budget of a short one.
//!
//! The counts belong to a compiler and a platform. With another one they are
//! printed, and nothing fails: they would say nothing about a change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use raft_benches::{OPERATIONS, Operation};
use serde_json::{Value, json};

const TOLERANCE_PERCENT: u64 = 10;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Takes what is counted now as the budget.
    #[arg(long)]
    bless: bool,
    #[command(subcommand)]
    run: Option<Run>,
}

#[derive(Subcommand)]
enum Run {
    /// Only repeats one operation; this is what valgrind looks at.
    Repeat { operation: String, times: u32 },
}

/// What the counts belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    compiler: String,
    platform: String,
}

impl Origin {
    fn here() -> Result<Self, String> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc)
            .arg("--version")
            .output()
            .map_err(|error| format!("rustc does not say its version: {error}"))?;
        Ok(Self {
            compiler: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            platform: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        })
    }
}

#[derive(Debug)]
struct Budget {
    origin: Origin,
    instructions: BTreeMap<String, u64>,
}

impl Budget {
    fn file() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("budget.json")
    }

    fn read() -> Result<Self, String> {
        let path = Self::file();
        let text = std::fs::read(&path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let value: Value = serde_json::from_slice(&text)
            .map_err(|error| format!("{} is not JSON: {error}", path.display()))?;
        let text_of = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let instructions = value["instructions"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)))
            .collect();
        Ok(Self {
            origin: Origin {
                compiler: text_of("compiler"),
                platform: text_of("platform"),
            },
            instructions,
        })
    }

    fn write(&self) -> Result<(), String> {
        let value = json!({
            "compiler": self.origin.compiler,
            "platform": self.origin.platform,
            "instructions": self.instructions,
        });
        let mut text = serde_json::to_string_pretty(&value).map_err(|error| error.to_string())?;
        text.push('\n');
        let path = Self::file();
        std::fs::write(&path, text)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.run {
        Some(Run::Repeat { operation, times }) => repeat(&operation, times),
        None if arguments.bless => bless(),
        None => compare(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn repeat(operation: &str, times: u32) -> Result<(), String> {
    let operation =
        Operation::named(operation).ok_or_else(|| format!("no operation is called {operation}"))?;
    operation.repeat(times);
    Ok(())
}

fn bless() -> Result<(), String> {
    let mut instructions = BTreeMap::new();
    for operation in &OPERATIONS {
        let count = instructions_of(operation)?;
        println!("{count:>10}  {}", operation.name);
        if operation.has_own_budget() {
            instructions.insert(operation.name.to_owned(), count);
        }
    }
    let origin = Origin::here()?;
    Budget {
        origin,
        instructions,
    }
    .write()
}

fn compare() -> Result<(), String> {
    let budget = Budget::read()?;
    let here = Origin::here()?;
    println!(
        "{:>10} {:>10} {:>8}  operation",
        "counted", "budget", "change"
    );
    let mut over = 0;
    let mut under = 0;
    for operation in &OPERATIONS {
        let count = instructions_of(operation)?;
        let Some(&allowed) = budget.instructions.get(operation.budget_name) else {
            println!("{count:>10} {:>10} {:>8}  {}", "none", "", operation.name);
            over += 1;
            continue;
        };
        let change = 100.0 * (to_float(count) / to_float(allowed.max(1)) - 1.0);
        let is_over = count * 100 > allowed * (100 + TOLERANCE_PERCENT);
        let is_under = count * 100 < allowed * (100 - TOLERANCE_PERCENT);
        let mark = match (is_over, is_under) {
            (true, _) => "  OVER",
            (_, true) => "  under",
            _ => "",
        };
        println!(
            "{count:>10} {allowed:>10} {change:>+7.1}%  {}{mark}",
            operation.name
        );
        over += u32::from(is_over);
        under += u32::from(is_under);
    }
    if under > 0 {
        println!(
            "{under} operations need over {TOLERANCE_PERCENT} % less than their budget. Take the \
             new counts with --bless, or the next change may give all of that away unseen."
        );
    }
    if here != budget.origin {
        println!(
            "The budget was taken with {} on {}; this is {} on {}. So nothing fails: take it anew \
             with --bless.",
            budget.origin.compiler, budget.origin.platform, here.compiler, here.platform
        );
        return Ok(());
    }
    if over > 0 {
        return Err(format!(
            "{over} operations need over {TOLERANCE_PERCENT} % more than their budget, or have \
             none. Find out why, or take the new counts with --bless and say in the commit what \
             they buy."
        ));
    }
    Ok(())
}

/// Instructions of one repetition.
fn instructions_of(operation: &Operation) -> Result<u64, String> {
    let once = collected(operation, operation.repetitions)?;
    let twice = collected(operation, 2 * operation.repetitions)?;
    Ok(twice.saturating_sub(once) / u64::from(operation.repetitions))
}

fn collected(operation: &Operation, times: u32) -> Result<u64, String> {
    let own = std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args(["repeat", operation.name, &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind cannot be started ({error}); install it"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    report
        .lines()
        .filter(|_| output.status.success())
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
        .ok_or_else(|| format!("valgrind did not count {}:\n{report}", operation.name))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures for people, far below 2^52"
)]
fn to_float(count: u64) -> f64 {
    count as f64
}

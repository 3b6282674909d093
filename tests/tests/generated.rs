//! Runs generated scripts and checks the invariants of the cluster after every
//! command.
//!
//! `RAFT_SCRIPTS=100000` runs that many instead of a few hundred, from
//! `RAFT_SEED=S` on (0 if it is not given), on `RAFT_THREADS` threads (1).
//! `RAFT_PRINT=1 RAFT_SEED=S` prints the script of one seed as a scenario file.

use std::env;
use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use raft_tests::generator::{Figures, generate, replay, shrunk};

/// Run if nothing is asked for.
const SCRIPTS: u64 = 300;

fn main() -> ExitCode {
    match choices() {
        Ok(choices) if choices.prints => print(choices.first),
        Ok(choices) => run(&choices),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

struct Choices {
    first: u64,
    scripts: u64,
    threads: u64,
    prints: bool,
}

fn choices() -> Result<Choices, String> {
    Ok(Choices {
        first: number("RAFT_SEED")?.unwrap_or(0),
        scripts: number("RAFT_SCRIPTS")?.unwrap_or(SCRIPTS),
        threads: number("RAFT_THREADS")?.unwrap_or(1).max(1),
        prints: number("RAFT_PRINT")?.is_some_and(|number| number > 0),
    })
}

fn number(name: &str) -> Result<Option<u64>, String> {
    let Ok(text) = env::var(name) else {
        return Ok(None);
    };
    let number = text.parse();
    number
        .map(Some)
        .map_err(|_| format!("{name} is {text:?}; give a number"))
}

fn print(seed: u64) -> ExitCode {
    let outcome = generate(seed);
    println!("# Seed {seed}.\n\n{}", outcome.run.text());
    match outcome.result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(choices: &Choices) -> ExitCode {
    let started = Instant::now();
    let next = AtomicU64::new(choices.first);
    let end = choices.first.saturating_add(choices.scripts);
    let failed = AtomicBool::new(false);
    let bar = progress(choices.scripts);
    let mut total = Figures::default();
    thread::scope(|scope| {
        let work = || {
            let mut figures = Figures::default();
            while !failed.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    break;
                }
                match run_one(seed) {
                    Ok(more) => figures.add(more),
                    Err(report) => {
                        failed.store(true, Ordering::Relaxed);
                        bar.suspend(|| println!("{report}"));
                    }
                }
                bar.inc(1);
            }
            figures
        };
        let threads: Vec<_> = (0..choices.threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            total.add(thread.join().expect("a panic of a script is caught"));
        }
    });
    bar.finish_and_clear();
    if failed.into_inner() {
        return ExitCode::FAILURE;
    }
    println!(
        "{} scripts passed (seeds {}..{end}) in {:.1} s: {total:?}",
        choices.scripts,
        choices.first,
        started.elapsed().as_secs_f64()
    );
    // A generator that never gets anywhere would prove nothing.
    let happened = [
        total.elections,
        total.committed,
        total.restarts,
        total.reads,
        total.configurations,
        total.joint,
        total.snapshots,
        total.transfers,
        total.pre_votes,
        total.asynchronous,
        // Of all settings the rarest.
        total.leases * 4,
    ];
    if choices.scripts >= SCRIPTS && happened.iter().any(|count| *count < choices.scripts / 10) {
        println!("too little happened in these scripts");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run_one(seed: u64) -> Result<Figures, String> {
    let reproduce =
        format!("RAFT_SCRIPTS=1 RAFT_SEED={seed} cargo test -p raft-tests --test generated");
    let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| generate(seed))) else {
        return Err(format!("seed {seed} panics; reproduce: {reproduce}"));
    };
    let Err(why) = &outcome.result else {
        return Ok(outcome.run.figures());
    };
    let short = shrunk(outcome.body(), why, |steps| {
        catch_unwind(AssertUnwindSafe(|| replay(steps)))
            .ok()?
            .result
            .err()
    });
    let text = replay(&short).run.text();
    Err(format!(
        "seed {seed} fails: {why}\nreproduce: {reproduce}\nshrunk, with its healing:\n\n{text}"
    ))
}

fn progress(scripts: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(scripts), ProgressDrawTarget::hidden());
    }
    let style =
        ProgressStyle::with_template("{pos}/{len} scripts {wide_bar} {per_sec}, {eta} left");
    ProgressBar::new(scripts).with_style(style.expect("the template is one of indicatif's"))
}

//! Figures that a stopwatch alone does not give: allocations, cost as the log
//! grows, idle groups; and plain loops to be run under a profiler.
//!
//! ```text
//! cargo run --release -p raft-benches --bin measure -- allocations
//! valgrind --tool=callgrind target/release/measure core --batch 256 --batches 400
//! ```

use std::alloc::System;
use std::time::Instant;

use clap::{Parser, Subcommand, value_parser};
use raft_benches::{
    Growth, Trio, core_allocations, handle_allocations, one_thread, run_clients, start_in_memory,
};
use raft_core::{ConfState, Config, MemoryStorage, NodeId, RawNode};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How often a time is taken.
const ROUNDS: usize = 7;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    figure: Figure,
}

#[derive(Subcommand)]
enum Figure {
    /// Allocations per entry and node in steady state.
    Allocations,
    /// Nanoseconds for the same calls with more and more entries in the log.
    Growth,
    /// Ten thousand idle groups in one thread: time per tick, bytes per group.
    IdleGroups,
    /// Commits batches on three synchronous nodes, for a profiler.
    Core {
        #[arg(long, default_value_t = 256, value_parser = value_parser!(u16).range(1..))]
        batch: u16,
        #[arg(long, default_value_t = 16, value_parser = value_parser!(u16).range(1..))]
        payload_bytes: u16,
        #[arg(long, default_value_t = 400)]
        batches: u64,
    },
    /// Proposes commands through handles on one thread, for a profiler.
    Handle {
        #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..=7))]
        members: u64,
        #[arg(long, default_value_t = 64, value_parser = value_parser!(u64).range(1..))]
        clients: u64,
        /// Of all clients together, rounded up to the same number for each.
        #[arg(long, default_value_t = 20_000)]
        commands: u64,
    },
}

fn main() {
    match Arguments::parse().figure {
        Figure::Allocations => allocations(),
        Figure::Growth => growth(),
        Figure::IdleGroups => idle_groups(),
        Figure::Core {
            batch,
            payload_bytes,
            batches,
        } => {
            let mut trio = Trio::default();
            for _ in 0..batches {
                trio.commit(batch.into(), payload_bytes.into());
            }
            println!("applied: {:?}", trio.applied());
        }
        Figure::Handle {
            members,
            clients,
            commands,
        } => one_thread().block_on(async {
            let rafts = start_in_memory(members).await;
            run_clients(&rafts[0], clients, commands.div_ceil(clients)).await;
            println!("last index: {}", rafts[0].status().last_index);
        }),
    }
}

fn ratio(count: usize, of: u64) -> f64 {
    to_float(count as u64) / to_float(of)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures for people, far below 2^52"
)]
fn to_float(count: u64) -> f64 {
    count as f64
}

fn allocations() {
    println!("allocations (and reallocations) per entry and node, of three nodes");
    for batch in [1, 16, 256] {
        let cost = core_allocations(ALLOCATOR, batch);
        println!(
            "core, batches of {batch}: {:.3} (and {:.3})",
            cost.allocated, cost.reallocated
        );
    }
    for clients in [1, 64, 1024] {
        let cost = handle_allocations(ALLOCATOR, clients);
        println!(
            "handle, {clients} clients: {:.3} (and {:.3}), tasks of the clients included",
            cost.allocated, cost.reallocated
        );
    }
}

/// A figure that was taken several times.
fn median_and_range(mut samples: Vec<f64>) -> String {
    samples.sort_by(f64::total_cmp);
    let (least, most) = (samples[0], samples[samples.len() - 1]);
    let median = samples[samples.len() / 2];
    format!("{median:.0} ({least:.0}-{most:.0})")
}

fn growth() {
    const LOG_ENTRIES: [usize; 5] = [1, 100, 10_000, 100_000, 1_000_000];
    let mut rows: Vec<Vec<Growth>> = vec![Vec::new(); LOG_ENTRIES.len()];
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        for (row, log_entries) in rows.iter_mut().zip(LOG_ENTRIES) {
            row.push(Growth::measure(log_entries));
        }
    }
    println!("In nanoseconds, median (minimum-maximum) of {ROUNDS} rounds. A commit is for");
    println!("each entry and all three nodes, the other calls are a leader's.\n");
    println!(
        "| entries in the log | commit 1 | commit 256 | has_ready | tick and heartbeats | step |"
    );
    println!("|--:|--:|--:|--:|--:|--:|");
    for (row, log_entries) in rows.iter().zip(LOG_ENTRIES) {
        print!("| {log_entries} |");
        for column in 0..5 {
            let samples = row.iter().map(|growth| growth.columns()[column]);
            print!(" {} |", median_and_range(samples.collect()));
        }
        println!();
    }
}

fn idle_groups() {
    const GROUPS: u64 = 10_000;
    let region = Region::new(ALLOCATOR);
    let voters = ConfState::of_voters((1..=3).filter_map(NodeId::new));
    let mut groups: Vec<RawNode<MemoryStorage>> = (0..GROUPS)
        .map(|seed| {
            let id = NodeId::new(1).expect("a node id");
            let config = Config {
                seed,
                // Nobody leads, and nobody is to campaign while this looks on.
                election_ticks: 1_000_000,
                ..Config::protected(id)
            };
            RawNode::new(config, MemoryStorage::with_conf_state(voters.clone())).expect("a node")
        })
        .collect();
    let change = region.change();
    let held = change.bytes_allocated - change.bytes_deallocated;
    let ticks = 100_u32;
    let mut ready = 0_u64;
    let mut us_per_thousand = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..ticks {
            for group in &mut groups {
                group.tick().expect("the node lives");
                ready += u64::from(group.has_ready());
            }
        }
        let thousands = f64::from(ticks) * to_float(GROUPS / 1000);
        us_per_thousand.push(begin.elapsed().as_secs_f64() * 1e6 / thousands);
    }
    assert_eq!(ready, 0, "an idle group has nothing to do");
    println!("{GROUPS} idle groups, of three voters each, in one thread");
    println!(
        "{} us for a tick of 1,000 groups and a look at each: median (minimum-maximum) of \
         {ROUNDS} rounds",
        median_and_range(us_per_thousand)
    );
    println!("{:.0} bytes per group", ratio(held, GROUPS));
}

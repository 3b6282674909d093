//! Figures that a stopwatch alone does not give: allocations, cost as the log
//! grows, idle groups; and plain loops to be run under a profiler.
//!
//! ```text
//! cargo run --release -p raft-benches --bin measure -- allocations
//! valgrind --tool=callgrind target/release/measure core --batch 256 --batches 400
//! ```

use std::alloc::System;
use std::time::Instant;

use clap::{Parser, Subcommand};
use raft_benches::{Trio, core_allocations, handle_allocations, run_clients, start_in_memory};
use raft_core::{ConfState, Config, MemoryStorage, NodeId, RawNode};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

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
    /// Nanoseconds per entry with more and more entries in the log.
    Growth,
    /// Ten thousand idle groups in one thread: time per tick, bytes per group.
    IdleGroups,
    /// Commits batches on three synchronous nodes, for a profiler.
    Core {
        #[arg(long, default_value_t = 256)]
        batch: usize,
        #[arg(long, default_value_t = 16)]
        payload_bytes: usize,
        #[arg(long, default_value_t = 400)]
        batches: usize,
    },
    /// Proposes commands through handles on one thread, for a profiler.
    Handle {
        #[arg(long, default_value_t = 3)]
        members: u64,
        #[arg(long, default_value_t = 64)]
        clients: u64,
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
                trio.commit(batch, payload_bytes);
            }
            println!("applied: {:?}", trio.applied());
        }
        Figure::Handle {
            members,
            clients,
            commands,
        } => one_thread().block_on(async {
            let rafts = start_in_memory(members).await;
            run_clients(&rafts[0], clients, commands).await;
            println!("last index: {}", rafts[0].status().last_index);
        }),
    }
}

fn one_thread() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
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

fn growth() {
    println!("ns per entry for all three nodes, by the entries in the log");
    for batch in [1_usize, 256] {
        let mut trio = Trio::elected(u64::MAX);
        let mut length = 0_usize;
        for log_entries in [1_usize, 100, 10_000, 100_000, 1_000_000] {
            while length < log_entries {
                let missing = (log_entries - length).min(batch);
                trio.commit(missing, 16);
                length += missing;
            }
            let batches = 20_000 / batch;
            let begin = Instant::now();
            for _ in 0..batches {
                trio.commit(batch, 16);
            }
            let elapsed = begin.elapsed();
            length += batches * batch;
            let each = elapsed / u32::try_from(batches * batch).expect("few entries");
            println!("batches of {batch}, from {log_entries} entries on: {each:?}");
        }
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
    let ticks = 200_u32;
    let begin = Instant::now();
    let mut ready = 0_u64;
    for _ in 0..ticks {
        for group in &mut groups {
            group.tick().expect("the node lives");
            ready += u64::from(group.has_ready());
        }
    }
    let per_thousand = begin.elapsed() / ticks / u32::try_from(GROUPS / 1000).expect("few");
    assert_eq!(ready, 0, "an idle group has nothing to do");
    println!("{GROUPS} idle groups: {per_thousand:?} per tick and look at 1,000 groups");
    println!("{:.0} bytes per group", ratio(held, GROUPS));
}

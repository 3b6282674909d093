//! The same workloads through ours and through others', in turn, in one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- [--quick] [--json FILE]
//!     [--only core|handle] [--clients N,..] [--members N] [--layout shared|split] [--of NAME]
//! ```

mod core_load;
mod core_ours;
mod core_raft_rs;
mod etcd;
mod handle_floor;
mod handle_load;
mod handle_openraft;
mod handle_ours;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::core_load::LOADS;
use crate::core_ours::Ours;
use crate::core_raft_rs::{InOneMessage, OneByOne, RaftRs};
use crate::etcd::Etcd;
use crate::handle_load::{CLIENTS, Layout};
use crate::table::{Measure, Table};

const NOTES: &str = "\
What favours whom:
- Every payload of the core load is allocated anew, on every side. raft-rs takes a `Vec`, ours a
  `Bytes`; with raft-rs' protobuf codec (the default here) entries share payloads as ours do, with
  its prost codec every copy of an entry copies its payload.
- `raft-rs` proposes one by one with `batch_append`, as its documentation shows; `raft-rs, 1 msg`
  puts a batch into one MsgPropose, as only its followers do. Ours has `propose_batch`. etcd's
  `Propose` is one by one. With a batch of 1 all do the same.
- Ours reads a shared batch where raft-rs' and etcd's MemoryStorage copy entries, under a lock that
  ours does not have: that is our design, and also a part of the difference that a service with a
  log of its own would not see in full.
- Handle load: openraft runs in the manner of its own minimal benchmark, with its configuration and
  its log in a BTreeMap; its commands are typed, and nothing is cloned but a static `Bytes`. Ours
  allocates nothing for a reply either. Nothing is encoded by anybody.
- openraft calls its peers directly, ours moves packets through queues; etcd's nodes use channels,
  as its `Node` is meant to be used, and goroutines on as many threads as there are cores.
- The floor replicates nothing and commits nothing.
- Every contender runs in this process on the same threads, but for etcd, which has its own.
";

/// Measures ours beside raft-rs, openraft and etcd's raft.
#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Fewer rounds, shorter samples: about a minute.
    #[arg(long)]
    quick: bool,
    /// Writes every sample to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measures only this load.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Of the handle load, only rows with so many clients.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    clients: Vec<usize>,
    /// Of the handle load, only clusters of so many nodes.
    #[arg(long, value_name = "N")]
    members: Option<u64>,
    /// Of the handle load, only this layout of threads.
    #[arg(long, value_enum)]
    layout: Option<Layout>,
    /// Of the handle load, only this contender: for a profiler.
    #[arg(long, value_enum)]
    of: Option<Contender>,
}

impl Arguments {
    fn clients(&self) -> Vec<usize> {
        if self.clients.is_empty() {
            CLIENTS.to_vec()
        } else {
            self.clients.clone()
        }
    }

    fn wants(&self, contender: Contender) -> bool {
        self.of.is_none_or(|only| only == contender)
    }
}

/// Who answers the handle load.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Contender {
    RaftTokio,
    Openraft,
    Etcd,
    Floor,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Synchronous cores, three nodes in one thread.
    Core,
    /// Handles: `propose().await` and its like.
    Handle,
}

/// How often, and how long.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    core_time: Duration,
    handle_time: Duration,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let effort = if arguments.quick {
        Effort {
            rounds: 3,
            core_time: Duration::from_millis(150),
            handle_time: Duration::from_millis(250),
        }
    } else {
        Effort {
            rounds: 7,
            core_time: Duration::from_millis(400),
            handle_time: Duration::from_millis(800),
        }
    };
    let etcd = Etcd::build();
    let etcd = match &etcd {
        Ok(etcd) => Some(etcd),
        Err(why) => {
            println!("etcd: {why}\n");
            None
        }
    };
    let mut tables = Vec::new();
    if arguments.only != Some(Part::Handle) {
        tables.push(core(effort, etcd));
    }
    if arguments.only != Some(Part::Core) {
        for (layout, members) in [
            (Layout::Shared, 3),
            (Layout::Shared, 1),
            (Layout::Split, 3),
            (Layout::Split, 1),
        ] {
            let is_wanted = arguments.layout.is_none_or(|only| only == layout)
                && arguments.members.is_none_or(|only| only == members);
            if is_wanted {
                tables.push(handle(&arguments, effort, layout, members, etcd));
            }
        }
    }
    println!("{NOTES}");
    let Some(file) = arguments.json else {
        return ExitCode::SUCCESS;
    };
    let json = serde_json::to_vec_pretty(&tables).expect("tables are JSON");
    match std::fs::write(&file, json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} cannot be written: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}

fn core(effort: Effort, etcd: Option<&Etcd>) -> Table {
    let codec = if cfg!(feature = "prost-codec") {
        "prost codec"
    } else {
        "protobuf codec"
    };
    let mut table = Table::new(
        &format!("Core: three nodes in one thread (raft-rs with its {codec})"),
        Measure::NanosPerEntry,
        &["raft-core", "raft-rs", "raft-rs, 1 msg", "etcd"],
        LOADS.map(core_load::Load::name).to_vec(),
    );
    let time = effort.core_time;
    for round in 1..=effort.rounds {
        eprintln!("core, round {round} of {}", effort.rounds);
        for (row, load) in LOADS.into_iter().enumerate() {
            table.push(row, 0, core_load::measure::<Ours>(load, time));
            table.push(row, 1, core_load::measure::<RaftRs<OneByOne>>(load, time));
            table.push(
                row,
                2,
                core_load::measure::<RaftRs<InOneMessage>>(load, time),
            );
            if let Some(etcd) = etcd {
                table.push(row, 3, etcd.core(load, time));
            }
        }
    }
    println!("{}", table.markdown());
    table
}

fn handle(
    arguments: &Arguments,
    effort: Effort,
    layout: Layout,
    members: u64,
    etcd: Option<&Etcd>,
) -> Table {
    let nodes = if members == 1 {
        "one node"
    } else {
        "three nodes"
    };
    // Goroutines know no layouts, so etcd stands in one table.
    let etcd = etcd.filter(|_| layout == Layout::Shared && members == 3);
    let rows = arguments.clients();
    let mut table = Table::new(
        &format!("Handle: {nodes}, memory only, {}", layout.name()),
        Measure::CommandsPerSecond,
        &["raft-tokio", "openraft", "etcd Node", "floor"],
        rows.iter()
            .map(|clients| format!("{clients} clients"))
            .collect(),
    );
    let time = effort.handle_time;
    for round in 1..=effort.rounds {
        eprintln!("{}, round {round} of {}", table.title, effort.rounds);
        for (row, clients) in rows.iter().copied().enumerate() {
            if arguments.wants(Contender::RaftTokio) {
                table.push(row, 0, handle_ours::measure(layout, members, clients, time));
            }
            if arguments.wants(Contender::Openraft) {
                let rate = handle_openraft::measure(layout, members, clients, time);
                table.push(row, 1, rate);
            }
            if let Some(etcd) = etcd
                && arguments.wants(Contender::Etcd)
            {
                table.push(row, 2, etcd.node(clients, time));
            }
            if arguments.wants(Contender::Floor) {
                table.push(row, 3, handle_floor::measure(layout, clients, time));
            }
        }
    }
    println!("{}", table.markdown());
    table
}

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
mod rounds;
mod table;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, value_parser};
use serde_json::json;

use crate::core_load::LOADS;
use crate::core_ours::Ours;
use crate::core_raft_rs::{InOneMessage, OneByOne, RaftRs};
use crate::etcd::Etcd;
use crate::handle_load::{CLIENTS, Layout};
use crate::rounds::Contender;
use crate::table::{Measure, Table};

const NOTES: &str = "\
What favours whom:
- Every payload of the core load is allocated anew, on every side. raft-rs takes a `Vec`, ours a
  `Bytes`; with raft-rs' protobuf codec (the default here) entries share payloads as ours do, with
  its prost codec every copy of an entry copies its payload.
- `raft-rs` proposes one by one with `batch_append`, as its documentation shows; `raft-rs, 1 msg`
  puts a batch into one MsgPropose, as only its followers do. Ours has `propose_batch`. etcd's
  `Propose` is one by one. With a batch of 1 all do the same.
- Ours steps messages where they lie in the driver's list (`step_in_place`), and the driver swaps
  lists whole; raft-rs' `step` takes a message by value, and so it is taken out of its list.
- Ours reads a shared batch where raft-rs' and etcd's MemoryStorage copy entries, under a lock that
  ours does not have: that is our design, and also a part of the difference that a service with a
  log of its own would not see in full.
- Handle load: openraft runs in the manner of its own minimal benchmark, with its configuration and
  its log in a BTreeMap; its commands are typed, and nothing is cloned but a static `Bytes`. Ours
  allocates nothing for a reply either. Nothing is encoded by anybody.
- openraft takes a snapshot, of a state without data, every 5,000 entries and keeps 1,000, as in its
  own benchmark; ours takes one of a counter every 100,000, as is its default. etcd's and raft-rs'
  logs are compacted to 10,000 entries, as ours is in the core load.
- openraft calls its peers directly, ours moves packets through queues; etcd's nodes use channels,
  as its `Node` is meant to be used, and goroutines on as many threads as there are cores.
- The floor replicates nothing and commits nothing.
- Every contender runs in this process on the same threads, but for etcd, which has its own.
";

/// Measures ours beside raft-rs, openraft and etcd's raft.
#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Fewer rounds, shorter samples: about two minutes.
    #[arg(long)]
    quick: bool,
    /// Writes the tables with every sample to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measures only this load.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Of the handle load, only rows with so many clients.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = value_parser!(u16).range(1..))]
    clients: Vec<u16>,
    /// Of the handle load, only clusters of so many nodes.
    #[arg(long, value_enum, value_name = "N")]
    members: Option<Members>,
    /// Of the handle load, only this layout of threads.
    #[arg(long, value_enum)]
    layout: Option<Layout>,
    /// Of the handle load, only this contender: for a profiler.
    #[arg(long, value_enum)]
    of: Option<Library>,
}

impl Arguments {
    fn clients(&self) -> Vec<usize> {
        if self.clients.is_empty() {
            CLIENTS.to_vec()
        } else {
            self.clients.iter().copied().map(usize::from).collect()
        }
    }

    fn wants(&self, library: Library) -> bool {
        self.of.is_none_or(|only| only == library)
    }
}

/// How many nodes a cluster has.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Members {
    #[value(name = "1")]
    One,
    #[value(name = "3")]
    Three,
}

impl Members {
    const fn count(self) -> u64 {
        match self {
            Self::One => 1,
            Self::Three => 3,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::One => "one node",
            Self::Three => "three nodes",
        }
    }
}

/// Who answers the handle load.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Library {
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

impl Effort {
    const fn of(arguments: &Arguments) -> Self {
        if arguments.quick {
            Self {
                rounds: 3,
                core_time: Duration::from_millis(150),
                handle_time: Duration::from_millis(250),
            }
        } else {
            Self {
                rounds: 7,
                core_time: Duration::from_millis(400),
                handle_time: Duration::from_millis(800),
            }
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let unwritten = |error: std::io::Error| {
        let file = arguments.json.clone().unwrap_or_default();
        format!("{} cannot be written: {error}", file.display())
    };
    // Before anything is measured, so that no figures are lost.
    let file = arguments.json.as_ref().map(File::create).transpose();
    let file = file.map_err(unwritten)?;
    let effort = Effort::of(arguments);
    let machine = machine();
    say(&format!("{machine}\n"));
    let etcd = Etcd::build()
        .inspect_err(|why| say(&format!("{why}\n")))
        .ok();

    let mut tables = Vec::new();
    if arguments.only != Some(Part::Handle) {
        tables.push(core(effort, etcd.as_ref())?);
    }
    if arguments.only != Some(Part::Core) {
        for (layout, members) in [
            (Layout::Shared, Members::Three),
            (Layout::Shared, Members::One),
            (Layout::Split, Members::Three),
            (Layout::Split, Members::One),
        ] {
            let is_wanted = arguments.layout.is_none_or(|only| only == layout)
                && arguments.members.is_none_or(|only| only == members);
            if is_wanted {
                tables.push(handle(arguments, effort, layout, members, etcd.as_ref())?);
            }
        }
    }
    say(NOTES);
    if let Some(mut file) = file {
        let tables: Vec<_> = tables.iter().map(Table::json).collect();
        let report = json!({ "machine": machine, "quick": arguments.quick, "tables": tables });
        writeln!(file, "{report:#}").map_err(unwritten)?;
    }
    Ok(())
}

/// Prints something. Whoever reads it may have seen enough before its end, and the
/// file is to be written nevertheless.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What the figures were taken on, in a line.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    format!("{cores} cores of {model}, {}", std::env::consts::OS)
}

fn core(effort: Effort, etcd: Option<&Etcd>) -> Result<Table, String> {
    let codec = if cfg!(feature = "prost-codec") {
        "prost codec"
    } else {
        "protobuf codec"
    };
    let mut table = Table::new(
        &format!("Core: three nodes in one thread (raft-rs with its {codec})"),
        effort.rounds,
        Measure::NanosPerEntry,
        &["raft-core", "raft-rs", "raft-rs, 1 msg", "etcd"],
        LOADS.map(|(load, _)| load.name()).to_vec(),
    );
    for (row, (_, aim)) in LOADS.into_iter().enumerate() {
        if let Some(times) = aim {
            table.aim(row, 1, times);
        }
    }
    let time = effort.core_time;
    let load = |row: usize| LOADS[row].0;
    let mut contenders = vec![
        Contender::new(0, |row| Ok(core_load::measure::<Ours>(load(row), time))),
        Contender::new(1, |row| {
            Ok(core_load::measure::<RaftRs<OneByOne>>(load(row), time))
        }),
        Contender::new(2, |row| {
            Ok(core_load::measure::<RaftRs<InOneMessage>>(load(row), time))
        }),
    ];
    if let Some(etcd) = etcd {
        contenders.push(Contender::new(3, |row| etcd.core(load(row), time)));
    }
    rounds::measure(&mut table, &contenders)?;
    say(&table.markdown());
    Ok(table)
}

fn handle(
    arguments: &Arguments,
    effort: Effort,
    layout: Layout,
    members: Members,
    etcd: Option<&Etcd>,
) -> Result<Table, String> {
    let clients = arguments.clients();
    let mut table = Table::new(
        &format!("Handle: {}, memory only, {}", members.name(), layout.name()),
        effort.rounds,
        Measure::CommandsPerSecond,
        &["raft-tokio", "openraft", "etcd Node", "floor"],
        clients
            .iter()
            .map(|clients| match clients {
                1 => "1 client".to_owned(),
                several => format!("{several} clients"),
            })
            .collect(),
    );
    for (row, clients) in clients.iter().copied().enumerate() {
        if members == Members::Three {
            table.aim(row, 1, if clients == 1 { 4.0 } else { 3.0 });
        }
        if clients == 1024 {
            // Not more than so many times slower.
            let times = match members {
                Members::One => 0.5,
                Members::Three => 0.25,
            };
            table.aim(row, 3, times);
        }
    }
    let time = effort.handle_time;
    let clients = clients.as_slice();
    let mut contenders = Vec::new();
    if arguments.wants(Library::RaftTokio) {
        contenders.push(Contender::new(0, move |row| {
            let count = members.count();
            Ok(handle_ours::measure(layout, count, clients[row], time))
        }));
    }
    if arguments.wants(Library::Openraft) {
        contenders.push(Contender::new(1, move |row| {
            let count = members.count();
            Ok(handle_openraft::measure(layout, count, clients[row], time))
        }));
    }
    // Goroutines know no layouts, so etcd stands in one table.
    if let Some(etcd) = etcd
        && layout == Layout::Shared
        && members == Members::Three
        && arguments.wants(Library::Etcd)
    {
        contenders.push(Contender::new(2, move |row| etcd.node(clients[row], time)));
    }
    if arguments.wants(Library::Floor) {
        contenders.push(Contender::new(3, move |row| {
            Ok(handle_floor::measure(layout, clients[row], time))
        }));
    }
    rounds::measure(&mut table, &contenders)?;
    say(&table.markdown());
    Ok(table)
}

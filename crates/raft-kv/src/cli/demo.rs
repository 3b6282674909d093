//! # `raft-kv demo`, as it is typed

use clap::Args;

use super::{ShownError, this_program};
use crate::demo::{DemoOptions, Display};

#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=9))]
    nodes: u8,
    /// How long the load lasts.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(2..=86_400))]
    seconds: u64,
    /// How many clients make it.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,
    /// No progress bar.
    #[arg(long)]
    headless: bool,
    /// Print the result as a JSON object.
    #[arg(long)]
    pub(super) json: bool,
    /// Leave the nodes' folders and logs behind.
    #[arg(long)]
    keep_data: bool,
}

impl DemoArguments {
    pub(super) fn into_options(self) -> Result<DemoOptions, ShownError> {
        Ok(DemoOptions {
            program: this_program()?,
            nodes: usize::from(self.nodes),
            seconds: self.seconds,
            clients: usize::from(self.clients),
            display: match (self.headless, self.json) {
                (_, true) => Display::Nothing,
                (true, false) => Display::Lines,
                (false, false) => Display::Bar,
            },
            keep_data: self.keep_data,
        })
    }
}

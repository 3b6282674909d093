//! Writes the log that `tests/fixture.rs` reads, into a folder of its own:
//! `cargo run -p raft-wal --example fixture -- DIR`. A new format version gets a
//! new folder beside the old ones, which stay.

use std::error::Error;

use raft_wal::{Wal, WalOptions};

#[path = "../tests/common/mod.rs"]
mod common;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).ok_or("say which folder")?;
    let options = WalOptions::default()
        .segment_bytes(8 << 10)
        .preallocate_bytes(8 << 10);
    let (wal, _) = Wal::open(dir, common::identity(3), options)?;
    common::write_fixture(&wal)?;
    wal.close()?;
    Ok(())
}

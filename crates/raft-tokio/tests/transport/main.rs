//! The transports: what they carry, what they report, and what cannot hurt them.

mod memory;
mod snapshots;
mod support;
mod tcp;

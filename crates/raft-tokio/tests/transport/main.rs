//! The transports: what they carry, what they report, and what cannot hurt them.

mod memory;
mod support;
mod tcp;

//! A replicated key-value service that speaks the Redis protocol, and its
//! command line.

pub mod machine;
pub mod resp;
pub mod server;

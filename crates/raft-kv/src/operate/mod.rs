//! # What whoever runs a cluster asks of it
//!
//! Over the HTTP of its nodes, from the command line.
//!
//! | file | room |
//! |---|---|
//! | `http.rs` | a request and its answer |
//! | `status.rs` | `raft-kv status`: what nodes are doing |
//! | `member.rs` | `raft-kv member`: who they are, and who leads |

mod http;
pub mod member;
pub mod status;

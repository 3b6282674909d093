//! The program as its users meet it: processes, sockets, folders and a published
//! client.

#[cfg(unix)]
mod disk;
mod identity;
mod membership;
mod refusals;
mod service;
mod support;

//! The program as its users meet it: processes, sockets, folders and a published
//! client.

mod refusals;
mod service;
mod support;

//! # What tools ask about the server
//!
//! `INFO`, `COMMAND` and `CONFIG GET`, as far as clients and benchmarks begin
//! with them.

use bytes::BytesMut;

use super::refusal::{Refused, unknown_part, wrong_number};
use super::table::{COMMANDS, CommandSpec};
use crate::resp::write;

/// What tools expect of a server that knows these commands.
pub(super) const REDIS_VERSION: &str = "7.4.0";

/// `INFO`: about the program, and then `state`, which is about the node.
pub(super) fn info(state: &str, out: &mut BytesMut) {
    let text = format!(
        "# Server\r\nredis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\n\
         server_name:raft-kv\r\nraft_kv_version:{}\r\n\r\n{state}\r\n",
        env!("CARGO_PKG_VERSION"),
    );
    write::bulk(out, text.as_bytes());
}

/// `COMMAND` and its parts, as far as tools ask for them.
pub(super) fn describe(rest: &[&[u8]], out: &mut BytesMut) -> Result<(), Refused> {
    let describe_all = |out: &mut BytesMut| {
        write::array(out, COMMANDS.len());
        for spec in COMMANDS {
            describe_one(spec, out);
        }
    };
    let Some((part, names)) = rest.split_first() else {
        describe_all(out);
        return Ok(());
    };
    match part.to_ascii_uppercase().as_slice() {
        b"COUNT" => write::integer(out, i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX)),
        b"DOCS" => write::array(out, 0),
        b"LIST" => {
            write::array(out, COMMANDS.len());
            for spec in COMMANDS {
                write::bulk(out, spec.name.as_bytes());
            }
        }
        b"INFO" if names.is_empty() => describe_all(out),
        b"INFO" => {
            write::array(out, names.len());
            for name in names {
                match CommandSpec::find(name) {
                    Some(spec) => describe_one(spec, out),
                    None => write::nil(out),
                }
            }
        }
        _ => return Err(unknown_part("COMMAND", part)),
    }
    Ok(())
}

fn describe_one(spec: &CommandSpec, out: &mut BytesMut) {
    let (first, last, step) = spec.keys;
    write::array(out, 6);
    write::bulk(out, spec.name.as_bytes());
    write::integer(out, spec.arity);
    write::array(out, 1);
    write::simple(out, spec.flag);
    write::integer(out, first);
    write::integer(out, last);
    write::integer(out, step);
}

/// The parameters that redis-benchmark asks for, so that it can print them.
const PARAMETERS: &[(&str, &str)] = &[("appendonly", "yes"), ("databases", "1"), ("save", "")];

/// `CONFIG GET`.
pub(super) fn config(rest: &[&[u8]], out: &mut BytesMut) -> Result<(), Refused> {
    let Some((part, names)) = rest.split_first() else {
        return Err(wrong_number("config"));
    };
    if !part.eq_ignore_ascii_case(b"GET") {
        return Err(unknown_part("CONFIG", part));
    }
    if names.is_empty() {
        return Err(wrong_number("config|get"));
    }
    let asked = |parameter: &str| {
        let matches =
            |name: &&[u8]| *name == b"*" || name.eq_ignore_ascii_case(parameter.as_bytes());
        names.iter().any(matches)
    };
    let found = || PARAMETERS.iter().filter(|(name, _)| asked(name));
    write::array(out, 2 * found().count());
    for (name, value) in found() {
        write::bulk(out, name.as_bytes());
        write::bulk(out, value.as_bytes());
    }
    Ok(())
}

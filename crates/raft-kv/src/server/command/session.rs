//! # Who the client is
//!
//! Answers what concerns the client and its connection: `HELLO`, `CLIENT` and
//! `RESET`. Owns what a client has said about itself.

use bytes::BytesMut;

use super::about::REDIS_VERSION;
use super::refusal::{Refused, unknown_part, wrong_number};
use crate::resp::write;

/// What a client has said about itself.
#[derive(Debug)]
pub(in crate::server) struct ClientSession {
    id: u64,
    name: Vec<u8>,
}

impl ClientSession {
    pub(in crate::server) fn new(id: u64) -> Self {
        Self {
            id,
            name: Vec::new(),
        }
    }

    /// `RESET`: as if the client had just connected.
    pub(super) fn reset(&mut self, out: &mut BytesMut) {
        self.name.clear();
        write::simple(out, "RESET");
    }

    /// The handshake: version 2 of the protocol is what there is.
    pub(super) fn hello(&mut self, rest: &[&[u8]], out: &mut BytesMut) -> Result<(), Refused> {
        if let [version, options @ ..] = rest {
            if *version != b"2" {
                return Err(
                    "NOPROTO unsupported protocol version; this server speaks RESP2".into(),
                );
            }
            match options {
                [] => {}
                [option, name] if option.eq_ignore_ascii_case(b"SETNAME") => self.set_name(name)?,
                [option, ..] if option.eq_ignore_ascii_case(b"AUTH") => {
                    return Err("ERR AUTH is not supported: there are no users here".into());
                }
                _ => return Err("ERR syntax error in HELLO".into()),
            }
        }
        write::array(out, 14);
        for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
            write::bulk(out, name.as_bytes());
            write::bulk(out, value.as_bytes());
        }
        write::bulk(out, b"proto");
        write::integer(out, 2);
        write::bulk(out, b"id");
        write::integer(out, self.number());
        for (name, value) in [("mode", "standalone"), ("role", "master")] {
            write::bulk(out, name.as_bytes());
            write::bulk(out, value.as_bytes());
        }
        write::bulk(out, b"modules");
        write::array(out, 0);
        Ok(())
    }

    /// `CLIENT` and its parts.
    pub(super) fn client(&mut self, rest: &[&[u8]], out: &mut BytesMut) -> Result<(), Refused> {
        let Some((part, rest)) = rest.split_first() else {
            return Err(wrong_number("client"));
        };
        match (part.to_ascii_uppercase().as_slice(), rest) {
            (b"SETNAME", [name]) => {
                self.set_name(name)?;
                write::simple(out, "OK");
            }
            (b"GETNAME", []) if self.name.is_empty() => write::nil(out),
            (b"GETNAME", []) => write::bulk(out, &self.name),
            (b"ID", []) => write::integer(out, self.number()),
            // What a client's library is called makes no difference here.
            (b"SETINFO", [_, _]) | (b"NO-EVICT" | b"NO-TOUCH", [_]) => write::simple(out, "OK"),
            (b"INFO", []) => {
                let name = String::from_utf8_lossy(&self.name);
                write::bulk(
                    out,
                    format!("id={} name={name} db=0 resp=2\n", self.id).as_bytes(),
                );
            }
            (
                b"SETNAME" | b"GETNAME" | b"ID" | b"SETINFO" | b"NO-EVICT" | b"NO-TOUCH" | b"INFO",
                _,
            ) => {
                return Err(wrong_number("client"));
            }
            _ => return Err(unknown_part("CLIENT", part)),
        }
        Ok(())
    }

    fn set_name(&mut self, name: &[u8]) -> Result<(), Refused> {
        if name.len() > 256 || !name.iter().all(u8::is_ascii_graphic) {
            return Err(
            "ERR a client's name has at most 256 characters, and neither blanks nor line breaks"
                .into(),
        );
        }
        self.name = name.to_vec();
        Ok(())
    }

    fn number(&self) -> i64 {
        i64::try_from(self.id).unwrap_or(i64::MAX)
    }
}

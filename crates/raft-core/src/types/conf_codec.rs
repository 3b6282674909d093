//! # The encoding of configuration changes
//!
//! The payload of a configuration entry is part of the protocol: a leader must
//! read it before it appends it. This is etcd's protobuf encoding of the two
//! messages, no more; every other byte of the wire belongs to `raft-wire`.
//!
//! Reading is total: unknown fields are passed over, and anything else that is
//! not a configuration change is a [`MalformedConfChange`].

use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};

use super::conf::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV1,
};
use super::{EntryType, NodeId, Proposal};

/// The data of a configuration entry cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedConfChange {
    /// The bytes end inside a field.
    #[error("the configuration change ends inside a field")]
    Truncated,
    /// A number takes more than ten bytes.
    #[error("the configuration change has a number that is too long")]
    OverlongNumber,
    /// A field has a type that its number does not allow.
    #[error("the configuration change has a field {field} of the wrong kind")]
    WrongKind {
        /// The number of the field.
        field: u64,
    },
    /// The kind of change is not one of the four that exist.
    #[error("{0} is not a kind of configuration change")]
    UnknownType(u64),
    /// The transition is not one of the three that exist.
    #[error("{0} is not a transition between configurations")]
    UnknownTransition(u64),
    /// The node id is one that no server may have.
    #[error("the configuration change names node {0}, which no server may be")]
    InvalidNodeId(u64),
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// The length of a number in protobuf's variable encoding.
pub(super) fn varint_len(value: u64) -> usize {
    // One byte per started group of seven bits; zero takes a byte as well.
    let bits = u64::BITS.saturating_sub((value | 1).leading_zeros());
    usize::try_from(bits.div_ceil(7)).unwrap_or(10)
}

/// The length of a bytes field with a one-byte tag and `len` bytes in it.
pub(super) fn field_len(len: usize) -> usize {
    len.saturating_add(varint_len(u64::try_from(len).unwrap_or(u64::MAX)))
        .saturating_add(1)
}

impl ConfChangeV1 {
    /// The proposal that carries this change through the log.
    pub fn to_proposal(&self) -> Proposal {
        let mut out = BytesMut::new();
        if self.id != 0 {
            put_number(&mut out, 1, self.id);
        }
        put_number(&mut out, 2, type_number(self.change.change_type));
        put_number(&mut out, 3, self.change.node_id.map_or(0, NodeId::get));
        if !self.context.is_empty() {
            put_bytes(&mut out, 4, &self.context);
        }
        Proposal {
            entry_type: EntryType::ConfChange,
            data: out.freeze(),
        }
    }
}

impl ConfChange {
    /// The proposal that carries this change through the log.
    pub fn to_proposal(&self) -> Proposal {
        let mut out = BytesMut::new();
        put_number(
            &mut out,
            1,
            match self.transition {
                ConfChangeTransition::Auto => 0,
                ConfChangeTransition::JointImplicit => 1,
                ConfChangeTransition::JointExplicit => 2,
            },
        );
        for change in &self.changes {
            let mut inner = BytesMut::new();
            put_number(&mut inner, 1, type_number(change.change_type));
            put_number(&mut inner, 2, change.node_id.map_or(0, NodeId::get));
            put_bytes(&mut out, 2, &inner);
        }
        if !self.context.is_empty() {
            put_bytes(&mut out, 3, &self.context);
        }
        Proposal {
            entry_type: EntryType::ConfChangeV2,
            data: out.freeze(),
        }
    }
}

/// Reads the change in `data`; `None` where the entry type says that there is
/// none.
pub(super) fn decode(
    entry_type: EntryType,
    data: &Bytes,
) -> Result<Option<ConfChange>, MalformedConfChange> {
    match entry_type {
        EntryType::Normal => Ok(None),
        EntryType::ConfChange => decode_v1(data).map(|v1| Some(v1.into())),
        EntryType::ConfChangeV2 => decode_v2(data).map(Some),
    }
}

fn decode_v1(data: &Bytes) -> Result<ConfChangeV1, MalformedConfChange> {
    let mut id = 0;
    let mut change = SingleFields::default();
    let mut context = Bytes::new();
    let mut reader = Reader::new(data);
    while let Some((field, value)) = reader.field()? {
        match field {
            1 => id = value.number(field)?,
            2 => change.change_type = value.number(field)?,
            3 => change.node_id = value.number(field)?,
            4 => context = value.bytes(field)?,
            _ => {}
        }
    }
    Ok(ConfChangeV1 {
        id,
        change: change.checked()?,
        context,
    })
}

fn decode_v2(data: &Bytes) -> Result<ConfChange, MalformedConfChange> {
    let mut transition = ConfChangeTransition::Auto;
    let mut changes = Vec::new();
    let mut context = Bytes::new();
    let mut reader = Reader::new(data);
    while let Some((field, value)) = reader.field()? {
        match field {
            1 => {
                transition = match value.number(field)? {
                    0 => ConfChangeTransition::Auto,
                    1 => ConfChangeTransition::JointImplicit,
                    2 => ConfChangeTransition::JointExplicit,
                    other => return Err(MalformedConfChange::UnknownTransition(other)),
                };
            }
            2 => changes.push(decode_single(&value.bytes(field)?)?),
            3 => context = value.bytes(field)?,
            _ => {}
        }
    }
    Ok(ConfChange {
        transition,
        changes,
        context,
    })
}

fn decode_single(data: &Bytes) -> Result<ConfChangeSingle, MalformedConfChange> {
    let mut change = SingleFields::default();
    let mut reader = Reader::new(data);
    while let Some((field, value)) = reader.field()? {
        match field {
            1 => change.change_type = value.number(field)?,
            2 => change.node_id = value.number(field)?,
            _ => {}
        }
    }
    change.checked()
}

#[derive(Default)]
struct SingleFields {
    change_type: u64,
    node_id: u64,
}

impl SingleFields {
    fn checked(&self) -> Result<ConfChangeSingle, MalformedConfChange> {
        let change_type = match self.change_type {
            0 => ConfChangeType::AddNode,
            1 => ConfChangeType::RemoveNode,
            2 => ConfChangeType::UpdateNode,
            3 => ConfChangeType::AddLearnerNode,
            other => return Err(MalformedConfChange::UnknownType(other)),
        };
        let node_id = match self.node_id {
            0 => None,
            id => Some(NodeId::new(id).ok_or(MalformedConfChange::InvalidNodeId(id))?),
        };
        Ok(ConfChangeSingle {
            change_type,
            node_id,
        })
    }
}

const fn type_number(change_type: ConfChangeType) -> u64 {
    match change_type {
        ConfChangeType::AddNode => 0,
        ConfChangeType::RemoveNode => 1,
        ConfChangeType::UpdateNode => 2,
        ConfChangeType::AddLearnerNode => 3,
    }
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while let Some(low) = low_bits_unless_last(value) {
        out.put_u8(low | 0x80);
        value >>= 7;
    }
    out.put_u8(u8::try_from(value).unwrap_or(0));
}

/// The low seven bits, while more than those are left.
fn low_bits_unless_last(value: u64) -> Option<u8> {
    (value > 0x7f).then(|| u8::try_from(value & 0x7f).unwrap_or(0))
}

fn put_number(out: &mut BytesMut, field: u64, value: u64) {
    put_varint(out, field << 3 | VARINT);
    put_varint(out, value);
}

fn put_bytes(out: &mut BytesMut, field: u64, value: &[u8]) {
    put_varint(out, field << 3 | BYTES);
    put_varint(out, u64::try_from(value.len()).unwrap_or(u64::MAX));
    out.put_slice(value);
}

enum Value {
    Number(u64),
    Bytes(Bytes),
    /// A fixed-width number: no field of ours has one.
    Fixed,
}

impl Value {
    fn number(self, field: u64) -> Result<u64, MalformedConfChange> {
        match self {
            Self::Number(value) => Ok(value),
            Self::Bytes(_) | Self::Fixed => Err(MalformedConfChange::WrongKind { field }),
        }
    }

    fn bytes(self, field: u64) -> Result<Bytes, MalformedConfChange> {
        match self {
            Self::Bytes(value) => Ok(value),
            Self::Number(_) | Self::Fixed => Err(MalformedConfChange::WrongKind { field }),
        }
    }
}

struct Reader {
    rest: Bytes,
}

impl Reader {
    fn new(data: &Bytes) -> Self {
        Self { rest: data.clone() }
    }

    /// The next field and its value, or `None` at the end.
    fn field(&mut self) -> Result<Option<(u64, Value)>, MalformedConfChange> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = tag >> 3;
        // protobuf numbers fields from 1, in 29 bits.
        if field == 0 || tag > u64::from(u32::MAX) {
            return Err(MalformedConfChange::WrongKind { field });
        }
        let value = match tag & 7 {
            VARINT => Value::Number(self.varint()?),
            BYTES => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            FIXED64 => {
                self.take(8)?;
                Value::Fixed
            }
            FIXED32 => {
                self.take(4)?;
                Value::Fixed
            }
            _ => return Err(MalformedConfChange::WrongKind { field }),
        };
        Ok(Some((field, value)))
    }

    fn take(&mut self, len: u64) -> Result<Bytes, MalformedConfChange> {
        let len = usize::try_from(len).map_err(|_| MalformedConfChange::Truncated)?;
        if len > self.rest.len() {
            return Err(MalformedConfChange::Truncated);
        }
        Ok(self.rest.split_to(len))
    }

    fn varint(&mut self) -> Result<u64, MalformedConfChange> {
        let mut value = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = *self.rest.first().ok_or(MalformedConfChange::Truncated)?;
            let _ = self.take(1)?;
            // The tenth byte has a single bit left to give.
            if shift == 63 && byte > 1 {
                return Err(MalformedConfChange::OverlongNumber);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(MalformedConfChange::OverlongNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let change = ConfChange {
            transition: ConfChangeTransition::JointExplicit,
            changes: vec![
                ConfChangeSingle::new(ConfChangeType::AddNode, node(1)),
                ConfChangeSingle::new(ConfChangeType::AddLearnerNode, node(NodeId::MAX)),
            ],
            context: Bytes::from_static(b"why"),
        };
        let read = change.to_proposal().conf_change();
        assert_eq!(read, Ok(Some(change)));
    }

    #[test]
    fn no_data_leaves_a_joint_configuration() {
        let read = decode(EntryType::ConfChangeV2, &Bytes::new());
        assert_eq!(read, Ok(Some(ConfChange::leave_joint())));
    }

    #[test]
    fn every_prefix_is_read_or_refused() {
        let data = ConfChangeV1 {
            id: 300,
            change: ConfChangeSingle::new(ConfChangeType::RemoveNode, node(1 << 40)),
            context: Bytes::from_static(b"context"),
        }
        .to_proposal()
        .data;
        for end in 0..=data.len() {
            let _ = decode(EntryType::ConfChange, &data.slice(..end));
        }
    }

    #[test]
    fn numbers_have_protobufs_lengths() {
        for (value, len) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3)] {
            assert_eq!(varint_len(value), len, "{value}");
        }
        assert_eq!(varint_len(u64::MAX), 10);
    }
}

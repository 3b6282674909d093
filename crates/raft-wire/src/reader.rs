//! # Bytes to fields
//!
//! Takes a protobuf message apart, one field at a time, without copying. What
//! the fields mean is the caller's business.
//!
//! - Owns: the position in the bytes.
//! - Emits: fields, [`WireError`].
//! - Source: the protobuf encoding guide.

use prost::encoding::decode_varint;

use crate::error::WireError;

// The kinds of values on the wire.
const VARINT: u64 = 0;
const SIXTY_FOUR_BIT: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const START_GROUP: u64 = 3;
const END_GROUP: u64 = 4;
const THIRTY_TWO_BIT: u64 = 5;

/// Reads the fields of one message.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// The name of the message, for errors.
    inside: &'static str,
}

/// One field.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    value: Value<'a>,
    inside: &'static str,
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A fixed-width number: only fields that we do not know have one.
    Fixed,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(inside: &'static str, bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            inside,
        }
    }

    /// The next field, or `None` at the end.
    #[expect(
        clippy::inline_always,
        reason = "handing a field over in memory takes longer than reading it"
    )]
    #[inline(always)]
    pub(crate) fn field(&mut self) -> Result<Option<Field<'a>>, WireError> {
        let inside = self.inside;
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let malformed = WireError::Malformed { inside };
        let number = u32::try_from(key).map_err(|_| malformed)? >> 3;
        if number == 0 {
            return Err(malformed);
        }
        let value = match key & 7 {
            VARINT => Value::Number(self.varint()?),
            LENGTH_DELIMITED => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            SIXTY_FOUR_BIT => {
                self.take(8)?;
                Value::Fixed
            }
            THIRTY_TWO_BIT => {
                self.take(4)?;
                Value::Fixed
            }
            START_GROUP | END_GROUP => return Err(WireError::WrongWireType { inside, number }),
            _ => return Err(malformed),
        };
        Ok(Some(Field {
            number,
            value,
            inside,
        }))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        // Keys, lengths, types and small terms are a single byte.
        if let Some((byte, rest)) = self.rest.split_first()
            && *byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        let mut rest = self.rest;
        let value = decode_varint(&mut rest).map_err(|_| self.why_not_a_number())?;
        self.rest = rest;
        Ok(value)
    }

    /// A number takes ten bytes at most, and only its last one is below 0x80.
    #[cold]
    fn why_not_a_number(&self) -> WireError {
        let inside = self.inside;
        let goes_on = self.rest.iter().all(|byte| *byte >= 0x80);
        if goes_on && self.rest.len() < 10 {
            WireError::Truncated { inside }
        } else {
            WireError::Malformed { inside }
        }
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], WireError> {
        let truncated = WireError::Truncated {
            inside: self.inside,
        };
        let len = usize::try_from(len).map_err(|_| truncated)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Field<'a> {
    /// The number in this field.
    pub(crate) fn number(self) -> Result<u64, WireError> {
        match self.value {
            Value::Number(value) => Ok(value),
            Value::Bytes(_) | Value::Fixed => Err(self.wrong_wire_type()),
        }
    }

    /// The yes or no in this field.
    pub(crate) fn yes(self) -> Result<bool, WireError> {
        Ok(self.number()? != 0)
    }

    /// The bytes in this field.
    pub(crate) fn bytes(self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(value) => Ok(value),
            Value::Number(_) | Value::Fixed => Err(self.wrong_wire_type()),
        }
    }

    /// The message in this field.
    pub(crate) fn message(self, inside: &'static str) -> Result<Reader<'a>, WireError> {
        Ok(Reader::new(inside, self.bytes()?))
    }

    /// Appends the numbers in this field, which protobuf may send one by one or
    /// packed.
    pub(crate) fn append_numbers_to(self, list: &mut Vec<u64>) -> Result<(), WireError> {
        match self.value {
            Value::Number(value) => list.push(value),
            Value::Bytes(packed) => {
                let mut reader = Reader::new(self.inside, packed);
                while !reader.rest.is_empty() {
                    list.push(reader.varint()?);
                }
            }
            Value::Fixed => return Err(self.wrong_wire_type()),
        }
        Ok(())
    }

    const fn wrong_wire_type(self) -> WireError {
        WireError::WrongWireType {
            inside: self.inside,
            number: self.number,
        }
    }
}

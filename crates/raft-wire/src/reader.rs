//! # Bytes to fields
//!
//! Takes a protobuf message apart, one field at a time, without copying. What
//! the fields mean is the caller's business.
//!
//! - Owns: the position in the bytes.
//! - Emits: fields, [`WireError`].
//! - Source: the protobuf encoding guide.

use prost::encoding::{WireType, decode_key, decode_varint};

use crate::error::WireError;

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
    pub(crate) fn field(&mut self) -> Result<Option<Field<'a>>, WireError> {
        let inside = self.inside;
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.number(decode_key)?;
        let value = match wire_type {
            WireType::Varint => Value::Number(self.number(decode_varint)?),
            WireType::LengthDelimited => {
                let len = self.number(decode_varint)?;
                Value::Bytes(self.take(len)?)
            }
            WireType::SixtyFourBit => {
                self.take(8)?;
                Value::Fixed
            }
            WireType::ThirtyTwoBit => {
                self.take(4)?;
                Value::Fixed
            }
            WireType::StartGroup | WireType::EndGroup => {
                return Err(WireError::WrongWireType { inside, number });
            }
        };
        Ok(Some(Field {
            number,
            value,
            inside,
        }))
    }

    fn number<T>(
        &mut self,
        decode: impl FnOnce(&mut &'a [u8]) -> Result<T, prost::DecodeError>,
    ) -> Result<T, WireError> {
        let mut rest = self.rest;
        match decode(&mut rest) {
            Ok(value) => {
                self.rest = rest;
                Ok(value)
            }
            Err(_) => Err(self.why_not_a_number()),
        }
    }

    /// A number takes ten bytes at most, and only its last one is below 0x80.
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
                    list.push(reader.number(decode_varint)?);
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

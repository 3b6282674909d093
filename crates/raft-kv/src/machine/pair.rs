//! # A key and its value
//!
//! Both in one piece of memory: a lookup that finds the key has the value in its
//! cache already, and a value that is replaced by one of the same length, as
//! counters, flags and records are, costs no memory at all.

use std::iter::repeat_n;
use std::sync::Arc;

/// A key and its value. Cloning shares them.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    /// The key, and the value right behind it.
    bytes: Arc<[u8]>,
    key_len: usize,
}

impl Pair {
    /// Both are copied: what came in is a part of a much larger read, which
    /// would live as long as the smallest part of it.
    pub(super) fn new(key: &[u8], value: &[u8]) -> Self {
        let mut bytes: Arc<[u8]> = repeat_n(0, key.len() + value.len()).collect();
        if let Some(bytes) = Arc::get_mut(&mut bytes) {
            let (own_key, own_value) = bytes.split_at_mut(key.len());
            own_key.copy_from_slice(key);
            own_value.copy_from_slice(value);
        }
        Self {
            bytes,
            key_len: key.len(),
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        self.bytes.get(..self.key_len).unwrap_or(&[])
    }

    pub(super) fn value(&self) -> &[u8] {
        self.bytes.get(self.key_len..).unwrap_or(&[])
    }

    /// Replaces the value. Clones keep the old one.
    pub(super) fn set_value(&mut self, value: &[u8]) {
        let fits = self.value().len() == value.len();
        match Arc::get_mut(&mut self.bytes) {
            Some(bytes) if fits => bytes[self.key_len..].copy_from_slice(value),
            _ => *self = Self::new(self.key(), value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_the_value_that_it_was_made_with() {
        for new in ["new", "longer", ""] {
            let mut pair = Pair::new(b"key", b"old");
            let clone = pair.clone();
            pair.set_value(new.as_bytes());
            assert_eq!((pair.key(), pair.value()), (&b"key"[..], new.as_bytes()));
            assert_eq!((clone.key(), clone.value()), (&b"key"[..], &b"old"[..]));
        }
    }

    #[test]
    fn a_value_of_the_same_length_takes_the_place_of_the_old_one() {
        let mut pair = Pair::new(b"key", b"old");
        let place = pair.value().as_ptr();
        pair.set_value(b"new");
        assert_eq!(pair.value(), b"new");
        assert_eq!(pair.value().as_ptr(), place);
    }
}

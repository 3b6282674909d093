//! # Where the members are reached
//!
//! Addresses travel in the changes that add members or move them, and what the
//! changes have come to is kept here: it is replicated state like the members
//! themselves. A snapshot takes it along, so that a replica which never saw those
//! changes can reach everybody all the same.
//!
//! Its length is limited, because it travels with a message and stands in the
//! head of a file. What an address means is for the transport to say.
//!
//! - Owns: the addresses as of one place in the log.
//! - Source: etcd `membership.RaftCluster` (members and their peer URLs are
//!   replicated, and in the snapshot).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft_core::NodeId;

/// The longest address that is replicated, in bytes.
pub(crate) const ADDRESS_BYTES_MAX: usize = 512;
/// How much all of them take at most, encoded.
const ENCODED_BYTES_MAX: usize = 64 << 10;
const FORMAT: u8 = 1;
/// What an address takes beside itself: id and length.
const ENTRY_BYTES: usize = 10;

/// Where the members of a cluster are reached, as far as changes of the members
/// have said. Cheap to clone.
///
/// Those that the cluster began with, and were never moved, are not in it: their
/// addresses are in the settings of each replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressBook {
    addresses: Arc<BTreeMap<NodeId, String>>,
}

/// An address that is not taken into the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotListed {
    /// It is empty, or longer than [`ADDRESS_BYTES_MAX`].
    Address,
    /// There is no room for more.
    Full,
}

/// Bytes that are no address book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the addresses of the members cannot be read; were they written by another version?")]
pub struct MalformedAddressBook;

impl AddressBook {
    /// Where a member is reached, if that is in the book.
    pub fn get(&self, id: NodeId) -> Option<&str> {
        self.addresses.get(&id).map(String::as_str)
    }

    /// The members in the book and their addresses, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &str)> {
        let entries = self.addresses.iter();
        entries.map(|(id, address)| (*id, address.as_str()))
    }

    /// Whether no address is known.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Writes an address down, in place of an older one of the same member.
    pub(crate) fn set(&mut self, id: NodeId, address: &str) -> Result<(), NotListed> {
        if !is_address(address) {
            return Err(NotListed::Address);
        }
        let replaced = self.get(id).map_or(0, |old| ENTRY_BYTES + old.len());
        let bytes = self.encoded_bytes() - replaced + ENTRY_BYTES + address.len();
        if bytes > ENCODED_BYTES_MAX {
            return Err(NotListed::Full);
        }
        Arc::make_mut(&mut self.addresses).insert(id, address.to_owned());
        Ok(())
    }

    /// Forgets everybody of whom `stays` is not true.
    pub(crate) fn retain(&mut self, stays: impl Fn(NodeId) -> bool) {
        if self.addresses.keys().any(|id| !stays(*id)) {
            Arc::make_mut(&mut self.addresses).retain(|id, _| stays(*id));
        }
    }

    fn encoded_bytes(&self) -> usize {
        let addresses = self.addresses.values();
        1 + addresses
            .map(|address| ENTRY_BYTES + address.len())
            .sum::<usize>()
    }

    /// The book as bytes: none if nothing is in it, otherwise as
    /// `docs/WAL.md` says of the note in a snapshot's file.
    pub fn encode(&self) -> Bytes {
        if self.is_empty() {
            return Bytes::new();
        }
        let mut out = BytesMut::with_capacity(self.encoded_bytes());
        out.put_u8(FORMAT);
        for (id, address) in self.iter() {
            out.put_u64_le(id.get());
            out.put_u16_le(u16::try_from(address.len()).unwrap_or(u16::MAX));
            out.put_slice(address.as_bytes());
        }
        out.freeze()
    }

    /// The book that these bytes are.
    ///
    /// # Errors
    /// They are none, or longer than 64 KiB.
    pub fn decode(encoded: &[u8]) -> Result<Self, MalformedAddressBook> {
        Self::read(encoded).ok_or(MalformedAddressBook)
    }

    fn read(mut rest: &[u8]) -> Option<Self> {
        let mut addresses = BTreeMap::new();
        if rest.is_empty() {
            return Some(Self::default());
        }
        if rest.len() > ENCODED_BYTES_MAX || rest.get_u8() != FORMAT || rest.is_empty() {
            return None;
        }
        let mut previous = None;
        while !rest.is_empty() {
            let id = NodeId::new(rest.try_get_u64_le().ok()?)?;
            let len = usize::from(rest.try_get_u16_le().ok()?);
            let address = std::str::from_utf8(rest.split_off(..len)?).ok()?;
            if previous >= Some(id) || !is_address(address) {
                return None;
            }
            previous = Some(id);
            addresses.insert(id, address.to_owned());
        }
        Some(Self {
            addresses: Arc::new(addresses),
        })
    }
}

/// Whether it can be in a book.
pub(crate) fn is_address(address: &str) -> bool {
    (1..=ADDRESS_BYTES_MAX).contains(&address.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn book(addresses: &[(u64, &str)]) -> AddressBook {
        let mut book = AddressBook::default();
        for (number, address) in addresses {
            book.set(id(*number), address).unwrap();
        }
        book
    }

    #[test]
    fn a_book_comes_back_from_its_bytes_and_nothing_else_is_one() {
        let whole = book(&[(1, "10.0.0.1:7000"), (9, "nine.example:7000")]);
        let encoded = whole.encode();
        assert_eq!(AddressBook::decode(&encoded), Ok(whole));
        assert_eq!(AddressBook::decode(b""), Ok(AddressBook::default()));
        assert!(AddressBook::default().encode().is_empty());
        let one = book(&[(1, "10.0.0.1:7000")]).encode();
        for len in 1..encoded.len() {
            // Cut between two members it is a shorter book.
            let is_book = AddressBook::decode(&encoded[..len]).is_ok();
            assert_eq!(is_book, len == one.len(), "{len} bytes");
        }
        let malformed: [&[u8]; 4] = [
            b"\x02",
            // Nobody's id, and an empty address.
            b"\x01\0\0\0\0\0\0\0\0\x01\0a",
            b"\x01\x01\0\0\0\0\0\0\0\0\0",
            // Not UTF-8.
            b"\x01\x01\0\0\0\0\0\0\0\x01\0\xff",
        ];
        for bytes in malformed {
            assert_eq!(AddressBook::decode(bytes), Err(MalformedAddressBook));
        }
        // The same member twice.
        let mut twice = one.to_vec();
        twice.extend_from_slice(&one[1..]);
        assert_eq!(AddressBook::decode(&twice), Err(MalformedAddressBook));
    }

    proptest::proptest! {
        /// A failing case prints its bytes.
        #[test]
        fn bytes_of_any_kind_are_the_one_encoding_of_a_book_or_none(
            mut bytes in proptest::collection::vec(0_u8..4, 0..60),
            begins_well in proptest::bool::weighted(0.9),
        ) {
            if begins_well && !bytes.is_empty() {
                bytes[0] = FORMAT;
            }
            if let Ok(book) = AddressBook::decode(&bytes) {
                proptest::prop_assert_eq!(book.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_book_that_is_full_stays_one_that_can_be_read() {
        let mut book = AddressBook::default();
        let address = "x".repeat(ADDRESS_BYTES_MAX);
        let full =
            (1..=u64::from(u16::MAX)).find(|number| book.set(id(*number), &address).is_err());
        let full = id(full.unwrap());
        assert_eq!(book.set(full, &address), Err(NotListed::Full));
        assert_eq!(AddressBook::decode(&book.encode()).as_ref(), Ok(&book));
        // Who is in it can still move, and who leaves makes room.
        assert_eq!(book.set(id(1), "elsewhere"), Ok(()));
        book.retain(|other| other != id(2));
        assert_eq!(book.get(id(2)), None);
        assert_eq!(book.set(full, &address), Ok(()));
        let too_long = "x".repeat(ADDRESS_BYTES_MAX + 1);
        assert_eq!(book.set(id(3), &too_long), Err(NotListed::Address));
        assert_eq!(book.set(id(3), ""), Err(NotListed::Address));
    }
}

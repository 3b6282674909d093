//! # Lists sorted by id
//!
//! How a member is looked up. Configurations are lists and not maps: nearly all
//! are of three or five.
//!
//! - Owns: nothing.

use crate::types::NodeId;

/// Among so many an id is looked for in a walk, which then takes fewer steps than
/// a binary search. A peer may speak of very many.
const WALKED_MAX: usize = 16;

/// Where `id` is in a list that is sorted by `id_of`, or else where it would be.
#[inline]
pub(crate) fn position<T>(
    list: &[T],
    id: NodeId,
    id_of: impl Fn(&T) -> NodeId,
) -> Result<usize, usize> {
    if list.len() > WALKED_MAX {
        return list.binary_search_by_key(&id, id_of);
    }
    match list.iter().position(|item| id_of(item) >= id) {
        Some(place) if list.get(place).is_some_and(|item| id_of(item) == id) => Ok(place),
        Some(place) => Err(place),
        None => Err(list.len()),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn id(number: u64) -> NodeId {
        NodeId::new(number).expect("not zero")
    }

    #[test]
    fn few_and_many_are_looked_up_alike() {
        for len in 0..3 * WALKED_MAX as u64 {
            // Every second number, so that half of what is asked for is missing.
            let list: Vec<NodeId> = (1..=len).map(|place| id(2 * place)).collect();
            for wanted in 1..=2 * len + 2 {
                assert_eq!(
                    position(&list, id(wanted), |id| *id),
                    list.binary_search(&id(wanted)),
                );
            }
        }
    }
}

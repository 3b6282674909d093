//! # Bytes from bytes
//!
//! A small mutator, so that the tests wander around the corpus without a
//! fuzzer. A seed gives the same bytes on every machine.

use fastrand::Rng;

/// Numbers that arithmetic trips over, as they stand in little endian.
const EXTREMES: [u64; 6] = [0, 1, 0xff, 1 << 31, 1 << 63, u64::MAX];

/// Bytes made from `seeds` by a few changes.
pub fn mutated(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = match rng.choice(seeds) {
        Some(seed) if rng.u8(..) > 8 => seed.clone(),
        _ => (0..rng.usize(0..400)).map(|_| rng.u8(..)).collect(),
    };
    for _ in 0..rng.u8(1..8) {
        change(rng, &mut bytes, seeds);
    }
    bytes
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = rng.usize(0..=bytes.len());
    match rng.u8(0..7) {
        0 => bytes.insert(at, rng.u8(..)),
        1 => bytes.truncate(at),
        2 => {
            let end = (at + rng.usize(1..9)).min(bytes.len());
            bytes.drain(at..end);
        }
        3 => {
            // The end of another seed in place of one's own.
            if let Some(other) = rng.choice(seeds) {
                bytes.truncate(at);
                bytes.extend_from_slice(&other[rng.usize(0..=other.len())..]);
            }
        }
        4 => {
            let number = EXTREMES[rng.usize(0..EXTREMES.len())].to_le_bytes();
            let number = &number[..rng.usize(1..9)];
            bytes.splice(at..at, number.iter().copied());
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.u8(0..8);
            }
        }
    }
}

//! Randomness that stays the same for good: a data set of today must have the same bytes after
//! every update of every crate.
//!
//! The generator is blake3's extendable output, keyed by the seed and by what is drawn. Each
//! purpose has a stream of its own, so that drawing more for one moves nothing of another.

use blake3::{Hasher, OutputReader};

/// Bytes taken from the hash at a time.
const BLOCK: usize = 4096;

/// A stream of random numbers for one purpose.
pub(crate) struct Draw {
    output: OutputReader,
    block: [u8; BLOCK],
    used: usize,
}

impl Draw {
    /// The stream of `seed` for `purpose`.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = Hasher::new_derive_key("dissim 2026-11-24 dataset draw, version 1");
        hasher.update(&seed.to_le_bytes());
        hasher.update(purpose.as_bytes());
        Self { output: hasher.finalize_xof(), block: [0; BLOCK], used: BLOCK }
    }

    fn next(&mut self) -> u32 {
        if self.used == BLOCK {
            self.output.fill(&mut self.block);
            self.used = 0;
        }
        let word = self.block[self.used..].first_chunk().expect("a block is whole words");
        self.used += 4;
        u32::from_le_bytes(*word)
    }

    /// A number from 0 to `n - 1`, each equally likely; n must not be 0.
    ///
    /// Lemire's method: the high half of a 64-bit product, without the few low halves that would
    /// make some numbers likelier (arXiv 1805.10941).
    pub fn below(&mut self, n: u32) -> u32 {
        let reject = n.wrapping_neg() % n;
        loop {
            let product = u64::from(self.next()) * u64::from(n);
            if product as u32 >= reject {
                return (product >> 32) as u32;
            }
        }
    }

    /// 0 to `n - 1` in random order, each order equally likely (Fisher and Yates).
    pub fn permutation(&mut self, n: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i as usize, self.below(i + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_stream_is_pinned() {
        let mut draw = Draw::new(0, "test");
        let numbers: Vec<u32> = (0..4).map(|_| draw.below(1_000_000)).collect();
        insta::assert_snapshot!(format!("{numbers:?}"), @"[892219, 635604, 415440, 352704]");
        assert_ne!(Draw::new(0, "tesu").next(), Draw::new(0, "test").next());
        assert_ne!(Draw::new(1, "test").next(), Draw::new(0, "test").next());
    }

    #[test]
    fn numbers_are_even_to_chance() {
        let mut draw = Draw::new(7, "chi square");
        let mut counts = [0_f64; 10];
        for _ in 0..100_000 {
            counts[draw.below(10) as usize] += 1.0;
        }
        let chi_square: f64 = counts.iter().map(|c| (c - 10_000.0).powi(2) / 10_000.0).sum();
        assert!(chi_square < 27.9, "p < 0.001 with 9 degrees of freedom: {chi_square}");
    }

    proptest! {
        #[test]
        fn a_permutation_holds_each_number_once(seed: u64, n in 0..300_u32) {
            let mut order = Draw::new(seed, "order").permutation(n);
            order.sort_unstable();
            prop_assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
    }
}

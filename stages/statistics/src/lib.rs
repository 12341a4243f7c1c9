//! The statistics of a study: what a difference is worth, from few paired runs.
//!
//! | question | function | source |
//! |---|---|---|
//! | how large is the difference? | [`bootstrap::bca`] | Efron 1987, "Better bootstrap confidence intervals" |
//! | could it be chance? | [`sign_flip::p_value`] | Fisher 1935, the randomisation test for pairs |
//! | among several claims? | [`holm::adjust`] | Holm 1979 |
//! | how often does A win? | [`paired::superiority`] | Bouthillier et al. 2021, "Accounting for variance" |
//! | how large is a share? | [`share::wilson`] | Wilson 1927 |
//! | how much of a gap is closed? | [`paired::gap_recovered`] | Burns et al. 2023, "Weak-to-strong generalization" |
//! | do two methods die as often? | [`share::mcnemar`] | McNemar 1947, exact form |
//!
//! Everything is deterministic: random numbers come from a fixed generator with a fixed seed.

pub mod bootstrap;
pub mod holm;
pub mod normal;
pub mod paired;
pub mod share;
pub mod sign_flip;
pub mod student;

/// Lower and upper end of an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The mean; `NaN` of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// SplitMix64 (Steele, Lea, Flood 2014): a stream of numbers that no crate upgrade changes.
pub(crate) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`, by multiplication (Lemire 2019); the bias is below n / 2^64.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

//! Sign-flip permutation test: under the null hypothesis each paired difference is as likely to
//! have the other sign.

use crate::Random;

/// Up to here all 2^n sign patterns are tried; beyond, [`DRAWS`] random ones.
const EXACT: usize = 20;
/// Random sign patterns for many pairs.
const DRAWS: u32 = 200_000;

/// Two-sided p of the mean of `differences` being 0; 1 of nothing.
///
/// Exact up to 20 pairs. Beyond that (b + 1) / (m + 1) over m = 200,000 random patterns (Phipson &
/// Smyth 2010), which never claims a p of 0.
#[must_use]
pub fn p_value(differences: &[f64]) -> f64 {
    let observed = differences.iter().sum::<f64>().abs();
    let scale: f64 = differences.iter().map(|d| d.abs()).sum();
    // Patterns that give the same sum in another order of additions must count as equal.
    let limit = observed - 1e-12 * scale;
    let n = differences.len();
    if n <= EXACT {
        let extreme = sums(differences).filter(|s| s.abs() >= limit).count();
        return extreme as f64 / (1u64 << n) as f64;
    }
    let mut random = Random(0x5161_F11B);
    let extreme = (0..DRAWS)
        .filter(|_| {
            let mut bits = 0;
            let sum: f64 = differences
                .iter()
                .enumerate()
                .map(|(i, d)| {
                    if i % 64 == 0 {
                        bits = random.next();
                    }
                    let sign = bits & 1;
                    bits >>= 1;
                    if sign == 0 { *d } else { -d }
                })
                .sum();
            sum.abs() >= limit
        })
        .count();
    (extreme as f64 + 1.0) / (f64::from(DRAWS) + 1.0)
}

/// The smallest p that `n` pairs can give: 2 / 2^n, when all differences have one sign.
#[must_use]
pub fn floor(n: usize) -> f64 {
    if n == 0 { 1.0 } else { 2.0 * 0.5f64.powi(i32::try_from(n).unwrap_or(i32::MAX)) }
}

/// The sums of all sign patterns.
fn sums(differences: &[f64]) -> impl Iterator<Item = f64> + '_ {
    (0..1u64 << differences.len()).map(|pattern| {
        let signed = |(i, d): (usize, &f64)| if pattern >> i & 1 == 0 { *d } else { -d };
        differences.iter().enumerate().map(signed).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_sign_reaches_the_floor() {
        for n in 1..=12 {
            let differences: Vec<f64> = (1..=n).map(|i| i as f64 * 0.1).collect();
            assert_eq!(p_value(&differences), floor(n as usize));
        }
        assert_eq!(floor(5), 0.0625);
        assert_eq!(p_value(&[]), 1.0);
    }

    /// scipy 1.17.1: `permutation_test((d,), np.mean, permutation_type="samples",
    /// n_resamples=np.inf)` over the same differences gives 0.1875 and 0.0390625.
    #[test]
    fn equals_scipy() {
        assert_eq!(p_value(&[0.3, -0.1, 0.2, 0.4, 0.05]), 0.1875);
        let eight = [1.2, 0.4, -0.3, 2.0, 0.9, 1.1, -0.2, 0.6];
        assert_eq!(p_value(&eight), 0.039_062_5);
    }

    proptest! {
        /// Scale and common sign do not matter; many equal pairs agree with the exact value.
        #[test]
        fn invariant(d in prop::collection::vec(-1.0f64..1.0, 1..10), scale in 0.1f64..10.0) {
            let p = p_value(&d);
            let scaled: Vec<f64> = d.iter().map(|x| -x * scale).collect();
            prop_assert_eq!(p, p_value(&scaled));
            prop_assert!(p >= floor(d.len()) && p <= 1.0);
        }
    }

    #[test]
    fn random_patterns_come_close_to_the_exact_value() {
        let mut random = Random(9);
        let mut draw = || random.next() as f64 / u64::MAX as f64 - 0.4;
        let differences: Vec<f64> = (0..20).map(|_| draw()).collect();
        let exact = p_value(&differences);
        // A pair of differences of 0 doubles every pattern alike: p stays, n exceeds the limit.
        let longer: Vec<f64> = differences.iter().copied().chain([0.0]).collect();
        assert!((p_value(&longer) - exact).abs() < 0.005);
    }
}

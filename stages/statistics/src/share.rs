//! Shares: how many of some runs are dead.

use crate::{Interval, normal};

/// Wilson's score interval (1927) of `count` in `n` at `confidence`; none of nothing.
#[must_use]
pub fn wilson(count: usize, n: usize, confidence: f64) -> Option<Interval> {
    if n == 0 || count > n {
        return None;
    }
    let z = normal::quantile(0.5 + confidence / 2.0);
    let (n, share) = (n as f64, count as f64 / n as f64);
    let centre = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    let low = if count == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if share == 1.0 { 1.0 } else { (centre + half).min(1.0) };
    Some(Interval { low, high })
}

/// A share as a reader sees it, a count with Wilson's interval: `1 of 10, 2 to 40 %`. It is never
/// written as mean ± half, because the interval is not symmetric and would leave 0 to 100 %.
#[must_use]
pub fn in_words(count: usize, n: usize, confidence: f64) -> String {
    let Some(Interval { low, high }) = wilson(count, n, confidence) else {
        return format!("{count} of {n}");
    };
    format!("{count} of {n}, {:.0} to {:.0} %", low * 100.0, high * 100.0)
}

/// Exact two-sided McNemar test: p of as uneven a split of the pairs in which just one of the two
/// died. `only_a` pairs lost A alone, `only_b` B alone.
#[must_use]
pub fn mcnemar(only_a: usize, only_b: usize) -> f64 {
    let n = only_a + only_b;
    // Binomial(n, 1/2) up to the smaller count, term by term from the logarithm of the first.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = term.exp();
    for k in 1..=only_a.min(only_b) {
        term += ((n - k + 1) as f64 / k as f64).ln();
        tail += term.exp();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// statsmodels 0.15.0: `proportion_confint(c, n, method="wilson")`.
    #[test]
    fn wilson_published_values() {
        for (count, n, low, high) in [
            (0, 10, 0.0, 0.277_532_799_862_889),
            (1, 10, 0.017_876_213_095_072, 0.404_150_026_795_239),
            (5, 10, 0.236_593_090_512_564, 0.763_406_909_487_436),
            (10, 10, 0.722_467_200_137_111, 1.0),
        ] {
            let found = wilson(count, n, 0.95).unwrap();
            assert!(
                (found.low - low).abs() < 1e-9 && (found.high - high).abs() < 1e-9,
                "{found:?}"
            );
        }
        assert_eq!(wilson(0, 0, 0.95), None);
        assert_eq!(wilson(2, 1, 0.95), None);
    }

    #[test]
    fn share_in_words_is_a_count_with_its_interval() {
        assert_eq!(in_words(1, 10, 0.95), "1 of 10, 2 to 40 %");
        assert_eq!(in_words(0, 10, 0.95), "0 of 10, 0 to 28 %");
        assert_eq!(in_words(0, 0, 0.95), "0 of 0");
    }

    #[test]
    fn mcnemar_published_values() {
        // scipy 1.17.1: `binomtest(k, n, 0.5).pvalue`.
        for (a, b, p) in
            [(0, 5, 0.0625), (1, 8, 0.0390625), (3, 3, 1.0), (0, 0, 1.0), (2, 10, 0.038_574_218_75)]
        {
            assert!((mcnemar(a, b) - p).abs() < 1e-12, "{a} {b}: {}", mcnemar(a, b));
        }
    }

    proptest! {
        /// For runs that are dead or not, the sign-flip test of the paired differences is McNemar's.
        #[test]
        fn mcnemar_is_the_sign_flip_test(a in 0usize..7, b in 0usize..7, ties in 0usize..5) {
            let differences: Vec<f64> = [vec![1.0; a], vec![-1.0; b], vec![0.0; ties]].concat();
            let flipped = crate::sign_flip::p_value(&differences);
            prop_assert!((flipped - mcnemar(a, b)).abs() < 1e-12);
        }

        /// Wilson's interval is where the score test does not reject.
        #[test]
        fn wilson_solves_its_equation(n in 1usize..60, part in 0.0f64..1.0) {
            let count = (part * n as f64) as usize;
            let found = wilson(count, n, 0.95).unwrap();
            let share = count as f64 / n as f64;
            let z = normal::quantile(0.975);
            for end in [found.low, found.high] {
                if end > 1e-12 && end < 1.0 - 1e-12 {
                    let score = (share - end).abs() / (end * (1.0 - end) / n as f64).sqrt();
                    prop_assert!((score - z).abs() < 1e-6);
                }
            }
        }
    }
}

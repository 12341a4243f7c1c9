//! Runs of methods that share a seed.

use crate::{Interval, bootstrap, mean};

/// P(A > B) from pairs: the share of pairs that A wins, a tie being half a win. `NaN` of nothing.
///
/// Bouthillier et al. 2021 ("Accounting for variance in machine learning benchmarks") call a
/// method better when this exceeds 0.75.
#[must_use]
pub fn superiority(differences: &[f64]) -> f64 {
    let score = |&d: &f64| {
        if d > 0.0 {
            1.0
        } else if d == 0.0 {
            0.5
        } else {
            0.0
        }
    };
    differences.iter().map(score).sum::<f64>() / differences.len() as f64
}

/// How much of the gap between a lower and an upper bound a method closes, over runs that share a
/// seed: (mean of the method - mean of the lower) / (mean of the upper - mean of the lower), and its
/// BCa interval over seeds. Each triple is `[lower, method, upper]`.
///
/// The "performance gap recovered" of Burns et al. 2023 ("Weak-to-strong generalization"), here with
/// cross-entropy below and the oracle above. None where the upper mean is not above the lower.
#[must_use]
pub fn gap_recovered(triples: &[[f64; 3]], confidence: f64) -> Option<(f64, Option<Interval>)> {
    let share = |drawn: &[usize]| {
        let side = |k: usize| mean(&drawn.iter().map(|&i| triples[i][k]).collect::<Vec<_>>());
        let gap = side(2) - side(0);
        if gap > 0.0 { (side(1) - side(0)) / gap } else { f64::NAN }
    };
    let all: Vec<usize> = (0..triples.len()).collect();
    let observed = share(&all);
    observed.is_finite().then(|| (observed, bootstrap::bca_of(triples.len(), confidence, share)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: [[f64; 3]; 8] = [
        [0.41, 0.62, 0.80],
        [0.38, 0.70, 0.82],
        [0.44, 0.55, 0.79],
        [0.40, 0.66, 0.81],
        [0.36, 0.61, 0.83],
        [0.43, 0.72, 0.80],
        [0.39, 0.58, 0.82],
        [0.42, 0.69, 0.78],
    ];

    /// scipy 1.17.1: `bootstrap(.., method="BCa", paired=True, n_resamples=200_000, rng=0)` of the
    /// same ratio over [`GAP`]; the tolerance is what 10,000 resamples may differ by.
    #[test]
    fn the_gap_by_hand_and_by_scipy() {
        // Half way, whatever the seed.
        let half = [[0.4, 0.5, 0.6], [0.3, 0.45, 0.6]];
        let (share, interval) = gap_recovered(&half, 0.95).unwrap();
        assert!((share - 0.5).abs() < 1e-12);
        let interval = interval.unwrap();
        assert!((interval.low - 0.5).abs() < 1e-9 && (interval.high - 0.5).abs() < 1e-9);
        let (share, interval) = gap_recovered(&GAP, 0.95).unwrap();
        assert!((share - 0.590_062_111_8).abs() < 1e-9, "{share}");
        let interval = interval.unwrap();
        let close = |found: f64, scipy: f64| (found - scipy).abs() < 0.012;
        assert!(close(interval.low, 0.4857) && close(interval.high, 0.6845), "{interval:?}");
        assert_eq!(gap_recovered(&[[0.5, 0.6, 0.5]], 0.95), None);
        assert_eq!(gap_recovered(&[], 0.95), None);
        // Of one seed there is a share and no interval.
        assert_eq!(gap_recovered(&[[0.0, 0.25, 1.0]], 0.95), Some((0.25, None)));
    }

    #[test]
    fn wins_and_ties() {
        assert_eq!(superiority(&[1.0, 2.0, 0.0, -1.0]), 0.625);
        assert!(superiority(&[]).is_nan());
    }
}

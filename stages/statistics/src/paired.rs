//! Runs of two methods that share a seed.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wins_and_ties() {
        assert_eq!(superiority(&[1.0, 2.0, 0.0, -1.0]), 0.625);
        assert!(superiority(&[]).is_nan());
    }
}

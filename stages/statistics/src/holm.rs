//! Holm's correction for several tests.

/// Adjusted p values, in the order given: a claim is significant at a level when its adjusted p is
/// at most that level, and the chance of one false claim among all stays within it (Holm 1979).
#[must_use]
pub fn adjust(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut highest = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        highest = highest.max((p.len() - rank) as f64 * p[i]).min(1.0);
        adjusted[i] = highest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// R: `p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")`.
    #[test]
    fn equals_r() {
        let found = adjust(&[0.01, 0.04, 0.03, 0.005]);
        for (found, expected) in found.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((found - expected).abs() < 1e-12);
        }
        assert!(adjust(&[]).is_empty());
    }

    proptest! {
        /// The definition: the largest, over all claims with a p no larger, of its p times the
        /// number of claims not before it.
        #[test]
        fn equals_its_definition(p in prop::collection::vec(0.0f64..1.0, 1..12)) {
            for (found, own) in adjust(&p).iter().zip(&p) {
                let expected = p.iter().filter(|q| *q <= own)
                    .map(|q| q * p.iter().filter(|r| *r >= q).count() as f64)
                    .fold(0.0, f64::max)
                    .min(1.0);
                prop_assert!((found - expected).abs() < 1e-12);
            }
        }
    }
}

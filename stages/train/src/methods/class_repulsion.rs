//! Class repulsion: the dissimilarity loss without backgrounds. Cross-entropy plus lambda times the
//! mean cosine similarity of pairs that share a label. Told nothing beside the labels.
//!
//! The control for the study's own loss: it says how much of a gain is due to pushing a class apart,
//! whatever its backgrounds. It is the loss of [`super::dissimilarity`] with `pairs: label`.

use super::dissimilarity::Dissimilarity;
use crate::params::{Pairs, TrainParams};

/// The objective of a run with these parameters.
#[must_use]
pub fn objective(params: &TrainParams) -> Dissimilarity {
    Dissimilarity::new(&TrainParams { pairs: Some(Pairs::Label), ..params.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::check::{Case, cases, entropy, mean_cosine};
    use proptest::prelude::*;
    use serde_json::json;

    fn repulsion() -> Dissimilarity {
        let params = json!({"method": "class_repulsion", "lambda": 1.25});
        objective(&serde_json::from_value(params).unwrap())
    }

    proptest! {
        #[test]
        fn gradient_equals_finite_differences(case in cases()) {
            let (stats, gradient) = case.evaluate(&mut repulsion());
            let labels = &case.labels;
            let brute = |z: &[f64]| mean_cosine(z, case.width, |i, j| labels[i] == labels[j]);
            let wide: Vec<f64> = case.embedding.iter().map(|&z| z.into()).collect();
            prop_assert!((stats.penalty - brute(&wide)).abs() < 1e-5);
            case.check_gradient(&gradient, &|l, z, _| entropy(l, labels) + 1.25 * brute(z));
        }
    }

    /// (1, 0) and (0.6, 0.8): S = 0.6, and u_2 - 0.6 u_1 = (0, 0.8) pulls on the first.
    #[test]
    fn one_pair_by_hand() {
        let case = Case::by_hand(&[3, 3, 5], &[0, 1, 2], &[1.0, 0.0, 0.6, 0.8, 1.0, 1.0]);
        let (stats, gradient) = case.evaluate(&mut repulsion());
        assert_eq!(stats.pairs, 2.0);
        assert!((stats.penalty - 0.6).abs() < 1e-6);
        let found = gradient.embedding().unwrap();
        // The second: u_1 - 0.6 u_2 = (0.64, -0.48).
        for (found, expected) in found.iter().zip([0.0, 1.0, 0.8, -0.6, 0.0, 0.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }
}

//! Dissimilarity loss: cross-entropy plus lambda times the mean cosine similarity of the embeddings
//! of pairs that share a label and a background (Cazacu 2026). Told the training groups.

use dissim_kernel::{OutputGradient, Outputs};

use super::cross_entropy::CrossEntropy;
use super::pairs::GroupSums;
use super::{Batch, Objective, StepStats};
use crate::params::{Embed, TrainParams};

/// The objective.
#[derive(Debug)]
pub struct Dissimilarity {
    lambda: f32,
    embed: Embed,
    entropy: CrossEntropy,
    pairs: GroupSums,
}

impl Dissimilarity {
    /// The objective with the parameters of a run.
    #[must_use]
    pub fn new(params: &TrainParams) -> Self {
        Self {
            lambda: params.lambda.unwrap_or_default() as f32,
            embed: params.embed.unwrap_or_default(),
            entropy: CrossEntropy::default(),
            pairs: GroupSums::default(),
        }
    }
}

impl Objective for Dissimilarity {
    fn evaluate(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        gradient: &mut OutputGradient,
    ) -> StepStats {
        let mut stats = StepStats { lambda: self.lambda.into(), ..StepStats::default() };
        self.entropy.measure(batch, outputs);
        self.entropy.add_gradient(gradient.logits_mut());
        let z = match self.embed {
            Embed::Post => outputs.embedding,
            Embed::Pre => outputs.pre,
        };
        self.pairs.measure(z, batch.groups, &mut stats);
        // With a weight of 0 the gradient must be cross-entropy's own, to the last bit.
        if self.lambda != 0.0 {
            self.pairs.add_gradient(
                self.lambda,
                match self.embed {
                    Embed::Post => gradient.embedding_mut(),
                    Embed::Pre => gradient.pre_mut(),
                },
            );
        }
        let (cross_entropy, correct) = (self.entropy.mean(), self.entropy.correct);
        StepStats { cross_entropy, correct, ..stats }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::check::{Case, cases, cosine, entropy};
    use proptest::prelude::*;
    use serde_json::json;

    fn method(with: serde_json::Value) -> Dissimilarity {
        Dissimilarity::new(&serde_json::from_value(with).unwrap())
    }

    /// The mean similarity of the ordered pairs that `related` names, by the plain Gram form.
    fn gram(case: &Case, z: &[f64], related: impl Fn(usize, usize) -> bool) -> f64 {
        let (mut sum, mut pairs) = (0.0, 0.0);
        for i in 0..case.labels.len() {
            for j in 0..case.labels.len() {
                if i != j && related(i, j) {
                    sum += cosine(z, case.width, i, j);
                    pairs += 1.0;
                }
            }
        }
        if pairs == 0.0 { 0.0 } else { sum / pairs }
    }

    proptest! {
        #[test]
        fn labelled_pairs_equal_the_gram_form(case in cases(), lambda in 0.1f64..3.0, pre: bool) {
            let embed = if pre { "pre" } else { "post" };
            let with = json!({"method": "dissimilarity", "lambda": lambda, "embed": embed});
            let (stats, gradient) = case.evaluate(&mut method(with));
            let group = |i: usize, j: usize| case.groups[i] == case.groups[j];
            let loss = |logits: &[f64], post: &[f64], before: &[f64]| {
                let z = if pre { before } else { post };
                entropy(logits, &case.labels) + lambda * gram(&case, z, group)
            };
            let z = if pre { &case.pre } else { &case.embedding };
            let z: Vec<f64> = z.iter().map(|&v| f64::from(v)).collect();
            prop_assert!((stats.penalty - gram(&case, &z, group)).abs() < 1e-5);
            case.check_gradient(&gradient, &loss);
        }
    }
}

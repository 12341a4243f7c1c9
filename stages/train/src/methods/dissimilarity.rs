//! Dissimilarity loss: cross-entropy plus lambda times the mean cosine similarity of the embeddings
//! of pairs that share a label and a background (Cazacu 2026).
//!
//! Three choices of pairs: with the same label and background (told the training groups); with the
//! same label and a similarity above 1 - tau (told nothing: the study's variant without background
//! labels); with the same label. A threshold enters the loss in one of two ways: as the mean
//! similarity of the pairs it selects, or as a hinge, the mean of max(0, S_ij - (1 - tau)) over all
//! pairs of a label.

use dissim_kernel::{OutputGradient, Outputs};

use super::cross_entropy::CrossEntropy;
use super::gram::{Gram, Rule};
use super::pairs::GroupSums;
use super::{Batch, Objective, StepStats};
use crate::params::{Embed, Pairs, TauLoss, TrainParams};

/// How the pairs of a batch are gone through.
#[derive(Debug)]
enum Search {
    /// By sums over groups: every related pair counts, and counts in full.
    Sums(GroupSums),
    /// One by one.
    Gram(Box<Gram>, Rule),
}

/// The objective.
#[derive(Debug)]
pub struct Dissimilarity {
    lambda: f32,
    embed: Embed,
    pairs: Pairs,
    entropy: CrossEntropy,
    search: Search,
    labels: Vec<u32>,
}

impl Dissimilarity {
    /// The objective with the parameters of a run.
    #[must_use]
    pub fn new(params: &TrainParams) -> Self {
        let pairs = params.pairs.unwrap_or_default();
        let offset = params.offset.map(|offset| offset as f32);
        let threshold = (1.0 - params.tau.unwrap_or_default()) as f32;
        let search = match (pairs, params.tau_loss.unwrap_or_default()) {
            (Pairs::LabelAboveThreshold, TauLoss::SelectedMean) => {
                Search::Gram(Box::default(), Rule { threshold: Some(threshold), offset })
            }
            (Pairs::LabelAboveThreshold, TauLoss::Hinge) => {
                Search::Gram(Box::default(), Rule { threshold: None, offset: Some(threshold) })
            }
            _ if offset.is_some() => Search::Gram(Box::default(), Rule { threshold: None, offset }),
            _ => Search::Sums(GroupSums::default()),
        };
        Self {
            lambda: params.lambda.unwrap_or_default() as f32,
            embed: params.embed.unwrap_or_default(),
            pairs,
            entropy: CrossEntropy::default(),
            search,
            labels: Vec::new(),
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
        self.labels.clear();
        self.labels.extend(batch.labels.iter().map(|&label| u32::from(label)));
        let related = match self.pairs {
            Pairs::LabelAndBackground => batch.groups,
            Pairs::LabelAboveThreshold | Pairs::Label => &self.labels,
        };
        match &mut self.search {
            Search::Sums(sums) => sums.measure(z, related, &mut stats),
            Search::Gram(gram, rule) => gram.measure(z, related, *rule, &mut stats),
        }
        // With a weight of 0 the gradient must be cross-entropy's own, to the last bit.
        if self.lambda != 0.0 {
            let grad = match self.embed {
                Embed::Post => gradient.embedding_mut(),
                Embed::Pre => gradient.pre_mut(),
            };
            match &mut self.search {
                Search::Sums(sums) => sums.add_gradient(self.lambda, grad),
                Search::Gram(gram, _) => gram.add_gradient(self.lambda, grad),
            }
        }
        let (cross_entropy, correct) = (self.entropy.mean(), self.entropy.correct);
        StepStats { cross_entropy, correct, ..stats }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::check::{cases, cosine, entropy, mean_cosine};
    use crate::methods::class_repulsion::LabelPairs;
    use crate::methods::penalised::Penalised;
    use proptest::prelude::*;
    use serde_json::json;

    fn method(with: serde_json::Value) -> Dissimilarity {
        Dissimilarity::new(&serde_json::from_value(with).unwrap())
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
                entropy(logits, &case.labels) + lambda * mean_cosine(z, case.width, group)
            };
            let z = if pre { &case.pre } else { &case.embedding };
            let z: Vec<f64> = z.iter().map(|&v| f64::from(v)).collect();
            prop_assert!((stats.penalty - mean_cosine(&z, case.width, group)).abs() < 1e-6);
            case.check_gradient(&gradient, &loss);
        }

        #[test]
        fn pairs_one_by_one_equal_the_gram_form(
            case in cases(),
            lambda in 0.1f64..3.0,
            tau in 0.0f64..2.2,
            offset in -1.0f64..0.9,
            which in 0usize..4,
        ) {
            let z: Vec<f64> = case.embedding.iter().map(|&v| f64::from(v)).collect();
            let n = case.labels.len();
            let s = |z: &[f64], i: usize, j: usize| cosine(z, case.width, i, j);
            let label = |i: usize, j: usize| i != j && case.labels[i] == case.labels[j];
            let all: Vec<(usize, usize)> = (0..n)
                .flat_map(|i| (0..n).map(move |j| (i, j)))
                .filter(|&(i, j)| if which == 0 {
                    i != j && case.groups[i] == case.groups[j]
                } else {
                    label(i, j)
                })
                .collect();
            // Away from the corners, where a difference straddles two sides.
            let corners = [offset, 1.0 - tau];
            let corner = |&(i, j): &(usize, usize)| corners.iter().any(|c| (s(&z, i, j) - c).abs() < 1e-3);
            prop_assume!(!all.iter().any(corner));
            let (with, chosen, floor) = match which {
                0 => (json!({"offset": offset}), all, offset),
                1 => (json!({"pairs": "label", "offset": offset}), all, offset),
                2 => {
                    // The mask is detached: it is of the point, not of what is moved.
                    let above = all.into_iter().filter(|&(i, j)| s(&z, i, j) > 1.0 - tau).collect();
                    (json!({"pairs": "label_above_threshold", "tau": tau, "offset": offset}), above, offset)
                }
                _ => {
                    let with = json!({"pairs": "label_above_threshold", "tau": tau, "tau_loss": "hinge"});
                    (with, all, 1.0 - tau)
                }
            };
            let mut with = with;
            with["method"] = json!("dissimilarity");
            with["lambda"] = json!(lambda);
            let penalty = |z: &[f64]| {
                let cost = |&(i, j): &(usize, usize)| (s(z, i, j) - floor).max(0.0);
                if chosen.is_empty() { 0.0 } else { chosen.iter().map(cost).sum::<f64>() / chosen.len() as f64 }
            };
            let (stats, gradient) = case.evaluate(&mut method(with));
            prop_assert!((stats.penalty - penalty(&z)).abs() < 1e-5, "{} {}", stats.penalty, penalty(&z));
            prop_assert_eq!(stats.pairs, chosen.len() as f64);
            case.check_gradient(&gradient, &|l, z, _| entropy(l, &case.labels) + lambda * penalty(z));
        }

        #[test]
        fn a_threshold_that_lets_all_or_none_pass(case in cases()) {
            let of = |pairs: serde_json::Value| {
                let mut with = pairs;
                with["method"] = json!("dissimilarity");
                with["lambda"] = json!(1.25);
                case.evaluate(&mut method(with))
            };
            let above = |tau: f64| of(json!({"pairs": "label_above_threshold", "tau": tau}));
            // tau = 2 + eps: every pair of a label, as in class_repulsion.
            let (expected, by_label) = of(json!({"pairs": "label"}));
            let (stats, gradient) = above(2.001);
            prop_assert_eq!(stats.pairs, expected.pairs);
            prop_assert!((stats.penalty - expected.penalty).abs() < 1e-5);
            let repulsion = Penalised::new(1.25, LabelPairs::default());
            let (repelled, by_class) = case.evaluate(&mut { repulsion });
            prop_assert!((stats.penalty - repelled.penalty).abs() < 1e-5);
            let zeros = vec![0.0; case.embedding.len()];
            for other in [&by_label, &by_class] {
                let pairs = gradient.embedding().unwrap_or(&zeros).iter();
                for (a, b) in pairs.zip(other.embedding().unwrap_or(&zeros)) {
                    prop_assert!((a - b).abs() < 1e-4, "{a} {b}");
                }
            }
            // tau = 0: nothing is more similar than 1.
            let (stats, gradient) = above(0.0);
            prop_assert_eq!((stats.pairs, stats.penalty), (0.0, 0.0));
            prop_assert!(gradient.embedding().unwrap_or(&zeros).iter().all(|g| *g == 0.0));
        }
    }
}

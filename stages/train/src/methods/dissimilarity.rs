//! Dissimilarity loss: cross-entropy plus lambda times the mean cosine similarity of the embeddings
//! of pairs that share a label and a background (Cazacu 2026).
//!
//! Three choices of pairs: with the same label and background (told the training groups); with the
//! same label and a similarity above 1 - tau (told nothing: the study's variant without background
//! labels); with the same label. A threshold enters the loss in one of two ways: as the mean
//! similarity of the pairs it selects, or as a hinge, the mean of max(0, S_ij - (1 - tau)) over all
//! pairs of a label. What it looks at is the similarity of the embeddings, or that of the images
//! themselves, which no training changes.

use dissim_kernel::{OutputGradient, Outputs, PIXELS, standardise};

use super::cross_entropy::CrossEntropy;
use super::gram::{Gram, Rule};
use super::pairs::{EPSILON, GroupSums, Units};
use super::weight::Weight;
use super::{Batch, Objective, StepStats};
use crate::params::{Embed, Pairs, TauLoss, TauSpace, TrainParams};

/// How the pairs of a batch are gone through.
#[derive(Debug)]
enum Search {
    /// By sums over groups: every related pair counts, and counts in full.
    Sums(GroupSums),
    /// One by one.
    Gram(Box<Gram>, Rule),
    /// One by one, where the threshold looks at the images.
    Images(Box<Gram>, Rule, Pixels),
}

impl Search {
    fn new(params: &TrainParams) -> Self {
        let offset = params.offset.map(|offset| offset as f32);
        let threshold = (1.0 - params.tau.unwrap_or_default()) as f32;
        let selected = Rule { threshold: Some(threshold), offset };
        match (params.pairs.unwrap_or_default(), params.tau_loss.unwrap_or_default()) {
            (Pairs::LabelAboveThreshold, TauLoss::SelectedMean) => {
                match params.tau_space.unwrap_or_default() {
                    TauSpace::Embedding => Self::Gram(Box::default(), selected),
                    TauSpace::Input => Self::Images(Box::default(), selected, Pixels::default()),
                }
            }
            (Pairs::LabelAboveThreshold, TauLoss::Hinge) => {
                Self::Gram(Box::default(), Rule { threshold: None, offset: Some(threshold) })
            }
            _ if offset.is_some() => Self::Gram(Box::default(), Rule { threshold: None, offset }),
            _ => Self::Sums(GroupSums::default()),
        }
    }

    /// Measures the penalty of embeddings `z` whose pairs are those with equal numbers in `of`;
    /// returns the mean similarity of the pairs that count.
    fn measure(&mut self, z: &[f32], of: &[u32], batch: &Batch<'_>, stats: &mut StepStats) -> f64 {
        match self {
            Self::Sums(sums) => {
                sums.measure(z, of, stats);
                stats.penalty
            }
            Self::Gram(gram, rule) => {
                gram.measure(z, of, *rule, None, stats);
                gram.similarity
            }
            Self::Images(gram, rule, pixels) => {
                gram.measure(z, of, *rule, Some(pixels.measure(batch)), stats);
                gram.similarity
            }
        }
    }

    fn add_gradient(&mut self, lambda: f32, gradient: &mut [f32]) {
        match self {
            Self::Sums(sums) => sums.add_gradient(lambda, gradient),
            Self::Gram(gram, _) | Self::Images(gram, ..) => gram.add_gradient(lambda, gradient),
        }
    }
}

/// The images of a batch as unit vectors of their standardised pixels.
#[derive(Debug, Default)]
struct Pixels {
    values: Vec<f32>,
    units: Units,
}

impl Pixels {
    fn measure(&mut self, batch: &Batch<'_>) -> &Units {
        self.values.clear();
        for &row in batch.rows {
            let image = &batch.images[row as usize * PIXELS..(row as usize + 1) * PIXELS];
            for (channel, plane) in image.chunks_exact(PIXELS / 3).enumerate() {
                self.values.extend(plane.iter().map(|&byte| standardise(channel, byte)));
            }
        }
        // The log is about embeddings.
        self.units.measure(&self.values, PIXELS, EPSILON, &mut StepStats::default());
        &self.units
    }
}

/// The objective.
#[derive(Debug)]
pub struct Dissimilarity {
    weight: Weight,
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
        Self {
            weight: Weight::of(params),
            embed: params.embed.unwrap_or_default(),
            pairs: params.pairs.unwrap_or_default(),
            entropy: CrossEntropy::default(),
            search: Search::new(params),
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
        let lambda = self.weight.at(batch.clock) as f32;
        let mut stats = StepStats { lambda: lambda.into(), ..StepStats::default() };
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
        let similarity = self.search.measure(z, related, batch, &mut stats);
        // With a weight of 0 the gradient must be cross-entropy's own, to the last bit.
        if lambda != 0.0 {
            let grad = match self.embed {
                Embed::Post => gradient.embedding_mut(),
                Embed::Pre => gradient.pre_mut(),
            };
            self.search.add_gradient(lambda, grad);
        }
        self.weight.observe(similarity, stats.pairs);
        let (cross_entropy, correct) = (self.entropy.mean(), self.entropy.correct);
        StepStats { cross_entropy, correct, ..stats }
    }

    fn state(&self) -> Vec<f64> {
        self.weight.state()
    }

    fn restore(&mut self, state: &[f64]) {
        self.weight.restore(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::Clock;
    use crate::methods::check::{Case, cases, cosine, entropy, mean_cosine};
    use crate::methods::class_repulsion;
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
            let params = serde_json::from_value(json!({"method": "class_repulsion", "lambda": 1.25}));
            let (repelled, by_class) = case.evaluate(&mut class_repulsion::objective(&params.unwrap()));
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

    /// Pixels of three images: all 0, all 255, and 255 with one channel at 0, as the network sees
    /// them. Which pairs count follows from them, and what they cost from the embeddings.
    #[test]
    fn a_threshold_on_the_images_by_hand() {
        let mut images = vec![0u8; PIXELS];
        images.extend([255; PIXELS]);
        images.extend((0..PIXELS).map(|i| if i < PIXELS / 3 { 0 } else { 255 }));
        let value = |channel: usize, byte: u8| f64::from(standardise(channel, byte));
        let image = |bytes: [u8; 3]| [0, 1, 2].map(|c| value(c, bytes[c]));
        let three = [image([0; 3]), image([255; 3]), image([0, 255, 255])].concat();
        let seen = |i, j| cosine(&three, 3, i, j);
        assert!(seen(0, 1) < seen(0, 2) && seen(0, 2) < 0.3 && seen(1, 2) > 0.3, "the premise");
        let embedding = vec![1.0, 0.0, 0.6, 0.8, 0.0, 1.0];
        let case = Case {
            images,
            rows: vec![0, 1, 2],
            labels: vec![4; 3],
            backgrounds: vec![0, 1, 2],
            groups: vec![4, 14, 24],
            partner_labels: vec![4; 3],
            shares: None,
            logits: vec![0.0; 30],
            pre: embedding.clone(),
            embedding,
            width: 2,
            clock: Clock { epoch: 1, epochs: 1, step: 0, steps: 1 },
        };
        let above = |tau: f64| {
            let with = json!({"method": "dissimilarity", "lambda": 1, "tau": tau, "tau_space": "input",
                "pairs": "label_above_threshold"});
            case.evaluate(&mut method(with)).0
        };
        // 1 - tau = 0.3 lets the second and the third image pass, whose embeddings have 0.8.
        let stats = above(0.7);
        assert_eq!(stats.pairs, 2.0);
        assert!((stats.penalty - 0.8).abs() < 1e-6);
        let all = above(2.001);
        assert_eq!(all.pairs, 6.0);
        assert!((all.penalty - (0.6 + 0.8 + 0.0) / 3.0).abs() < 1e-6);
        assert_eq!(above(0.0).pairs, 0.0);
    }
}

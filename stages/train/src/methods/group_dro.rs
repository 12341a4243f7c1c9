//! Group DRO: the worst group counts most (Sagawa et al., ICLR 2020, algorithm 1). Told the training
//! groups: a group is a label on a background.
//!
//! Each step multiplies q_g by exp(eta loss_g) for the groups in the batch, eta = 0.01, and minimises
//! `sum_g q_g loss_g / sum_g q_g` over them. A batch has few of the 10 N groups, so q is renormalised
//! over those that are there. ln q is kept, which never overflows.

use std::collections::BTreeMap;

use dissim_api::formats::{Dataset, SplitName};
use dissim_kernel::{OutputGradient, Outputs};

use super::risk::Risk;
use super::{Batch, Objective, StepStats};
use crate::batches::groups;

/// Step size of q.
const ETA: f64 = 0.01;

/// The objective.
#[derive(Debug)]
pub struct GroupDro {
    /// ln q of every group, up to a constant.
    log_q: BTreeMap<u32, f64>,
    risk: Risk,
}

impl GroupDro {
    /// With equal weights for the groups of the training set.
    #[must_use]
    pub fn new(dataset: &Dataset) -> Self {
        let split = dataset.split(SplitName::Train);
        Self::of(&groups(&split.label, &split.background))
    }

    fn of(groups: &[u32]) -> Self {
        let log_q = groups.iter().map(|&g| (g, 0.0)).collect();
        Self { log_q, risk: Risk::default() }
    }

    /// The share of each group in the objective of this batch, after q's step.
    fn shares(&mut self, groups: &[u32]) -> BTreeMap<u32, (f64, usize)> {
        let mut present: BTreeMap<u32, (f64, usize)> = BTreeMap::new();
        for (group, loss) in groups.iter().zip(&self.risk.entropy.losses) {
            let (sum, count) = present.entry(*group).or_default();
            *sum += loss;
            *count += 1;
        }
        for (group, (sum, count)) in &mut present {
            let log_q = self.log_q.entry(*group).or_default();
            *log_q += ETA * *sum / *count as f64;
            *sum = *log_q;
        }
        let most = present.values().map(|(q, _)| *q).fold(f64::NEG_INFINITY, f64::max);
        present.values_mut().for_each(|(q, _)| *q = (*q - most).exp());
        let total: f64 = present.values().map(|(q, _)| q).sum();
        present.values_mut().for_each(|(q, _)| *q /= total);
        present
    }
}

impl Objective for GroupDro {
    fn evaluate(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        gradient: &mut OutputGradient,
    ) -> StepStats {
        let stats = self.risk.measure(batch, outputs);
        let shares = self.shares(batch.groups);
        let weight = |group| {
            let (share, count) = shares[group];
            (share / count as f64) as f32
        };
        let weights: Vec<f32> = batch.groups.iter().map(weight).collect();
        self.risk.entropy.add_weighted_gradient(&weights, gradient.logits_mut());
        stats
    }

    fn state(&self) -> Vec<f64> {
        self.log_q.values().copied().collect()
    }

    fn restore(&mut self, state: &[f64]) {
        self.log_q.values_mut().zip(state).for_each(|(q, known)| *q = *known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::check::{cases, entropy_of};
    use proptest::prelude::*;

    /// Plain q, multiplied and divided as the paper says.
    fn brute(losses: &[f64], groups: &[u32], q: &mut BTreeMap<u32, f64>) -> f64 {
        let mut present = groups.to_vec();
        present.sort_unstable();
        present.dedup();
        let mean = |g: u32| {
            let own: Vec<f64> =
                groups.iter().zip(losses).filter(|(h, _)| **h == g).map(|(_, l)| *l).collect();
            own.iter().sum::<f64>() / own.len() as f64
        };
        present.iter().for_each(|&g| *q.entry(g).or_insert(1.0) *= (ETA * mean(g)).exp());
        let total: f64 = present.iter().map(|g| q[g]).sum();
        present.iter().map(|&g| q[&g] * mean(g)).sum::<f64>() / total
    }

    proptest! {
        /// q is held while the gradient is taken, so it may not move in the differences.
        #[test]
        fn gradient_is_that_of_the_weighted_risk(case in cases()) {
            let mut objective = GroupDro::of(&case.groups);
            case.evaluate(&mut objective);
            let (_, gradient) = case.evaluate(&mut objective);
            let loss = |l: &[f64]| -> Vec<f64> {
                (0..case.labels.len()).map(|i| entropy_of(l, i, case.labels[i].into())).collect()
            };
            let wide: Vec<f64> = case.logits.iter().map(|&l| l.into()).collect();
            let mut q = BTreeMap::new();
            brute(&loss(&wide), &case.groups, &mut q);
            brute(&loss(&wide), &case.groups, &mut q);
            case.check_gradient(&gradient, &|l, _, _| {
                let losses = loss(l);
                let total: f64 = q.values().sum();
                let count = |g: u32| case.groups.iter().filter(|h| **h == g).count() as f64;
                let terms = losses.iter().zip(&case.groups);
                terms.map(|(l, g)| l * q[g] / total / count(*g)).sum()
            });
        }
    }

    #[test]
    fn q_by_hand_survives_a_checkpoint() {
        let mut objective = GroupDro::of(&[4, 7]);
        objective.risk.entropy.losses = vec![1.0, 3.0];
        let shares = objective.shares(&[4, 7]);
        // q is e^0.01 and e^0.03.
        assert!((shares[&4].0 - 1.0 / (1.0 + 0.02f64.exp())).abs() < 1e-12);
        assert!((shares[&4].0 + shares[&7].0 - 1.0).abs() < 1e-12);
        assert_eq!(objective.state(), [0.01, 0.03]);
        let mut other = GroupDro::of(&[4, 7]);
        other.restore(&objective.state());
        assert_eq!(other.state(), objective.state());
    }
}

//! Invariant risk minimisation, version 1 (Arjovsky et al. 2019, section 3.1; schedule and restart of
//! Adam as in DomainBed). Told the training groups.
//!
//! The penalty of slot e ([`super::environments`]) is the squared gradient of its risk with respect to
//! a factor w on the logits, at w = 1: with p = softmax(l), `g_e = mean_i (sum_k p_k l_k - l_y)` and
//! `L = 1/E sum_e (R_e + w g_e^2)`. As g_e is itself in closed form, so is its gradient:
//! `dg_e/dl_j = (p_j (1 + l_j - sum_k p_k l_k) - [j = y]) / n_e`. w is 1, and lambda (100) after 500
//! steps.

use dissim_kernel::{CLASSES, OutputGradient, Outputs};

use super::environments::{ANNEALED, Slots, annealed};
use super::risk::Risk;
use super::{Batch, Clock, Objective, StepStats};

/// The objective.
#[derive(Debug)]
pub struct Irm {
    weight: f64,
    slots: Slots,
    risk: Risk,
}

impl Irm {
    /// With the weight that it ends with.
    #[must_use]
    pub fn new(weight: f64, slots: Slots) -> Self {
        Self { weight, slots, risk: Risk::default() }
    }

    /// softmax(l)_k of sample `i`: the residual, plus its target.
    fn probability(&self, i: usize, k: usize, label: u8) -> f32 {
        self.risk.entropy.residuals[i * CLASSES + k] + f32::from(u8::from(k == usize::from(label)))
    }
}

impl Objective for Irm {
    fn evaluate(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        gradient: &mut OutputGradient,
    ) -> StepStats {
        let stats = self.risk.measure(batch, outputs);
        let slots = self.slots.members(batch);
        let count = slots.len() as f32;
        let lambda = annealed(self.weight, batch.clock.step);
        let expected = |i: usize| -> f32 {
            let label = batch.labels[i];
            outputs
                .logits(i)
                .iter()
                .enumerate()
                .map(|(k, l)| self.probability(i, k, label) * l)
                .sum()
        };
        let expected: Vec<f32> = (0..batch.labels.len()).map(expected).collect();
        let mut weights = vec![0.0; batch.labels.len()];
        let mut penalty = 0.0;
        for slot in &slots {
            let n = slot.len() as f32;
            let own = |&i: &usize| expected[i] - outputs.logits(i)[usize::from(batch.labels[i])];
            let scale = slot.iter().map(own).sum::<f32>() / n;
            penalty += f64::from(scale * scale / count);
            let factor = 2.0 * lambda as f32 * scale / (count * n);
            for &i in slot {
                weights[i] = 1.0 / (count * n);
                let row = &mut gradient.logits_mut()[i * CLASSES..(i + 1) * CLASSES];
                for (k, g) in row.iter_mut().enumerate() {
                    let p = self.probability(i, k, batch.labels[i]);
                    let residual = self.risk.entropy.residuals[i * CLASSES + k];
                    *g += factor * (residual + p * (outputs.logits(i)[k] - expected[i]));
                }
            }
        }
        self.risk.entropy.add_weighted_gradient(&weights, gradient.logits_mut());
        StepStats { penalty, pairs: 0.0, lambda, ..stats }
    }

    fn restarts_optimiser(&self, clock: Clock) -> bool {
        clock.step == ANNEALED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::check::{Case, cases, entropy_of};
    use proptest::prelude::*;

    proptest! {
        /// The penalty as its definition says: the derivative by w, by central differences.
        #[test]
        fn gradient_equals_finite_differences(case in cases()) {
            let mut case = case;
            case.clock.step = 700;
            let slots = Slots::of(&case.labels, &case.backgrounds, 2);
            let numbers = slots.numbers(&case.batch());
            let (_, gradient) = case.evaluate(&mut Irm::new(0.5, slots));
            case.check_gradient(&gradient, &|l, _, _| {
                let slots: Vec<usize> = (0..2).filter(|e| numbers.contains(e)).collect();
                let term = |e: &usize| {
                    let own: Vec<usize> = (0..numbers.len()).filter(|&i| numbers[i] == *e).collect();
                    let risk = |w: f64| {
                        let scaled: Vec<f64> = l.iter().map(|l| l * w).collect();
                        let loss = |&i: &usize| entropy_of(&scaled, i, case.labels[i].into());
                        own.iter().map(loss).sum::<f64>() / own.len() as f64
                    };
                    let slope = (risk(1.0 + 1e-4) - risk(1.0 - 1e-4)) / 2e-4;
                    risk(1.0) + 0.5 * slope * slope
                };
                slots.iter().map(term).sum::<f64>() / slots.len() as f64
            });
        }
    }

    /// Logits (ln 9, 0, ..) of label 0: p_0 = 1/2, so g = ln 9 / 2 - ln 9 = -ln 3, and the penalty is its square.
    #[test]
    fn one_slot_by_hand() {
        let mut case = Case::by_hand(&[0], &[0], &[1.0]);
        case.logits[0] = 9f32.ln();
        let slots = Slots::of(&case.labels, &case.backgrounds, 1);
        let (stats, gradient) = case.evaluate(&mut Irm::new(100.0, slots));
        let three = 3f64.ln();
        assert!((stats.penalty - three * three).abs() < 1e-5);
        // p_0 - 1 + 2 g (p_0 (1 + ln 9 - ln 3) - 1), at weight 1.
        let expected = -0.5 - 2.0 * three * (0.5 * (1.0 + three) - 1.0);
        assert!((f64::from(gradient.logits()[0]) - expected).abs() < 1e-5);
    }
}

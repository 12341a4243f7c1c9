//! V-REx: the mean risk over environments plus a weight times the variance of the risks (Krueger et
//! al., ICML 2021, equation 8; schedule and restart of Adam as in DomainBed). Told the training groups.
//!
//! With R_e the mean cross-entropy of slot e ([`super::environments`]) and m the mean of the E slots
//! in the batch: `L = m + w/E sum_e (R_e - m)^2`, so a sample of slot e has the weight
//! `(1 + 2 w (R_e - m)) / (E n_e)`. w is 1, and lambda (10) after 500 steps.

use dissim_kernel::{OutputGradient, Outputs};

use super::environments::{ANNEALED, Slots, annealed};
use super::risk::Risk;
use super::{Batch, Clock, Objective, StepStats};

/// The objective.
#[derive(Debug)]
pub struct Vrex {
    weight: f64,
    slots: Slots,
    risk: Risk,
}

impl Vrex {
    /// With the weight that it ends with.
    #[must_use]
    pub fn new(weight: f64, slots: Slots) -> Self {
        Self { weight, slots, risk: Risk::default() }
    }
}

impl Objective for Vrex {
    fn evaluate(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        gradient: &mut OutputGradient,
    ) -> StepStats {
        let stats = self.risk.measure(batch, outputs);
        let slots = self.slots.members(batch);
        let count = slots.len() as f64;
        let losses = &self.risk.entropy.losses;
        let risk =
            |slot: &Vec<usize>| slot.iter().map(|&i| losses[i]).sum::<f64>() / slot.len() as f64;
        let risks: Vec<f64> = slots.iter().map(risk).collect();
        let mean = risks.iter().sum::<f64>() / count;
        let lambda = annealed(self.weight, batch.clock.step);
        let mut weights = vec![0.0; batch.labels.len()];
        for (slot, risk) in slots.iter().zip(&risks) {
            let weight = (1.0 + 2.0 * lambda * (risk - mean)) / (count * slot.len() as f64);
            slot.iter().for_each(|&i| weights[i] = weight as f32);
        }
        self.risk.entropy.add_weighted_gradient(&weights, gradient.logits_mut());
        StepStats {
            penalty: risks.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / count,
            pairs: 0.0,
            lambda,
            ..stats
        }
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
        #[test]
        fn gradient_equals_finite_differences(case in cases(), late: bool) {
            let mut case = case;
            case.clock.step = if late { 500 } else { 0 };
            let slots = Slots::of(&case.labels, &case.backgrounds, 2);
            let numbers = slots.numbers(&case.batch());
            let mut objective = Vrex::new(3.0, slots);
            prop_assert_eq!(objective.restarts_optimiser(case.clock), late);
            let (_, gradient) = case.evaluate(&mut objective);
            let weight = if late { 3.0 } else { 1.0 };
            case.check_gradient(&gradient, &|l, _, _| {
                let risk = |e: usize| {
                    let own = (0..numbers.len()).filter(|&i| numbers[i] == e);
                    let losses: Vec<f64> =
                        own.map(|i| entropy_of(l, i, case.labels[i].into())).collect();
                    (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64)
                };
                let risks: Vec<f64> = (0..2).filter_map(risk).collect();
                let n = risks.len() as f64;
                let mean = risks.iter().sum::<f64>() / n;
                mean + weight * risks.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / n
            });
        }
    }

    /// Risks ln 10 and ln 2 of two slots with a sample each: their variance is (ln 5 / 2)^2, and at
    /// weight 1 the samples have the weights (1 + ln 5) / 2 and (1 - ln 5) / 2.
    #[test]
    fn two_slots_by_hand() {
        let mut case = Case::by_hand(&[0, 0], &[0, 1], &[1.0, 1.0]);
        case.logits[10] = 9f32.ln();
        let slots = Slots::of(&case.labels, &case.backgrounds, 2);
        let (stats, gradient) = case.evaluate(&mut Vrex::new(10.0, slots));
        let five = 5f64.ln();
        assert!((stats.penalty - five * five / 4.0).abs() < 1e-6);
        assert_eq!(stats.lambda, 1.0);
        let found = |i: usize| f64::from(gradient.logits()[i]);
        assert!((found(1) - 0.1 * (1.0 + five) / 2.0).abs() < 1e-6);
        assert!((found(10) + 0.5 * (1.0 - five) / 2.0).abs() < 1e-6);
    }
}

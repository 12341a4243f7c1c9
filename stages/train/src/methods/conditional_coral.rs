//! Conditional CORAL: within each label, the embeddings of different slots shall have the same mean
//! and covariance. CORAL (Sun and Saenko 2016, with the mean as in DomainBed, which divides both
//! terms by their number of entries), a label at a time (as Li et al., "Conditional invariant
//! adversarial networks", ECCV 2018, do for their discrepancy). Told the training groups.
//!
//! For two slots x and y of a label, `P = |m_x - m_y|^2 / d + |C_x - C_y|^2 / d^2`, averaged over
//! the pairs of slots with two samples or more each. With D = C_x - C_y the gradient for a sample of
//! x is `2 (m_x - m_y) / (d n_x) + 4 D (z - m_x) / (d^2 (n_x - 1))`, and the opposite for y. Lambda is 1.

use dissim_kernel::{OutputGradient, Outputs};

use super::Batch;
use super::environments::Slots;
use super::moments::Moments;
use super::penalised::{Penalty, Term};

/// The mean discrepancy of a label's slots.
#[derive(Debug)]
pub struct ConditionalCoral {
    slots: Slots,
}

/// The samples of a label in a slot.
struct Part {
    label: u8,
    samples: Vec<usize>,
    moments: Moments,
}

impl ConditionalCoral {
    /// With these environments.
    #[must_use]
    pub fn new(slots: Slots) -> Self {
        Self { slots }
    }

    /// Labels in slots with two samples or more.
    fn parts(&self, batch: &Batch<'_>, outputs: Outputs<'_>) -> Vec<Part> {
        let mut parts = Vec::new();
        for members in self.slots.members(batch) {
            for label in 0..dissim_kernel::CLASSES as u8 {
                let own = members.iter().copied().filter(|&i| batch.labels[i] == label);
                let samples: Vec<usize> = own.collect();
                if samples.len() > 1 {
                    let mut moments = Moments::default();
                    moments.measure(samples.iter().map(|&i| outputs.embedding(i)), outputs.width);
                    parts.push(Part { label, samples, moments });
                }
            }
        }
        parts
    }
}

impl Penalty for ConditionalCoral {
    fn add(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        weight: f32,
        gradient: &mut OutputGradient,
    ) -> Term {
        let d = outputs.width;
        let parts = self.parts(batch, outputs);
        let pairs: Vec<(&Part, &Part)> = (0..parts.len())
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| (&parts[i], &parts[j]))
            .filter(|(x, y)| x.label == y.label)
            .collect();
        let share = weight / pairs.len() as f32;
        let mut value = 0.0;
        for (x, y) in &pairs {
            let mean = difference(&x.moments.mean, &y.moments.mean);
            let covariance = difference(&x.moments.covariance, &y.moments.covariance);
            value += (square(&mean) / d as f64 + square(&covariance) / (d * d) as f64)
                / pairs.len() as f64;
            for (part, sign) in [(x, share), (y, -share)] {
                let n = part.samples.len() as f32;
                for &i in &part.samples {
                    let out = &mut gradient.embedding_mut()[i * d..(i + 1) * d];
                    let scale = 2.0 * sign / (d as f32 * n);
                    out.iter_mut().zip(&mean).for_each(|(g, m)| *g += scale * m);
                    let scale = 4.0 * sign / ((d * d) as f32 * (n - 1.0));
                    part.moments.add_product(&covariance, outputs.embedding(i), scale, out);
                }
            }
        }
        Term { value, pairs: pairs.len() as f64 }
    }
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn square(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::check::{Case, cases, entropy};
    use crate::methods::penalised::Penalised;
    use proptest::prelude::*;

    /// Mean and covariance of some rows, entry by entry.
    fn moments(z: &[f64], d: usize, rows: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let n = rows.len() as f64;
        let mean: Vec<f64> =
            (0..d).map(|j| rows.iter().map(|i| z[i * d + j]).sum::<f64>() / n).collect();
        let entry = |j: usize, k: usize| {
            let product = |i: &usize| (z[i * d + j] - mean[j]) * (z[i * d + k] - mean[k]);
            rows.iter().map(product).sum::<f64>() / (n - 1.0)
        };
        let covariance = (0..d * d).map(|at| entry(at / d, at % d)).collect();
        (mean, covariance)
    }

    proptest! {
        #[test]
        fn gradient_equals_finite_differences(case in cases()) {
            let slots = Slots::of(&case.labels, &case.backgrounds, 2);
            let numbers = slots.numbers(&case.batch());
            let (_, gradient) =
                case.evaluate(&mut Penalised::new(2.0, ConditionalCoral::new(slots)));
            let d = case.width;
            case.check_gradient(&gradient, &|l, z, _| {
                let (mut sum, mut pairs) = (0.0, 0.0);
                for label in 0..3 {
                    let rows = |slot: usize| -> Vec<usize> {
                        let own = |i: &usize| case.labels[*i] == label && numbers[*i] == slot;
                        (0..numbers.len()).filter(own).collect()
                    };
                    let (x, y) = (rows(0), rows(1));
                    if x.len() > 1 && y.len() > 1 {
                        let ((mx, cx), (my, cy)) = (moments(z, d, &x), moments(z, d, &y));
                        let mean_square = |a: &[f64], b: &[f64]| {
                            let squares = a.iter().zip(b).map(|(a, b)| (a - b).powi(2));
                            squares.sum::<f64>() / a.len() as f64
                        };
                        sum += mean_square(&mx, &my) + mean_square(&cx, &cy);
                        pairs += 1.0;
                    }
                }
                entropy(l, &case.labels) + if pairs > 0.0 { 2.0 * sum / pairs } else { 0.0 }
            });
        }
    }

    /// One unit; slot 0 holds 0 and 2 (mean 1, variance 2), slot 1 holds 1 twice (mean 1, variance 0):
    /// P = 0 + 2^2, and 4 * 2 * (z - 1) pulls on slot 0.
    #[test]
    fn two_slots_by_hand() {
        let case = Case::by_hand(&[0; 4], &[0, 0, 1, 1], &[0.0, 2.0, 1.0, 1.0]);
        let slots = Slots::of(&case.labels, &case.backgrounds, 2);
        let mut objective = Penalised::new(1.0, ConditionalCoral::new(slots));
        let (stats, gradient) = case.evaluate(&mut objective);
        assert!((stats.penalty - 4.0).abs() < 1e-6);
        assert_eq!(stats.pairs, 1.0);
        for (found, expected) in gradient.embedding().unwrap().iter().zip([-8.0, 8.0, 0.0, 0.0]) {
            assert!((found.abs() - f32::abs(expected)).abs() < 1e-5, "{found} {expected}");
            assert!(found * expected >= 0.0, "{found} {expected}");
        }
    }
}

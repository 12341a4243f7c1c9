//! Mixing two images and their labels, from the seed and the step alone.
//!
//! * mixup (Zhang et al., ICLR 2018): a batch with itself in another order, one share a batch from
//!   Beta(0.2, 0.2), and the labels mixed by it. Told nothing.
//! * LISA (Yao et al., ICML 2022), its intra-label half: a partner of the same label on another
//!   background, from the batch, a share from Beta(2, 2); the label stays. Told the training groups.
//!   A sample without such a partner stays as it is; with N = 1 that is every one, and LISA is erm.

use dissim_kernel::{OutputGradient, Outputs};

use super::{Batch, Erm, Mixing, Objective, StepStats};
use crate::batches::Stream;

/// The objective: cross-entropy of mixed images.
#[derive(Debug)]
pub struct Mixup {
    seed: u64,
    partners: Partners,
    entropy: Erm,
}

/// Who is mixed with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partners {
    /// Anyone of the batch: mixup.
    Anyone,
    /// Who shares the label and not the background: LISA.
    OtherBackground,
}

impl Mixup {
    /// Under a seed.
    #[must_use]
    pub fn new(seed: u64, partners: Partners) -> Self {
        Self { seed, partners, entropy: Erm::default() }
    }

    /// A partner for each sample of the batch, by its place in it.
    fn pair(&self, batch: &Batch<'_>, stream: &mut Stream) -> Vec<Option<usize>> {
        let n = batch.labels.len();
        match self.partners {
            Partners::Anyone => {
                let mut order: Vec<usize> = (0..n).collect();
                stream.shuffle(&mut order);
                order.into_iter().map(Some).collect()
            }
            Partners::OtherBackground => {
                let fits = |i: usize, j: usize| {
                    batch.labels[i] == batch.labels[j] && batch.groups[i] != batch.groups[j]
                };
                let draw = |i: usize| {
                    let others: Vec<usize> = (0..n).filter(|&j| fits(i, j)).collect();
                    (!others.is_empty()).then(|| others[stream.below(others.len())])
                };
                (0..n).map(draw).collect()
            }
        }
    }
}

impl Objective for Mixup {
    fn mix(&mut self, batch: &Batch<'_>) -> Option<Mixing> {
        let mut stream = Stream::new("dissim train mixing v1", self.seed, batch.clock.step);
        let share = match self.partners {
            Partners::Anyone => beta_johnk(0.2, &mut stream),
            Partners::OtherBackground => beta_two(&mut stream),
        };
        let pairs = self.pair(batch, &mut stream);
        Some(Mixing {
            partners: (0..).zip(&pairs).map(|(i, j)| batch.rows[j.unwrap_or(i)]).collect(),
            shares: pairs.iter().map(|j| if j.is_some() { share as f32 } else { 0.0 }).collect(),
        })
    }

    fn evaluate(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        gradient: &mut OutputGradient,
    ) -> StepStats {
        self.entropy.evaluate(batch, outputs, gradient)
    }
}

/// Uniform in (0, 1).
fn uniform(stream: &mut Stream) -> f64 {
    ((stream.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Beta(a, a) for a below 1 (Johnk 1964).
fn beta_johnk(a: f64, stream: &mut Stream) -> f64 {
    loop {
        let (x, y) = (uniform(stream).powf(1.0 / a), uniform(stream).powf(1.0 / a));
        if x + y <= 1.0 && x + y > 0.0 {
            return x / (x + y);
        }
    }
}

/// Beta(2, 2): the middle of three uniform numbers.
fn beta_two(stream: &mut Stream) -> f64 {
    let mut three = [0; 3].map(|_| uniform(stream));
    three.sort_unstable_by(f64::total_cmp);
    three[1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::check::{Case, cases};
    use proptest::prelude::*;

    /// Mean 1/2 and variance 1 / (4 (2 a + 1)).
    #[test]
    fn shares_have_the_moments_of_their_distribution() {
        let mut stream = Stream::new("test", 1, 2);
        for (a, draw) in
            [(0.2, (|s| beta_johnk(0.2, s)) as fn(&mut Stream) -> f64), (2.0, beta_two)]
        {
            let values: Vec<f64> = (0..40_000).map(|_| draw(&mut stream)).collect();
            let mean = values.iter().sum::<f64>() / 40_000.0;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 40_000.0;
            assert!((mean - 0.5).abs() < 0.01, "{mean}");
            assert!((variance - 1.0 / (4.0 * (2.0 * a + 1.0))).abs() < 0.005, "{variance}");
        }
    }

    /// Two of label 3 on backgrounds 0 and 1 are each other's only partner; the one of label 5 has none.
    #[test]
    fn lisa_by_hand() {
        let case = Case::by_hand(&[3, 3, 5], &[0, 1, 2], &[1.0, 1.0, 1.0]);
        let lisa = Mixup::new(4, Partners::OtherBackground).mix(&case.batch()).unwrap();
        let share = beta_two(&mut Stream::new("dissim train mixing v1", 4, 0)) as f32;
        assert_eq!(lisa, Mixing { partners: vec![1, 0, 2], shares: vec![share, share, 0.0] });
        // With N = 1 nobody has a partner: LISA is erm.
        let alone = Case::by_hand(&[3, 3, 5], &[0, 0, 2], &[1.0, 1.0, 1.0]);
        let lisa = Mixup::new(4, Partners::OtherBackground).mix(&alone.batch()).unwrap();
        assert_eq!(lisa, Mixing { partners: vec![0, 1, 2], shares: vec![0.0; 3] });
    }

    proptest! {
        #[test]
        fn partners_are_as_the_method_says(case in cases(), seed: u64) {
            let batch = case.batch();
            let any = Mixup::new(seed, Partners::Anyone).mix(&batch).unwrap();
            let mut sorted = any.partners.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, batch.rows);
            prop_assert!(any.shares.iter().all(|s| *s == any.shares[0] && (0.0..=1.0).contains(s)));
            let lisa = Mixup::new(seed, Partners::OtherBackground).mix(&batch).unwrap();
            for (i, (&j, &share)) in lisa.partners.iter().zip(&lisa.shares).enumerate() {
                let j = j as usize;
                prop_assert_eq!(case.labels[i], case.labels[j]);
                prop_assert_eq!(share == 0.0, i == j);
                prop_assert!(share == 0.0 || case.groups[i] != case.groups[j]);
            }
            prop_assert_eq!(Mixup::new(seed, Partners::Anyone).mix(&batch), Some(any));
        }
    }
}

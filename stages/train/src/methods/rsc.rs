//! Representation self-challenging (Huang et al., ECCV 2020; thresholds as in DomainBed's version).
//! Told nothing.
//!
//! The units that speak most for the true label are dropped. A unit's gradient of the true logit is
//! its weight in that row of the last layer, so unit f of a sample with label y stays where
//! `W[y, f]` is below the 66.7th percentile of the row. That is done for the third of the batch
//! whose true class loses most probability by it: where the loss is below the 66.7th percentile,
//! all units stay. Cross-entropy is then that of what is left.

use dissim_kernel::{CLASSES, OutputGradient, Outputs};

use super::{Batch, Erm, Head, Objective, StepStats};

/// Share of units and of samples that stay: 2/3, as DomainBed's defaults of 1/3 say.
const KEPT: f64 = 1.0 - 1.0 / 3.0;

/// The objective.
#[derive(Debug, Default)]
pub struct Rsc {
    entropy: Erm,
}

impl Objective for Rsc {
    fn keep(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        head: Head<'_>,
    ) -> Option<Vec<bool>> {
        let d = outputs.width;
        let units: Vec<Vec<bool>> = head.weight.chunks_exact(d).map(below).collect();
        let dropped = |i: usize| {
            let label = usize::from(batch.labels[i]);
            let muted = |class: usize| {
                let row = &head.weight[class * d..(class + 1) * d];
                let terms = row.iter().zip(outputs.embedding(i)).zip(&units[label]);
                head.bias[class]
                    + terms.map(|((w, z), kept)| if *kept { w * z } else { 0.0 }).sum::<f32>()
            };
            let muted: [f32; CLASSES] = std::array::from_fn(muted);
            probability(outputs.logits(i), label) - probability(&muted, label)
        };
        let losses: Vec<f32> = (0..batch.labels.len()).map(dropped).collect();
        let samples = below(&losses);
        let rows = batch.labels.iter().zip(&samples);
        Some(
            rows.flat_map(|(&label, &whole)| {
                units[usize::from(label)].iter().map(move |unit| whole || *unit)
            })
            .collect(),
        )
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

/// Which values are below the percentile, by numpy's linear interpolation.
fn below(values: &[f32]) -> Vec<bool> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let at = KEPT * (sorted.len() - 1) as f64;
    let (low, share) = (at.floor() as usize, (at - at.floor()) as f32);
    let high = (low + 1).min(sorted.len() - 1);
    let threshold = sorted[low] + share * (sorted[high] - sorted[low]);
    values.iter().map(|v| *v < threshold).collect()
}

fn probability(logits: &[f32], label: usize) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (logits[label] - max).exp() / logits.iter().map(|l| (l - max).exp()).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::check::Case;

    /// numpy.percentile([1, 2, 3, 4], 200/3) is 3.0; three are below in [1, 2, 3, 4, 5] (3.67).
    #[test]
    fn percentiles_are_numpys() {
        assert_eq!(below(&[4.0, 1.0, 3.0, 2.0]), [false, true, false, true]);
        assert_eq!(below(&[1.0, 2.0, 3.0, 4.0, 5.0]), [true, true, true, false, false]);
        assert_eq!(below(&[1.0]), [false]);
    }

    /// Two samples of label 0 with three units; W[0] = (3, 2, 1), all else 0. Units below the
    /// percentile (2.33) stay: the second and the third. The first sample uses the first unit and
    /// loses by its going; the second sample does not, and keeps all.
    #[test]
    fn the_loudest_unit_goes_where_it_matters() {
        let mut weight = vec![0.0; 10 * 3];
        weight[..3].copy_from_slice(&[3.0, 2.0, 1.0]);
        let embedding = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let mut logits = vec![0.0; 20];
        (logits[0], logits[10]) = (3.0, 2.0);
        let case = Case {
            labels: vec![0, 0],
            backgrounds: vec![0, 0],
            groups: vec![0, 0],
            rows: vec![0, 1],
            images: vec![0; 2 * dissim_kernel::PIXELS],
            partner_labels: vec![0, 0],
            shares: None,
            pre: embedding.clone(),
            embedding,
            logits,
            width: 3,
            clock: crate::methods::Clock { epoch: 1, epochs: 1, step: 0, steps: 1 },
        };
        let head = Head { weight: &weight, bias: &[0.0; 10] };
        let keep = Rsc::default().keep(&case.batch(), case.outputs(), head).unwrap();
        assert_eq!(keep, [false, true, true, true, true, true]);
    }
}

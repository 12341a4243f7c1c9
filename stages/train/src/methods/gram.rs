//! The penalty over pairs that must be looked at one by one: those above a threshold, or with an
//! offset. The plain Gram matrix of a batch, O(n^2 d), and its gradient in closed form.
//!
//! With S_ij = u_i . u_j and M the ordered pairs that count, the penalty is (1/|M|) times the sum over
//! M of S_ij or, with an offset, of max(0, S_ij - offset). Its gradient with respect to u_i is (2/|M|)
//! times the sum of u_j over the pairs (i, j) of M, with an offset those with S_ij > offset; which
//! pairs are in M is a constant to it.

use super::StepStats;
use super::pairs::{EPSILON, Units};

/// Which pairs count, and from where their similarity does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Of the related pairs only those whose similarity is above this are in M; all of them where
    /// none.
    pub threshold: Option<f32>,
    /// Similarity up to here costs nothing; without it a pair costs its similarity, below 0 as well.
    pub offset: Option<f32>,
}

/// The Gram matrix of a batch.
#[derive(Debug, Clone, Default)]
pub struct Gram {
    units: Units,
    /// Whether the similarity of pair (i, j) pulls on u_i, `[n, n]`.
    pulls: Vec<bool>,
    /// |M|.
    pairs: usize,
    /// The mean of S_ij over M; 0 where M is empty.
    pub similarity: f64,
    /// Gradient with respect to one u_i.
    du: Vec<f32>,
}

impl Gram {
    /// Measures the embeddings `z` `[n, d]`, and the penalty of the pairs of `of` (equal numbers
    /// are related) under `rule`, whose threshold looks at `seen` where there is such a thing, and
    /// at the embeddings where not.
    pub fn measure(
        &mut self,
        z: &[f32],
        of: &[u32],
        rule: Rule,
        seen: Option<&Units>,
        stats: &mut StepStats,
    ) {
        let n = of.len();
        let width = z.len() / n;
        self.units.measure(z, width, EPSILON, stats);
        self.pulls.clear();
        self.pulls.resize(n * n, false);
        self.pairs = 0;
        let (mut sum, mut similarities) = (0.0f64, 0.0f64);
        for i in 0..n {
            for j in (0..n).filter(|&j| j != i && of[i] == of[j]) {
                let similarity = self.units.cosine(i, j);
                let looked_at = seen.map_or(similarity, |seen| seen.cosine(i, j));
                if rule.threshold.is_some_and(|threshold| looked_at <= threshold) {
                    continue;
                }
                self.pairs += 1;
                similarities += f64::from(similarity);
                if rule.offset.is_none_or(|offset| similarity > offset) {
                    sum += f64::from(similarity - rule.offset.unwrap_or(0.0));
                    self.pulls[i * n + j] = true;
                }
            }
        }
        stats.pairs = self.pairs as f64;
        let mean = |sum: f64| if self.pairs == 0 { 0.0 } else { sum / self.pairs as f64 };
        (stats.penalty, self.similarity) = (mean(sum), mean(similarities));
    }

    /// Adds the gradient of `lambda * penalty` to `grad`, `[n, d]`.
    pub fn add_gradient(&mut self, lambda: f32, grad: &mut [f32]) {
        if self.pairs == 0 {
            return;
        }
        let Self { units, pulls, pairs, du, .. } = self;
        let width = units.width;
        let n = grad.len() / width;
        let scale = 2.0 * lambda / *pairs as f32;
        du.resize(width, 0.0);
        for (i, grad) in grad.chunks_exact_mut(width).enumerate() {
            du.fill(0.0);
            for j in (0..n).filter(|j| pulls[i * n + j]) {
                du.iter_mut().zip(units.row(j)).for_each(|(d, u)| *d += scale * u);
            }
            units.add_through(i, du, grad);
        }
    }
}

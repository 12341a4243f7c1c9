//! The dissimilarity penalty over the pairs of a batch that share a group, and its gradient in
//! closed form.
//!
//! With u = z (|z|^2 + eps^2)^(-1/2), s_g the sum of u over group g and |M| the number of ordered
//! pairs, the mean cosine similarity is (sum_g |s_g|^2 - sum_i |u_i|^2) / |M|. Its gradient with
//! respect to u_i is d_i = 2 (s_g(i) - u_i) / |M|, and with respect to z_i
//! (|z_i|^2 + eps^2)^(-1/2) (d_i - u_i (u_i . d_i)).

use crate::{EMBEDDING, StepStats};

/// Which embedding the penalty reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedding {
    /// The 84 units after their activation.
    Post,
    /// The same units before it.
    Pre,
}

/// The penalty's part in the objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalty {
    /// Its weight. 0 measures the similarity and leaves the gradient alone, to the last bit.
    pub lambda: f32,
    /// The embedding it reads.
    pub embedding: Embedding,
    /// eps of the smooth norm.
    pub epsilon: f32,
}

/// Room for the penalty of a batch.
pub(crate) struct Similarity {
    /// Unit embeddings, a row a sample.
    units: Vec<f32>,
    /// (|z|^2 + eps^2)^(-1/2) of each sample.
    inverse: Vec<f32>,
    /// Sums of unit embeddings, a row a group.
    sums: Vec<f32>,
    /// The group of each sample, as a row of `sums`.
    slots: Vec<usize>,
    /// Samples of each group.
    sizes: Vec<usize>,
    /// (group, sample), sorted.
    order: Vec<(u32, usize)>,
}

impl Similarity {
    pub fn new(batch_size: usize) -> Self {
        Self {
            units: vec![0.0; batch_size * EMBEDDING],
            inverse: vec![0.0; batch_size],
            sums: vec![0.0; batch_size * EMBEDDING],
            slots: vec![0; batch_size],
            sizes: Vec::with_capacity(batch_size),
            order: Vec::with_capacity(batch_size),
        }
    }

    /// Measures the embeddings `z` `[groups of lanes][84][lanes]` of the first `groups.len()`
    /// samples; what it finds goes to `stats`.
    pub fn measure(
        &mut self,
        z: &[f32],
        lanes: usize,
        groups: &[u32],
        epsilon: f32,
        stats: &mut StepStats,
    ) {
        let n = groups.len();
        let (mut norms, mut zero, mut active) = (0.0f64, 0usize, 0usize);
        for (i, unit) in self.units.chunks_exact_mut(EMBEDDING).enumerate().take(n) {
            let z = &z[start(i, lanes)..];
            for (f, u) in unit.iter_mut().enumerate() {
                *u = z[f * lanes];
            }
            let square: f32 = unit.iter().map(|v| v * v).sum();
            let inverse = (square + epsilon * epsilon).sqrt().recip();
            norms += f64::from(square.sqrt());
            zero += usize::from(square == 0.0);
            active += unit.iter().filter(|&&v| v > 0.0).count();
            unit.iter_mut().for_each(|u| *u *= inverse);
            self.inverse[i] = inverse;
        }
        stats.embedding_norm = norms / n as f64;
        stats.zero_norm = zero as f64 / n as f64;
        stats.active = active as f64 / (n * EMBEDDING) as f64;
        let pairs = self.sort(groups);
        stats.pairs = pairs as f64;
        stats.similarity = if pairs == 0 { 0.0 } else { self.sum(n) / pairs as f64 };
    }

    /// Adds the gradient of `lambda * mean similarity` to `grad`, laid out as `z` was.
    pub fn add_gradient(&self, grad: &mut [f32], lanes: usize, lambda: f32, stats: &StepStats) {
        if stats.pairs == 0.0 || lambda == 0.0 {
            return;
        }
        let scale = 2.0 * lambda / stats.pairs as f32;
        for (i, unit) in self.units.chunks_exact(EMBEDDING).enumerate().take(self.order.len()) {
            if self.sizes[self.slots[i]] < 2 {
                continue;
            }
            let sum = &self.sums[self.slots[i] * EMBEDDING..][..EMBEDDING];
            let along: f32 = sum.iter().zip(unit).map(|(s, u)| (s - u) * u).sum();
            let grad = &mut grad[start(i, lanes)..];
            for (f, (s, u)) in sum.iter().zip(unit).enumerate() {
                grad[f * lanes] += scale * self.inverse[i] * ((s - u) - u * along);
            }
        }
    }

    /// Gives each sample the row of its group, and counts the ordered pairs.
    fn sort(&mut self, groups: &[u32]) -> usize {
        self.order.clear();
        self.order.extend(groups.iter().copied().zip(0..));
        self.order.sort_unstable();
        self.sizes.clear();
        let mut last = None;
        for &(group, i) in &self.order {
            if last != Some(group) {
                self.sizes.push(0);
                last = Some(group);
            }
            self.slots[i] = self.sizes.len() - 1;
            self.sizes[self.slots[i]] += 1;
        }
        self.sizes.iter().map(|s| s * (s - 1)).sum()
    }

    /// The sum of the cosine similarity over the ordered pairs.
    fn sum(&mut self, n: usize) -> f64 {
        let sums = &mut self.sums[..self.sizes.len() * EMBEDDING];
        sums.fill(0.0);
        let units = &self.units[..n * EMBEDDING];
        for (unit, &slot) in units.chunks_exact(EMBEDDING).zip(&self.slots) {
            let sum = &mut sums[slot * EMBEDDING..][..EMBEDDING];
            sum.iter_mut().zip(unit).for_each(|(s, u)| *s += u);
        }
        let squares = |v: &[f32]| -> f64 { v.iter().map(|x| f64::from(x * x)).sum() };
        squares(sums) - squares(units)
    }
}

/// Where the first value of sample `i` lies in `[groups][84][lanes]`.
fn start(i: usize, lanes: usize) -> usize {
    (i / lanes) * EMBEDDING * lanes + i % lanes
}

//! The mean cosine similarity over the pairs of a batch that share a group, and its gradient in
//! closed form.
//!
//! With u = z (|z|^2 + eps^2)^(-1/2), s_g the sum of u over group g and |M| the number of ordered
//! pairs, the mean cosine similarity is (sum_g |s_g|^2 - sum_i |u_i|^2) / |M|. Its gradient with
//! respect to u_i is d_i = 2 (s_g(i) - u_i) / |M|, and with respect to z_i
//! (|z_i|^2 + eps^2)^(-1/2) (d_i - u_i (u_i . d_i)).

use super::StepStats;

/// eps of the smooth norm: below any embedding that is not 0, above f32's smallest square.
pub const EPSILON: f32 = 1e-12;

/// Unit embeddings of a batch and their sums by group.
#[derive(Debug, Clone, Default)]
pub struct GroupSums {
    /// Unit embeddings, a row a sample.
    units: Units,
    /// Sums of unit embeddings, a row a group.
    sums: Vec<f32>,
    /// The group of each sample, as a row of `sums`.
    slots: Vec<usize>,
    /// Samples of each group.
    sizes: Vec<usize>,
    /// (group, sample), sorted.
    order: Vec<(u32, usize)>,
    /// Ordered pairs.
    pairs: usize,
}

impl GroupSums {
    /// Measures the embeddings `z` `[n, d]`: their norms, and the mean similarity of pairs that
    /// share a group, 0 without pairs. What it finds goes to `stats`.
    pub fn measure(&mut self, z: &[f32], groups: &[u32], stats: &mut StepStats) {
        let width = z.len() / groups.len();
        self.units.measure(z, width, EPSILON, stats);
        self.pairs = self.sort(groups);
        stats.pairs = self.pairs as f64;
        stats.penalty = if self.pairs == 0 { 0.0 } else { self.sum() / self.pairs as f64 };
    }

    /// Adds the gradient of `lambda * mean similarity` to `grad`, `[n, d]`.
    pub fn add_gradient(&self, lambda: f32, grad: &mut [f32]) {
        if self.pairs == 0 {
            return;
        }
        let width = self.units.width;
        let scale = 2.0 * lambda / self.pairs as f32;
        for (i, grad) in grad.chunks_exact_mut(width).enumerate() {
            let unit = self.units.row(i);
            if self.sizes[self.slots[i]] < 2 {
                continue;
            }
            let sum = &self.sums[self.slots[i] * width..][..width];
            let along: f32 = sum.iter().zip(unit).map(|(s, u)| (s - u) * u).sum();
            for (grad, (s, u)) in grad.iter_mut().zip(sum.iter().zip(unit)) {
                *grad += scale * self.units.inverse[i] * ((s - u) - u * along);
            }
        }
    }

    /// Gives each sample the row of its group, and counts the ordered pairs.
    fn sort(&mut self, groups: &[u32]) -> usize {
        self.order.clear();
        self.order.extend(groups.iter().copied().zip(0..));
        self.order.sort_unstable();
        self.sizes.clear();
        self.slots.resize(groups.len(), 0);
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
    fn sum(&mut self) -> f64 {
        let Units { rows, width, .. } = &self.units;
        self.sums.clear();
        self.sums.resize(self.sizes.len() * width, 0.0);
        for (unit, &slot) in rows.chunks_exact(*width).zip(&self.slots) {
            let sum = &mut self.sums[slot * width..][..*width];
            sum.iter_mut().zip(unit).for_each(|(s, u)| *s += u);
        }
        let squares = |v: &[f32]| -> f64 { v.iter().map(|x| f64::from(x * x)).sum() };
        squares(&self.sums) - squares(rows)
    }
}

/// Embeddings divided by their smooth norms.
#[derive(Debug, Clone, Default)]
pub struct Units {
    /// A row a sample, `[n, d]`.
    pub rows: Vec<f32>,
    /// (|z|^2 + eps^2)^(-1/2) of each sample.
    pub inverse: Vec<f32>,
    /// d.
    pub width: usize,
}

impl Units {
    /// Divides the embeddings `z` by their norms, and counts what the epoch log wants to know.
    pub fn measure(&mut self, z: &[f32], width: usize, epsilon: f32, stats: &mut StepStats) {
        self.rows.clear();
        self.rows.extend_from_slice(z);
        self.inverse.clear();
        self.width = width;
        let n = z.len() / width;
        let (mut norms, mut zero, mut active) = (0.0f64, 0usize, 0usize);
        for unit in self.rows.chunks_exact_mut(width) {
            let square: f32 = unit.iter().map(|v| v * v).sum();
            let inverse = (square + epsilon * epsilon).sqrt().recip();
            norms += f64::from(square.sqrt());
            zero += usize::from(square == 0.0);
            active += unit.iter().filter(|&&v| v > 0.0).count();
            unit.iter_mut().for_each(|u| *u *= inverse);
            self.inverse.push(inverse);
        }
        stats.embedding_norm = norms / n as f64;
        stats.zero_norm = zero as f64 / n as f64;
        stats.active = active as f64 / (n * width) as f64;
    }

    /// The unit embedding of sample `i`.
    #[must_use]
    pub fn row(&self, i: usize) -> &[f32] {
        &self.rows[i * self.width..(i + 1) * self.width]
    }

    /// S_ij. Rounding can lift the similarity of equal rows above 1, where no threshold may see it.
    #[must_use]
    pub fn cosine(&self, i: usize, j: usize) -> f32 {
        let dot: f32 = self.row(i).iter().zip(self.row(j)).map(|(a, b)| a * b).sum();
        dot.min(1.0)
    }

    /// Turns a gradient with respect to u_i into one with respect to z_i, and adds it to `grad`.
    pub fn add_through(&self, i: usize, du: &[f32], grad: &mut [f32]) {
        let (unit, inverse) = (self.row(i), self.inverse[i]);
        let along: f32 = unit.iter().zip(du).map(|(u, d)| u * d).sum();
        for ((grad, u), d) in grad.iter_mut().zip(unit).zip(du) {
            *grad += inverse * (d - u * along);
        }
    }
}

//! Mean and covariance of a few embeddings, with room that is kept.

/// Mean `[d]` and covariance `[d, d]` (divided by n - 1) of n embeddings.
#[derive(Debug, Clone, Default)]
pub struct Moments {
    /// `[d]`.
    pub mean: Vec<f32>,
    /// `[d, d]`.
    pub covariance: Vec<f32>,
    /// Embeddings that were measured.
    pub count: usize,
    centred: Vec<f32>,
}

impl Moments {
    /// Of these embeddings of `d` values.
    pub fn measure<'a>(&mut self, rows: impl Iterator<Item = &'a [f32]> + Clone, d: usize) {
        self.count = rows.clone().count();
        reset(&mut self.mean, d);
        reset(&mut self.covariance, d * d);
        reset(&mut self.centred, d);
        let n = self.count as f32;
        for row in rows.clone() {
            self.mean.iter_mut().zip(row).for_each(|(m, z)| *m += z / n);
        }
        let scale = 1.0 / (n - 1.0).max(1.0);
        for row in rows {
            let values = self.centred.iter_mut().zip(row).zip(&self.mean);
            values.for_each(|((c, z), m)| *c = z - m);
            for (line, c) in self.covariance.chunks_exact_mut(d).zip(&self.centred) {
                // Half of all units are 0 after ReLU, but centred they are not: no shortcut here.
                let factor = scale * c;
                line.iter_mut().zip(&self.centred).for_each(|(v, c)| *v += factor * c);
            }
        }
    }

    /// Adds `scale * matrix (z - mean)` to `out`, for a symmetric `matrix` `[d, d]`.
    pub fn add_product(&self, matrix: &[f32], z: &[f32], scale: f32, out: &mut [f32]) {
        for ((line, z), m) in matrix.chunks_exact(z.len()).zip(z).zip(&self.mean) {
            let factor = scale * (z - m);
            out.iter_mut().zip(line).for_each(|(o, v)| *o += factor * v);
        }
    }
}

fn reset(values: &mut Vec<f32>, len: usize) {
    values.clear();
    values.resize(len, 0.0);
}

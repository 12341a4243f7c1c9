//! A little linear algebra in f64, closed and deterministic: ridge regression onto classes, and the
//! principal axes of embeddings. Matrices are 84 wide, so the textbook's methods are quick enough.

/// A ridge classifier: regression of one-hot classes on centred embeddings.
///
/// With centred X `[n, d]` and centred one-hot Y `[n, classes]` the weights solve
/// (X'X + a I) W = X'Y (Hoerl and Kennard 1970), and the class with the largest value wins.
/// a = 0.001 n times the mean variance of a feature, so the scale of embeddings does not matter.
pub(crate) struct Ridge {
    mean: Vec<f64>,
    /// `[classes, d]`.
    weights: Vec<f64>,
    /// The share of each class, which is what a sample without features gets.
    intercept: Vec<f64>,
}

/// Ridge's weight as a share of the mean variance.
const SHRINKAGE: f64 = 1e-3;

impl Ridge {
    /// Fits `x` `[n, d]` to `classes` `[n]`, each below `count`; none without samples, or where
    /// an embedding is not a number.
    pub fn fit(x: &[f32], d: usize, classes: &[usize], count: usize) -> Option<Self> {
        let n = classes.len() as f64;
        if classes.is_empty() || x.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let (mean, mut gram) = covariance(x, d);
        let variance = (0..d).map(|i| gram[i * d + i]).sum::<f64>() / d as f64;
        // Dead embeddings do not vary: any positive ridge gives the weights 0.
        let ridge = if variance > 0.0 { SHRINKAGE * variance } else { 1.0 };
        (0..d).for_each(|i| gram[i * d + i] += ridge);
        let mut intercept = vec![0.0; count];
        let mut weights = vec![0.0; count * d];
        // X'Y / n with X centred: for each class the sum of its centred rows. Centring Y changes
        // nothing, for the rows of X sum to 0.
        for (row, &class) in x.chunks_exact(d).zip(classes) {
            intercept[class] += 1.0 / n;
            for ((w, &v), m) in weights[class * d..][..d].iter_mut().zip(row).zip(&mean) {
                *w += (f64::from(v) - m) / n;
            }
        }
        let lower = cholesky(gram, d);
        weights.chunks_exact_mut(d).for_each(|right| solve(&lower, d, right));
        Some(Self { mean, weights, intercept })
    }

    /// The class with the largest value; of equals the first.
    pub fn classify(&self, z: &[f32]) -> usize {
        let centred: Vec<f64> = z.iter().zip(&self.mean).map(|(v, m)| f64::from(*v) - m).collect();
        let value = |class: usize| {
            let w = &self.weights[class * centred.len()..][..centred.len()];
            self.intercept[class] + w.iter().zip(&centred).map(|(w, v)| w * v).sum::<f64>()
        };
        let values: Vec<f64> = (0..self.intercept.len()).map(value).collect();
        (1..values.len()).fold(0, |best, c| if values[c] > values[best] { c } else { best })
    }
}

/// The principal axes of a set of embeddings.
pub(crate) struct Axes {
    mean: Vec<f64>,
    /// Unit vectors, by falling variance; the largest component of each is positive.
    axes: Vec<Vec<f64>>,
    /// The variance along each, by falling size.
    pub variances: Vec<f64>,
}

impl Axes {
    /// Of `x` `[n, d]`; none without samples, or where one is not a number.
    pub fn of(x: &[f32], d: usize) -> Option<Self> {
        if x.is_empty() || x.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let (mean, covariance) = covariance(x, d);
        let (values, vectors) = eigen(covariance, d);
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
        let axis = |&column: &usize| {
            let axis: Vec<f64> = (0..d).map(|row| vectors[row * d + column]).collect();
            let largest = axis.iter().copied().reduce(|a, b| if b.abs() > a.abs() { b } else { a });
            let sign = if largest.unwrap_or(0.0) < 0.0 { -1.0 } else { 1.0 };
            axis.into_iter().map(|v| v * sign).collect()
        };
        let axes = order.iter().map(axis).collect();
        let variances = order.iter().map(|&i| values[i].max(0.0)).collect();
        Some(Self { mean, axes, variances })
    }

    /// Where an embedding lies on the first two axes.
    pub fn plane(&self, z: &[f32]) -> [f64; 2] {
        [0, 1].map(|i| {
            let Some(axis) = self.axes.get(i) else { return 0.0 };
            let centred = z.iter().zip(&self.mean).map(|(v, m)| f64::from(*v) - m);
            centred.zip(axis).map(|(v, a)| v * a).sum()
        })
    }

    /// The effective number of axes: exp of the entropy of the variances' shares (Roy and
    /// Vetterli, "The effective rank", EUSIPCO 2007). None where nothing varies.
    pub fn effective_rank(&self) -> Option<f64> {
        let total: f64 = self.variances.iter().sum();
        let shares = self.variances.iter().map(|v| v / total).filter(|p| *p > 0.0);
        (total > 0.0).then(|| shares.map(|p| -p * p.ln()).sum::<f64>().exp())
    }
}

/// Mean `[d]` and covariance `[d, d]` (divided by n) of `x` `[n, d]`.
fn covariance(x: &[f32], d: usize) -> (Vec<f64>, Vec<f64>) {
    let n = (x.len() / d) as f64;
    let mut mean = vec![0.0; d];
    for row in x.chunks_exact(d) {
        mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v) / n);
    }
    let mut gram = vec![0.0; d * d];
    let mut centred = vec![0.0; d];
    for row in x.chunks_exact(d) {
        centred.iter_mut().zip(row).zip(&mean).for_each(|((c, &v), m)| *c = f64::from(v) - m);
        for i in 0..d {
            let scale = centred[i] / n;
            for (g, c) in gram[i * d..][..=i].iter_mut().zip(&centred) {
                *g += scale * c;
            }
        }
    }
    for i in 0..d {
        for j in 0..i {
            gram[j * d + i] = gram[i * d + j];
        }
    }
    (mean, gram)
}

/// The lower factor of a symmetric positive definite matrix.
fn cholesky(mut a: Vec<f64>, d: usize) -> Vec<f64> {
    for j in 0..d {
        for i in j..d {
            let (upper, lower) = a.split_at(i * d);
            let row = &lower[..d];
            let other = if i == j { row } else { &upper[j * d..][..d] };
            let dot: f64 = row[..j].iter().zip(&other[..j]).map(|(x, y)| x * y).sum();
            let rest = row[j] - dot;
            a[i * d + j] = if i == j { rest.sqrt() } else { rest / a[j * d + j] };
        }
    }
    a
}

/// Solves L L' x = b in place.
fn solve(lower: &[f64], d: usize, b: &mut [f64]) {
    for i in 0..d {
        let dot: f64 = (0..i).map(|j| lower[i * d + j] * b[j]).sum();
        b[i] = (b[i] - dot) / lower[i * d + i];
    }
    for i in (0..d).rev() {
        let dot: f64 = (i + 1..d).map(|j| lower[j * d + i] * b[j]).sum();
        b[i] = (b[i] - dot) / lower[i * d + i];
    }
}

/// Eigenvalues and eigenvectors (in columns) of a symmetric matrix, by cyclic Jacobi rotations
/// (Golub and Van Loan, Matrix Computations, 8.5).
fn eigen(mut a: Vec<f64>, d: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; d * d];
    (0..d).for_each(|i| vectors[i * d + i] = 1.0);
    let size: f64 = a.iter().map(|v| v * v).sum();
    // Convergence is quadratic: a handful of sweeps do; the bound is for what rounding keeps alive.
    for _ in 0..30 {
        let off: f64 = (0..d)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| a[i * d + j].powi(2))
            .sum();
        if off <= 1e-24 * size {
            break;
        }
        for p in 0..d {
            for q in p + 1..d {
                rotate(&mut a, &mut vectors, d, (p, q));
            }
        }
    }
    ((0..d).map(|i| a[i * d + i]).collect(), vectors)
}

/// One rotation, which makes `a[p, q]` 0.
fn rotate(a: &mut [f64], vectors: &mut [f64], d: usize, (p, q): (usize, usize)) {
    let apq = a[p * d + q];
    if apq == 0.0 {
        return;
    }
    let tau = (a[q * d + q] - a[p * d + p]) / (2.0 * apq);
    let t = tau.signum() / (tau.abs() + tau.mul_add(tau, 1.0).sqrt());
    let c = 1.0 / t.mul_add(t, 1.0).sqrt();
    let s = t * c;
    let turn = |m: &mut [f64], x: usize, y: usize| {
        let (vx, vy) = (m[x], m[y]);
        m[x] = c * vx - s * vy;
        m[y] = s * vx + c * vy;
    };
    for k in 0..d {
        turn(a, k * d + p, k * d + q);
        turn(vectors, k * d + p, k * d + q);
    }
    for k in 0..d {
        turn(a, p * d + k, q * d + k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples() -> impl Strategy<Value = (usize, Vec<f32>)> {
        (1usize..7, 2usize..30)
            .prop_flat_map(|(d, n)| (Just(d), prop::collection::vec(-3.0f32..3.0, d * n)))
    }

    proptest! {
        /// The gradient of the ridge objective is 0 at its solution.
        #[test]
        fn ridge_stands_at_its_minimum((d, x) in samples()) {
            let n = x.len() / d;
            let classes: Vec<usize> = (0..n).map(|i| i * 7 % 3).collect();
            let ridge = Ridge::fit(&x, d, &classes, 3).unwrap();
            let (mean, gram) = covariance(&x, d);
            let alpha = SHRINKAGE * (0..d).map(|i| gram[i * d + i]).sum::<f64>() / d as f64;
            for class in 0..3 {
                let w = &ridge.weights[class * d..][..d];
                for j in 0..d {
                    let mut gradient = alpha * w[j];
                    for (i, row) in x.chunks_exact(d).enumerate() {
                        let centred = |k: usize| f64::from(row[k]) - mean[k];
                        let value = ridge.intercept[class]
                            + (0..d).map(|k| w[k] * centred(k)).sum::<f64>();
                        let target = f64::from(u8::from(classes[i] == class));
                        gradient += (value - target) * centred(j) / n as f64;
                    }
                    prop_assert!(gradient.abs() < 1e-9, "{gradient}");
                }
            }
        }

        /// Axes are orthonormal, and the covariance times an axis is its variance times the axis.
        #[test]
        fn axes_are_eigenvectors((d, x) in samples()) {
            let axes = Axes::of(&x, d).unwrap();
            let (_, covariance) = covariance(&x, d);
            for (i, axis) in axes.axes.iter().enumerate() {
                for (j, other) in axes.axes.iter().enumerate() {
                    let dot: f64 = axis.iter().zip(other).map(|(a, b)| a * b).sum();
                    prop_assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-9);
                }
                for row in 0..d {
                    let image: f64 = (0..d).map(|k| covariance[row * d + k] * axis[k]).sum();
                    prop_assert!((image - axes.variances[i] * axis[row]).abs() < 1e-9);
                }
            }
            prop_assert!(axes.variances.is_sorted_by(|a, b| a >= b));
        }
    }

    #[test]
    fn ridge_separates_what_a_line_separates_and_guesses_the_largest_class_otherwise() {
        let x = [0.0, 1.0, 0.1, -1.0, 5.0, 1.0, 5.1, -1.0];
        let ridge = Ridge::fit(&x, 2, &[0, 0, 1, 1], 2).unwrap();
        let found: Vec<usize> = x.chunks_exact(2).map(|z| ridge.classify(z)).collect();
        assert_eq!(found, [0, 0, 1, 1]);
        let dead = Ridge::fit(&[0.0; 6], 2, &[0, 1, 1], 2).unwrap();
        assert_eq!(dead.classify(&[0.0, 0.0]), 1);
        assert!(Ridge::fit(&[f32::NAN, 0.0], 2, &[0], 2).is_none());
    }

    #[test]
    fn the_effective_rank_counts_equal_axes() {
        let square = Axes::of(&[1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, -1.0], 2).unwrap();
        assert!((square.effective_rank().unwrap() - 2.0).abs() < 1e-9);
        let line = Axes::of(&[1.0, 1.0, -1.0, -1.0], 2).unwrap();
        assert!((line.effective_rank().unwrap() - 1.0).abs() < 1e-6);
        assert_eq!(Axes::of(&[2.0, 2.0], 2).unwrap().effective_rank(), None);
    }
}

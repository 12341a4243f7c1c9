//! The kernel against the same network written plainly in f64.

use dissim_kernel::{Adam, Batch, CLASSES, EMBEDDING, Embedding, Network, PIXELS, Penalty, layout};
use proptest::prelude::*;

/// xorshift64*: numbers for tests, the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

struct Case {
    images: Vec<u8>,
    rows: Vec<u32>,
    labels: Vec<u8>,
    groups: Vec<u32>,
    weights: Vec<f32>,
}

impl Case {
    fn new(seed: u64, batch: usize, groups: u64) -> Self {
        let mut numbers = Numbers(seed | 1);
        let images = (0..(batch + 3) * PIXELS).map(|_| (numbers.next() >> 33) as u8).collect();
        let rows = (0..batch).map(|_| (numbers.next() % (batch as u64 + 3)) as u32).collect();
        let labels = (0..batch).map(|_| (numbers.next() % 10) as u8).collect();
        let groups = (0..batch).map(|_| (numbers.next() % groups) as u32 * 7).collect();
        // PyTorch's scale, U(-1/sqrt(fan_in), ..), so that activations are as in training.
        let bounds =
            [(450 + 6, 75.0), (2400 + 16, 150.0), (48_120, 400.0), (10_164, 120.0), (850, 84.0)];
        let mut weights = Vec::new();
        for (count, fan_in) in bounds {
            let bound = 1.0 / f64::sqrt(fan_in);
            weights.extend((0..count).map(|_| ((numbers.uniform() * 2.0 - 1.0) * bound) as f32));
        }
        Self { images, rows, labels, groups, weights }
    }

    fn batch(&self) -> Batch<'_> {
        let Self { images, rows, labels, groups, .. } = self;
        Batch { images, rows, labels, groups }
    }
}

/// A 5x5 convolution, ReLU and 2x2 max-pooling of `[inputs][side][side]`.
fn convolve(input: &[f64], inputs: usize, side: usize, weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let out = side - 4;
    let mut full = vec![0.0; bias.len() * out * out];
    for (o, &b) in bias.iter().enumerate() {
        for y in 0..out {
            for x in 0..out {
                let mut sum = b;
                for c in 0..inputs {
                    for ky in 0..5 {
                        for kx in 0..5 {
                            sum += weight[((o * inputs + c) * 5 + ky) * 5 + kx]
                                * input[(c * side + y + ky) * side + x + kx];
                        }
                    }
                }
                full[(o * out + y) * out + x] = sum;
            }
        }
    }
    let half = out / 2;
    let mut pooled = vec![0.0f64; bias.len() * half * half];
    for o in 0..bias.len() {
        for y in 0..out {
            for x in 0..out {
                let cell = &mut pooled[(o * half + y / 2) * half + x / 2];
                *cell = cell.max(full[(o * out + y) * out + x]);
            }
        }
    }
    pooled
}

fn affine(input: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let row = |o: usize| weight[o * input.len()..(o + 1) * input.len()].iter();
    bias.iter()
        .enumerate()
        .map(|(o, b)| b + row(o).zip(input).map(|(w, x)| w * x).sum::<f64>())
        .collect()
}

/// Embedding before its activation, and logits, of one image.
fn network(image: &[u8], w: &[f64]) -> (Vec<f64>, Vec<f64>) {
    use layout::*;
    let relu = |v: Vec<f64>| v.into_iter().map(|x| x.max(0.0)).collect::<Vec<_>>();
    let (mean, deviation) = ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]);
    let standardise =
        |(i, &b): (usize, &u8)| (f64::from(b) / 255.0 - mean[i / 1024]) / deviation[i / 1024];
    let x: Vec<f64> = image.iter().enumerate().map(standardise).collect();
    let x = convolve(&x, 3, 32, &w[CONV1_WEIGHT], &w[CONV1_BIAS]);
    let x = convolve(&x, 6, 14, &w[CONV2_WEIGHT], &w[CONV2_BIAS]);
    let x = relu(affine(&x, &w[FC1_WEIGHT], &w[FC1_BIAS]));
    let pre = affine(&x, &w[FC2_WEIGHT], &w[FC2_BIAS]);
    let logits = affine(&relu(pre.clone()), &w[FC3_WEIGHT], &w[FC3_BIAS]);
    (pre, logits)
}

/// Cross-entropy and the mean similarity of the pairs, by the plain Gram form.
fn objective(case: &Case, w: &[f64], embedding: Embedding, epsilon: f64) -> (f64, f64) {
    let n = case.rows.len();
    let mut entropy = 0.0;
    let mut z = Vec::new();
    for (&row, &label) in case.rows.iter().zip(&case.labels) {
        let (pre, logits) = network(&case.images[row as usize * PIXELS..][..PIXELS], w);
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|l| (l - max).exp()).sum();
        entropy += (sum.ln() + max - logits[usize::from(label)]) / n as f64;
        z.push(match embedding {
            Embedding::Post => pre.into_iter().map(|x| x.max(0.0)).collect::<Vec<_>>(),
            Embedding::Pre => pre,
        });
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let norm = |v: &[f64]| (dot(v, v) + epsilon * epsilon).sqrt();
    let (mut sum, mut pairs) = (0.0, 0);
    for i in 0..n {
        for j in 0..n {
            if i != j && case.groups[i] == case.groups[j] {
                sum += dot(&z[i], &z[j]) / (norm(&z[i]) * norm(&z[j]));
                pairs += 1;
            }
        }
    }
    (entropy, if pairs == 0 { 0.0 } else { sum / f64::from(pairs) })
}

fn check(seed: u64, batch: usize, groups: u64, embedding: Embedding) {
    let case = Case::new(seed, batch, groups);
    let (lambda, epsilon) = (1.25, 1e-3);
    let w: Vec<f64> = case.weights.iter().map(|&w| f64::from(w)).collect();
    let penalty = Penalty { lambda: lambda as f32, embedding, epsilon: epsilon as f32 };
    for mut network in
        [Network::new(&case.weights, batch + 5), Network::scalar(&case.weights, batch)]
    {
        let stats = network.gradient(case.batch(), Some(penalty));
        let (entropy, similarity) = objective(&case, &w, embedding, epsilon);
        assert!((stats.cross_entropy - entropy).abs() < 1e-5, "{stats:?} {entropy}");
        assert!((stats.similarity - similarity).abs() < 1e-5, "{stats:?} {similarity}");
        let mut numbers = Numbers(seed | 5);
        let layers = [
            layout::CONV1_WEIGHT,
            layout::CONV1_BIAS,
            layout::CONV2_WEIGHT,
            layout::CONV2_BIAS,
            layout::FC1_WEIGHT,
            layout::FC1_BIAS,
            layout::FC2_WEIGHT,
            layout::FC2_BIAS,
            layout::FC3_WEIGHT,
            layout::FC3_BIAS,
        ];
        for layer in layers {
            let scale = network.grad()[layer.clone()].iter().fold(0.0f32, |m, g| m.max(g.abs()));
            for _ in 0..3 {
                let at = layer.start + (numbers.next() as usize) % layer.len();
                let value = |delta: f64| {
                    let mut w = w.clone();
                    w[at] += delta;
                    let (entropy, similarity) = objective(&case, &w, embedding, epsilon);
                    entropy + lambda * similarity
                };
                let expected = (value(1e-6) - value(-1e-6)) / 2e-6;
                let found = f64::from(network.grad()[at]);
                let tolerance = 1e-3 * f64::from(scale) + 1e-6;
                assert!((found - expected).abs() < tolerance, "{layer:?} {at}: {found} {expected}");
            }
        }
    }
}

#[test]
fn gradient_equals_finite_differences() {
    check(11, 5, 2, Embedding::Post);
    check(12, 19, 3, Embedding::Pre);
    check(13, 1, 1, Embedding::Post);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever fits the lanes or not: SIMD and scalar code agree on loss, gradient and outputs.
    #[test]
    fn simd_equals_scalar(seed in 1u64..1_000_000, batch in 1usize..70, groups in 1u64..30) {
        let case = Case::new(seed, batch, groups);
        let penalty = Penalty { lambda: 2.0, embedding: Embedding::Post, epsilon: 1e-6 };
        let mut fast = Network::new(&case.weights, 70);
        let mut slow = Network::scalar(&case.weights, 70);
        let (a, b) = (fast.gradient(case.batch(), Some(penalty)), slow.gradient(case.batch(), Some(penalty)));
        prop_assert!((a.cross_entropy - b.cross_entropy).abs() < 1e-5);
        prop_assert!((a.similarity - b.similarity).abs() < 1e-5);
        prop_assert_eq!((a.pairs, a.zero_norm), (b.pairs, b.zero_norm));
        for (x, y) in fast.grad().iter().zip(slow.grad()) {
            prop_assert!((x - y).abs() < 1e-4 * (1.0 + x.abs()), "{} {}", x, y);
        }
        let fast = fast.predict(&case.images, &case.rows);
        let slow = slow.predict(&case.images, &case.rows);
        for i in 0..batch {
            for c in 0..CLASSES {
                prop_assert!((fast.logits(i)[c] - slow.logits(i)[c]).abs() < 1e-4);
            }
            for f in 0..EMBEDDING {
                prop_assert!((fast.embedding(i)[f] - slow.embedding(i)[f]).abs() < 1e-4);
            }
        }
    }
}

#[test]
fn a_weight_of_zero_changes_no_bit() {
    let case = Case::new(3, 64, 4);
    let mut plain = Network::new(&case.weights, 64);
    let mut zero = Network::new(&case.weights, 64);
    let penalty = Penalty { lambda: 0.0, embedding: Embedding::Post, epsilon: 1e-6 };
    let (mut a, mut b) = (Adam::new(0.001), Adam::new(0.001));
    for _ in 0..3 {
        plain.gradient(case.batch(), None);
        plain.update(&mut a);
        zero.gradient(case.batch(), Some(penalty));
        zero.update(&mut b);
    }
    assert!(plain.weights() == zero.weights());
    assert_ne!(plain.weights(), case.weights);
}

#[test]
fn no_pairs_no_penalty() {
    let mut case = Case::new(4, 10, 1);
    case.groups = (0..10).collect();
    let mut network = Network::new(&case.weights, 10);
    let penalty = Penalty { lambda: 5.0, embedding: Embedding::Post, epsilon: 1e-6 };
    let stats = network.gradient(case.batch(), Some(penalty));
    assert_eq!((stats.pairs, stats.similarity), (0.0, 0.0));
    let with = network.grad().to_vec();
    network.gradient(case.batch(), None);
    assert!(network.grad() == with);
}

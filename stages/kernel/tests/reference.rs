//! The kernel against the same network written plainly in f64.

use dissim_kernel::{CLASSES, EMBEDDING, Input, Network, OutputGradient, PIXELS, layout};
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
    weights: Vec<f32>,
    /// The gradient of the objective, which is the dot product with it.
    gradient: OutputGradient,
}

impl Case {
    fn new(seed: u64, batch: usize) -> Self {
        let mut numbers = Numbers(seed | 1);
        let images = (0..(batch + 3) * PIXELS).map(|_| (numbers.next() >> 33) as u8).collect();
        let rows = (0..batch).map(|_| (numbers.next() % (batch as u64 + 3)) as u32).collect();
        let mut gradient = OutputGradient::default();
        gradient.reset(batch, EMBEDDING);
        let mut fill = |values: &mut [f32]| {
            values.iter_mut().for_each(|v| *v = (numbers.uniform() - 0.5) as f32);
        };
        fill(gradient.logits_mut());
        fill(gradient.embedding_mut());
        fill(gradient.pre_mut());
        // PyTorch's scale, U(-1/sqrt(fan_in), ..), so that activations are as in training.
        let bounds =
            [(450 + 6, 75.0), (2400 + 16, 150.0), (48_120, 400.0), (10_164, 120.0), (850, 84.0)];
        let mut weights = Vec::new();
        for (count, fan_in) in bounds {
            let bound = 1.0 / f64::sqrt(fan_in);
            weights.extend((0..count).map(|_| ((numbers.uniform() * 2.0 - 1.0) * bound) as f32));
        }
        Self { images, rows, weights, gradient }
    }

    fn input(&self) -> Input<'_> {
        Input { images: &self.images, rows: &self.rows, mix: None }
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

/// The dot product of all outputs and the case's gradient.
fn objective(case: &Case, w: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f32]| a.iter().zip(b).map(|(x, &y)| x * f64::from(y)).sum::<f64>();
    let mut total = 0.0;
    for (i, &row) in case.rows.iter().enumerate() {
        let (pre, logits) = network(&case.images[row as usize * PIXELS..][..PIXELS], w);
        let post: Vec<f64> = pre.iter().map(|x| x.max(0.0)).collect();
        let units = i * EMBEDDING..(i + 1) * EMBEDDING;
        total += dot(&logits, &case.gradient.logits()[i * CLASSES..(i + 1) * CLASSES])
            + dot(&post, &case.gradient.embedding().unwrap()[units.clone()])
            + dot(&pre, &case.gradient.pre().unwrap()[units]);
    }
    total
}

const LAYERS: [std::ops::Range<usize>; 10] = [
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

fn check(seed: u64, batch: usize) {
    let case = Case::new(seed, batch);
    let w: Vec<f64> = case.weights.iter().map(|&w| f64::from(w)).collect();
    for mut network in
        [Network::new(&case.weights, batch + 5), Network::scalar(&case.weights, batch)]
    {
        network.forward(case.input());
        network.backward(&case.gradient);
        let mut numbers = Numbers(seed | 5);
        for layer in LAYERS {
            let scale = network.grad()[layer.clone()].iter().fold(0.0f32, |m, g| m.max(g.abs()));
            for _ in 0..3 {
                let at = layer.start + (numbers.next() as usize) % layer.len();
                let value = |delta: f64| {
                    let mut w = w.clone();
                    w[at] += delta;
                    objective(&case, &w)
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
    check(11, 5);
    check(12, 19);
    check(13, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever fits the lanes or not: SIMD and scalar code agree on gradient and outputs.
    #[test]
    fn simd_equals_scalar(seed in 1u64..1_000_000, batch in 1usize..70) {
        let case = Case::new(seed, batch);
        let found = pass(&case, &mut Network::new(&case.weights, 70));
        let same = (0..30).any(|draw| {
            let expected = pass(&case, &mut Network::scalar(&nudged(&case.weights, draw), 70));
            agree(&found, &expected)
        });
        prop_assert!(same);
    }
}

/// Logits, embedding and its inputs, then the gradient of each layer.
fn pass(case: &Case, network: &mut Network) -> Vec<Vec<f32>> {
    let outputs = network.forward(case.input());
    let mut all = [outputs.logits, outputs.embedding, outputs.pre].map(<[f32]>::to_vec).to_vec();
    network.backward(&case.gradient);
    all.extend(LAYERS.map(|layer| network.grad()[layer].to_vec()));
    all
}

/// Within 1e-4, of the largest value where that is larger than 1.
fn agree(found: &[Vec<f32>], expected: &[Vec<f32>]) -> bool {
    found.iter().zip(expected).all(|(a, b)| {
        assert_eq!(a.len(), b.len());
        let scale = b.iter().fold(1.0f32, |m, g| m.max(g.abs()));
        a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-4 * scale)
    })
}

/// `weights` themselves for the first draw, then moved by up to a millionth of their size. Where a
/// unit is zero to rounding, or two of a pool's four are equal to rounding, the two may take
/// different sides of a kink, both right; the scalar code then takes the other's at some of these.
fn nudged(weights: &[f32], draw: u64) -> Vec<f32> {
    let mut numbers = Numbers(draw * 2 + 1);
    let mut move_by = || (numbers.next() % 2001) as f32 * 1e-9 - 1e-6;
    weights.iter().map(|w| if draw == 0 { *w } else { w * (1.0 + move_by()) }).collect()
}

/// A dropped unit is 0, reaches no logit, and gets no gradient.
#[test]
fn a_dropped_unit_is_as_if_it_were_not_there() {
    let case = Case::new(9, 3);
    let mut network = Network::new(&case.weights, 3);
    network.forward(case.input());
    let keep: Vec<bool> = (0..3 * EMBEDDING).map(|i| i % EMBEDDING != 7).collect();
    let dropped = network.drop_units(&keep).logits.to_vec();
    let mut gradient = OutputGradient::default();
    gradient.reset(3, EMBEDDING);
    gradient.logits_mut().fill(1.0);
    network.backward(&gradient);
    let column = (0..CLASSES).map(|c| network.grad()[layout::FC3_WEIGHT][c * EMBEDDING + 7]);
    assert!(column.clone().all(|g| g == 0.0));
    assert!(network.grad()[layout::FC2_WEIGHT][7 * 120..8 * 120].iter().all(|g| *g == 0.0));
    // The same network without the unit's outgoing weights.
    let mut weights = case.weights.clone();
    (0..CLASSES).for_each(|c| weights[layout::FC3_WEIGHT][c * EMBEDDING + 7] = 0.0);
    assert_eq!(Network::new(&weights, 3).forward(case.input()).logits, dropped);
}

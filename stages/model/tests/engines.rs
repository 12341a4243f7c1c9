//! The kernel against burn, and burn's activations and poolings against finite differences.
//!
//! With the feature `tch` burn computes on libtorch: see libtorch.sh.

use burn::tensor::Device;
use dissim_kernel::{Input, Mix, Optimiser, OutputGradient, PIXELS, Rule};
use dissim_model::engine::{Engine, fused, plain};
use dissim_model::{Activation, Architecture, Backend, Model, Pooling};
use proptest::prelude::*;

/// What plain burn computes on: built with the feature `tch`, these are the tests of libtorch.
fn device() -> Device {
    let name = if cfg!(feature = "tch") { "tch" } else { "flex" };
    Backend::open(name, dissim_api::Device::Cpu).unwrap().device().clone()
}

/// Bytes from a seed and a place, by blake3.
fn noise(seed: u64, i: usize) -> u8 {
    blake3::hash(&[seed.to_le_bytes(), (i as u64).to_le_bytes()].concat()).as_bytes()[0]
}

/// In -1..=1.
fn signed(seed: u64, i: usize) -> f32 {
    (f32::from(noise(seed, i)) - 127.5) / 127.5
}

/// Weights as PyTorch scales them.
fn weights(network: &Architecture, seed: u64) -> Vec<f32> {
    let parameters = network.parameters().into_iter();
    let of = |p: dissim_model::architecture::Parameter| {
        let bound = (p.fan_in as f32).sqrt().recip();
        p.range.map(move |i| signed(seed, i + 7) * bound)
    };
    parameters.flat_map(of).collect()
}

fn images(n: usize, seed: u64) -> Vec<u8> {
    (0..n * PIXELS).map(|i| noise(seed, i)).collect()
}

/// A gradient of all outputs; small for the features, of which there are many.
fn answer(n: usize, width: usize, seed: u64) -> OutputGradient {
    let mut gradient = OutputGradient::default();
    gradient.reset(n, width);
    let fill = |values: &mut [f32], at: usize| {
        values.iter_mut().enumerate().for_each(|(i, v)| *v = signed(seed, i + at) / n as f32);
    };
    fill(gradient.logits_mut(), 1 << 20);
    fill(gradient.embedding_mut(), 1 << 21);
    fill(gradient.pre_mut(), 1 << 22);
    let features = gradient.features_mut(if width == 84 { 400 } else { 768 });
    fill(features, 1 << 23);
    features.iter_mut().for_each(|v| *v *= 0.05);
    gradient
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// The kernel and burn agree on outputs and gradients, with mixed inputs and dropped units too.
    #[test]
    fn kernel_equals_burn(seed in 0u64..1000, n in 1usize..40, mixed: bool, drops: bool) {
        let network = Architecture::default();
        let (images, weights) = (images(n, seed), weights(&network, seed));
        let rows: Vec<u32> = (0..n as u32).rev().collect();
        let partners: Vec<u32> = (0..n).map(|i| u32::from(noise(seed, i)) % n as u32).collect();
        let shares: Vec<f32> = (0..n).map(|i| f32::from(noise(seed, i + 9)) / 255.0).collect();
        let mix = mixed.then_some(Mix { partners: &partners, shares: &shares });
        let input = Input { images: &images, rows: &rows, mix };
        let keep: Vec<bool> = (0..n * 84).map(|i| noise(seed, i + 5) > 80).collect();
        let gradient = answer(n, 84, seed);
        let pass = |engine: &mut dyn Engine| {
            engine.keep_features();
            let outputs = engine.forward(input);
            let before = outputs.logits.to_vec();
            let outputs = if drops { engine.drop_units(&keep) } else { outputs };
            let all =
                [outputs.logits, outputs.embedding, outputs.pre, outputs.features].concat();
            engine.backward(&gradient);
            [before, all, engine.gradient().to_vec()].concat()
        };
        let found = pass(&mut *fused(&weights, 64));
        let mut burn = plain(network, &weights, &device());
        let same = (0..30).any(|draw| {
            burn.weights_mut().copy_from_slice(&nudged(&weights, draw));
            let expected = pass(&mut *burn);
            assert_eq!(found.len(), expected.len());
            found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4)
        });
        prop_assert!(same);
    }
}

/// `weights` themselves for the first draw, then moved by up to a millionth of their size. Where a
/// unit is zero to rounding, or two of a pool's four are equal to rounding, the engines may take
/// different sides of a kink, both right; burn then takes the kernel's side at some of these.
fn nudged(weights: &[f32], draw: u64) -> Vec<f32> {
    let size = if draw == 0 { 0.0 } else { 1e-6 };
    weights.iter().enumerate().map(|(i, w)| w * (1.0 + size * signed(draw, i))).collect()
}

/// The dot product of outputs and `gradient`, whose derivative the backward pass gives.
fn value(engine: &mut dyn Engine, images: &[u8], rows: &[u32], gradient: &OutputGradient) -> f64 {
    let outputs = engine.predict(images, rows);
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(outputs.logits, gradient.logits())
        + dot(outputs.embedding, gradient.embedding().unwrap())
        + dot(outputs.pre, gradient.pre().unwrap())
        + dot(outputs.features, gradient.features().unwrap())
}

/// Along the gradient itself the objective rises by its squared norm: one difference checks every
/// weight of the network at once.
#[test]
fn every_network_follows_its_gradient() {
    let activations = [Activation::Relu, Activation::LeakyRelu, Activation::Gelu, Activation::Tanh];
    for model in [Model::Lenet5, Model::Alexnet] {
        for activation in activations {
            for pooling in [Pooling::Max, Pooling::Average] {
                let network = Architecture { model, activation, pooling };
                let n = 3;
                let (images, rows) = (images(n, 5), [0, 1, 2]);
                let gradient = answer(n, network.embedding(), 3);
                let start = weights(&network, 11);
                let mut engine = plain(network, &start, &device());
                engine.keep_features();
                engine.forward(Input { images: &images, rows: &rows, mix: None });
                engine.backward(&gradient);
                let slope = engine.gradient().to_vec();
                let square: f64 = slope.iter().map(|g| f64::from(*g).powi(2)).sum();
                let step = 1e-3 / square.sqrt();
                let mut at = |sign: f64| {
                    let moved = start.iter().zip(&slope).map(|(w, g)| w + (sign * step) as f32 * g);
                    engine.weights_mut().copy_from_slice(&moved.collect::<Vec<_>>());
                    value(&mut *engine, &images, &rows, &gradient)
                };
                let found = (at(1.0) - at(-1.0)) / (2.0 * step);
                assert!((found / square - 1.0).abs() < 0.02, "{network:?}: {found} {square}");
            }
        }
    }
}

/// 100 steps from the same weights on the same batches of another engine: the weights, and the
/// mean cross-entropy of all images.
fn hundred_steps(engine: &mut dyn Engine, rule: Rule, lr: f64) -> (Vec<f32>, f64) {
    const IMAGES: u32 = 256;
    let images = images(IMAGES as usize, 77);
    let label = |row: u32| usize::from(images[row as usize * PIXELS]) % 10;
    let mut optimiser = Optimiser::new(rule, lr, engine.weights().len());
    let mut gradient = OutputGradient::default();
    for step in 0..100 {
        let rows: Vec<u32> = (0..32).map(|i| (step * 32 + i * 7) % IMAGES).collect();
        let outputs = engine.forward(Input { images: &images, rows: &rows, mix: None });
        gradient.reset(rows.len(), outputs.width);
        let answers = gradient.logits_mut().chunks_exact_mut(10);
        for (i, (answer, &row)) in answers.zip(&rows).enumerate() {
            let logits = outputs.logits(i);
            let sum: f32 = logits.iter().map(|l| l.exp()).sum();
            for (c, a) in answer.iter_mut().enumerate() {
                *a = (logits[c].exp() / sum - f32::from(c == label(row))) / rows.len() as f32;
            }
        }
        engine.backward(&gradient);
        engine.update(&mut optimiser);
    }
    let rows: Vec<u32> = (0..IMAGES).collect();
    let mut loss = 0.0;
    for rows in rows.chunks(32) {
        let outputs = engine.predict(&images, rows);
        for (i, &row) in rows.iter().enumerate() {
            let logits = outputs.logits(i);
            let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
            loss += (sum.ln() - f64::from(logits[label(row)])) / f64::from(IMAGES);
        }
    }
    (engine.weights().to_vec(), loss)
}

/// How far two runs of a hundred steps end from each other, as a share of how far they went, and
/// the difference of their losses.
fn parted(start: &[f32], engines: [Box<dyn Engine>; 2], rule: Rule, lr: f64) -> (f64, f64) {
    let [(a, loss), (b, other)] = engines.map(|mut e| hundred_steps(&mut *e, rule, lr));
    let distance = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    let share = distance(&a, &b) / distance(&a, start);
    eprintln!("{rule:?}: {share:.2e} of the way apart, loss {loss} and {other}");
    (share, (loss - other).abs())
}

const RULES: [(Rule, f64); 2] = [(Rule::Sgd { momentum: 0.9 }, 0.01), (Rule::Adam, 0.001)];

/// Plain burn, on libtorch too, goes where the kernel goes. Not to the last digit: where a unit is 0
/// to rounding the two take different sides of a kink, and go on from there.
#[test]
fn a_hundred_steps_end_at_the_same_place() {
    let network = Architecture::default();
    let start = weights(&network, 4);
    for (rule, lr) in RULES {
        let engines = [fused(&start, 32), plain(network, &start, &device())];
        let (share, loss) = parted(&start, engines, rule, lr);
        assert!(share < 0.4 && loss < 0.02, "{rule:?}: {share} of the way apart, loss {loss}");
    }
}

/// A network without kinks: libtorch goes where flex goes to rounding, a hundred steps long.
#[cfg(feature = "tch")]
#[test]
fn a_hundred_smooth_steps_on_libtorch_end_where_flex_ends() {
    let network = Architecture {
        activation: Activation::Tanh,
        pooling: Pooling::Average,
        ..Architecture::default()
    };
    let start = weights(&network, 4);
    for (rule, lr) in RULES {
        let engines = [Backend::flex().device(), &device()].map(|d| plain(network, &start, d));
        let (share, loss) = parted(&start, engines, rule, lr);
        assert!(share < 1e-3 && loss < 1e-4, "{rule:?}: {share} of the way apart, loss {loss}");
    }
}

#[cfg(feature = "tch")]
#[test]
fn a_gpu_that_is_not_there_is_said() {
    // Further than any machine's GPUs go.
    let error = Backend::open("tch", dissim_api::Device::Cuda(999)).unwrap_err();
    assert!(error.what.starts_with("no GPU for `device: cuda:999`: libtorch finds "), "{error}");
    assert!(dissim_model::backend::library("tch").unwrap().starts_with("libtorch 2."));
}

//! LeNet-5 for 3x32x32 in burn.

use burn::tensor::module::{conv2d, linear, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData, activation};
use dissim_kernel::{Embedding, Penalty, layout};

use crate::similarity::mean_similarity;
use crate::weights::PARAMETERS;

/// The ten parameters of LeNet-5: convolutions 6@5 and 16@5, each with ReLU and 2x2 max-pooling,
/// and fully connected layers of 120, 84 and 10.
#[derive(Debug, Clone)]
pub struct LeNet5 {
    conv: [(Tensor<4>, Tensor<1>); 2],
    fc: [(Tensor<2>, Tensor<1>); 3],
    device: Device,
}

/// What the network makes of a batch.
#[derive(Debug, Clone)]
pub struct Forward {
    /// The embedding before its activation, `[batch, 84]`.
    pub pre: Tensor<2>,
    /// The embedding, `[batch, 84]`.
    pub embedding: Tensor<2>,
    /// `[batch, 10]`.
    pub logits: Tensor<2>,
}

/// The objective of a batch, differentiable, with its parts.
#[derive(Debug, Clone)]
pub struct Loss {
    /// Cross-entropy plus lambda times the similarity.
    pub total: Tensor<1>,
    /// Mean cross-entropy.
    pub cross_entropy: Tensor<1>,
    /// Mean similarity of the pairs, before lambda.
    pub similarity: Tensor<1>,
}

impl LeNet5 {
    /// The network with these weights, in the order of [`layout`], on `device`; on an autodiff
    /// device the weights ask for gradients.
    ///
    /// # Panics
    /// When there are not exactly [`layout::WEIGHTS`] weights.
    #[must_use]
    pub fn new(weights: &[f32], device: &Device) -> Self {
        assert_eq!(weights.len(), layout::WEIGHTS);
        let conv = [0, 2].map(|at| (leaf(weights, at, device), leaf(weights, at + 1, device)));
        let fc = [4, 6, 8].map(|at| (leaf(weights, at, device), leaf(weights, at + 1, device)));
        Self { conv, fc, device: device.clone() }
    }

    /// Forward pass over standardised images `[batch, 3, 32, 32]`.
    #[must_use]
    pub fn forward(&self, images: Tensor<4>) -> Forward {
        let mut x = images;
        for (weight, bias) in &self.conv {
            let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
            x = activation::relu(conv2d(x, weight.clone(), Some(bias.clone()), options));
            x = max_pool2d(x, MaxPoolOptions::new([2, 2]).with_stride([2, 2]));
        }
        let affine = |x: Tensor<2>, (weight, bias): &(Tensor<2>, Tensor<1>)| {
            linear(x, weight.clone().transpose(), Some(bias.clone()))
        };
        let [fc1, fc2, fc3] = &self.fc;
        let hidden = activation::relu(affine(x.flatten(1, 3), fc1));
        let pre = affine(hidden, fc2);
        let embedding = activation::relu(pre.clone());
        let logits = affine(embedding.clone(), fc3);
        Forward { pre, embedding, logits }
    }

    /// The objective over images, classes and groups of a batch.
    #[must_use]
    pub fn loss(
        &self,
        forward: &Forward,
        labels: &[u8],
        groups: &[u32],
        penalty: Option<Penalty>,
    ) -> Loss {
        let classes: Vec<i64> = labels.iter().map(|&l| i64::from(l)).collect();
        let classes = TensorData::new(classes, [labels.len(), 1]);
        let classes = Tensor::<2, Int>::from_data(classes, &self.device);
        let log = activation::log_softmax(forward.logits.clone(), 1);
        let cross_entropy = log.gather(1, classes).mean().neg();
        let (lambda, epsilon, z) = match penalty {
            Some(Penalty { lambda, epsilon, embedding: Embedding::Pre }) => {
                (lambda, epsilon, &forward.pre)
            }
            Some(Penalty { lambda, epsilon, .. }) => (lambda, epsilon, &forward.embedding),
            None => (0.0, 1e-6, &forward.embedding),
        };
        let similarity = mean_similarity(z.clone(), groups, epsilon);
        // With a weight of 0 the gradient must be cross-entropy's own, to the last bit.
        let total = match lambda {
            0.0 => cross_entropy.clone(),
            _ => cross_entropy.clone() + similarity.clone().mul_scalar(lambda),
        };
        Loss { total, cross_entropy, similarity }
    }

    /// The gradients of all weights as one buffer, in the order of [`layout`].
    ///
    /// # Panics
    /// When the network is not on an autodiff device.
    #[must_use]
    pub fn flat_gradient(&self, gradients: &Gradients) -> Vec<f32> {
        let mut flat = Vec::with_capacity(layout::WEIGHTS);
        for (weight, bias) in &self.conv {
            append(&mut flat, weight, gradients);
            append(&mut flat, bias, gradients);
        }
        for (weight, bias) in &self.fc {
            append(&mut flat, weight, gradients);
            append(&mut flat, bias, gradients);
        }
        flat
    }

    /// Images `rows` of u8 `images` as `[rows, 3, 32, 32]`, standardised.
    #[must_use]
    pub fn load(&self, images: &[u8], rows: &[u32]) -> Tensor<4> {
        let pixels = dissim_kernel::PIXELS;
        let image = |&row: &u32| &images[row as usize * pixels..(row as usize + 1) * pixels];
        let plane = pixels / 3;
        let standardised =
            |(i, &byte): (usize, &u8)| dissim_kernel::standardise(i / plane % 3, byte);
        let values: Vec<f32> = rows.iter().flat_map(image).enumerate().map(standardised).collect();
        Tensor::from_data(TensorData::new(values, [rows.len(), 3, 32, 32]), &self.device)
    }
}

fn leaf<const D: usize>(weights: &[f32], parameter: usize, device: &Device) -> Tensor<D> {
    let (_, shape, range) = &PARAMETERS[parameter];
    let data = TensorData::new(weights[range.clone()].to_vec(), shape.to_vec());
    let tensor = Tensor::from_data(data, device);
    if device.is_autodiff() { tensor.require_grad() } else { tensor }
}

fn append<const D: usize>(flat: &mut Vec<f32>, leaf: &Tensor<D>, gradients: &Gradients) {
    let gradient = leaf.grad(gradients).expect("every weight takes part in the objective");
    flat.extend(gradient.into_data().iter::<f32>());
}

#[cfg(test)]
mod tests {
    use super::*;
    use dissim_kernel::{Batch, CLASSES, EMBEDDING, Network};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// The kernel and burn agree on loss, similarity, gradient, logits and embedding.
        #[test]
        fn kernel_equals_burn(
            seed in 0u64..1000,
            n in 1usize..40,
            lambda in prop_oneof![Just(None), (0.0f32..3.0).prop_map(Some)],
            pre: bool,
        ) {
            let noise = |i: usize| {
                let hash = blake3::hash(&[seed.to_le_bytes(), (i as u64).to_le_bytes()].concat());
                hash.as_bytes()[0]
            };
            let images: Vec<u8> = (0..n * dissim_kernel::PIXELS).map(noise).collect();
            let weights: Vec<f32> = (0..layout::WEIGHTS)
                .map(|i| (f32::from(noise(i + 7)) - 127.5) / 127.5 * 0.06)
                .collect();
            let rows: Vec<u32> = (0..n as u32).rev().collect();
            let labels: Vec<u8> = (0..n).map(|i| noise(i) % 10).collect();
            let groups: Vec<u32> = (0..n).map(|i| u32::from(noise(i + 99) % 5)).collect();
            let embedding = if pre { Embedding::Pre } else { Embedding::Post };
            let penalty = lambda.map(|lambda| Penalty { lambda, embedding, epsilon: 1e-6 });

            let mut network = Network::new(&weights, 64);
            let batch = Batch { images: &images, rows: &rows, labels: &labels, groups: &groups };
            let stats = network.gradient(batch, penalty);

            let burn = LeNet5::new(&weights, &Device::flex().autodiff());
            let forward = burn.forward(burn.load(&images, &rows));
            let loss = burn.loss(&forward, &labels, &groups, penalty);
            let entropy = f64::from(loss.cross_entropy.into_scalar::<f32>());
            prop_assert!((stats.cross_entropy - entropy).abs() < 1e-4);
            let similarity = f64::from(loss.similarity.into_scalar::<f32>());
            prop_assert!((stats.similarity - similarity).abs() < 1e-4);
            let gradient = burn.flat_gradient(&loss.total.backward());
            for (i, (fused, plain)) in network.grad().iter().zip(&gradient).enumerate() {
                prop_assert!((fused - plain).abs() < 1e-4, "weight {i}: {fused} {plain}");
            }
            let logits = forward.logits.into_data().try_to_vec::<f32>().unwrap();
            let z = forward.embedding.into_data().try_to_vec::<f32>().unwrap();
            let outputs = network.predict(&images, &rows);
            for i in 0..n {
                for c in 0..CLASSES {
                    prop_assert!((outputs.logits(i)[c] - logits[i * CLASSES + c]).abs() < 1e-4);
                }
                for f in 0..EMBEDDING {
                    prop_assert!((outputs.embedding(i)[f] - z[i * EMBEDDING + f]).abs() < 1e-4);
                }
            }
        }
    }
}

//! The networks in plain burn, operation by operation.

use burn::tensor::module::{avg_pool2d, conv2d, linear, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Bool, Device, Gradients, Tensor, TensorData, activation};
use dissim_kernel::{Input, Mix, OutputGradient};

use crate::architecture::{Activation, Architecture, Pooling};

/// Weight and bias of each layer, as tensors.
#[derive(Debug, Clone)]
pub(crate) struct Plain {
    architecture: Architecture,
    convolutions: Vec<(Tensor<4>, Tensor<1>)>,
    linears: Vec<(Tensor<2>, Tensor<1>)>,
    device: Device,
}

/// What the network makes of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    /// What the second pooling leaves, `[batch, f]`.
    pub features: Tensor<2>,
    /// The embedding before its activation, `[batch, d]`.
    pub pre: Tensor<2>,
    /// The embedding, `[batch, d]`.
    pub embedding: Tensor<2>,
    /// `[batch, 10]`.
    pub logits: Tensor<2>,
}

impl Plain {
    /// The network with these weights, in the order of [`Architecture::parameters`], on `device`; on
    /// an autodiff device the weights ask for gradients.
    ///
    /// # Panics
    /// When there are not as many weights as the architecture has.
    pub fn new(architecture: Architecture, weights: &[f32], device: &Device) -> Self {
        assert_eq!(weights.len(), architecture.weights());
        let mut parameters = architecture.parameters().into_iter();
        let mut next = || {
            let p = parameters.next().expect("as many parameters as the layers have");
            TensorData::new(weights[p.range].to_vec(), p.shape)
        };
        let convolutions = architecture.convolutions().iter();
        let convolutions =
            convolutions.map(|_| (leaf(next(), device), leaf(next(), device))).collect();
        let linears = architecture.linears().iter();
        let linears = linears.map(|_| (leaf(next(), device), leaf(next(), device))).collect();
        Self { architecture, convolutions, linears, device: device.clone() }
    }

    /// Forward pass over standardised images `[batch, 3, 32, 32]`.
    ///
    /// The embedding is whatever the last layer reads. Where that comes from a convolution, its
    /// activation follows the pooling, so that there is an embedding before it.
    pub fn forward(&self, images: Tensor<4>) -> Pass {
        let mut x = images;
        let (mut pooled, mut features) = (0, None);
        let last = self.convolutions.len() - 1;
        let from_convolution = self.linears.len() == 1;
        let layers = self.convolutions.iter().zip(self.architecture.convolutions());
        for (i, ((weight, bias), layer)) in layers.enumerate() {
            let (stride, padding) = ([layer.stride; 2], [layer.padding; 2]);
            let options = ConvOptions::new(stride, padding, [1, 1], 1);
            x = conv2d(x, weight.clone(), Some(bias.clone()), options);
            if !(i == last && from_convolution) {
                x = self.activate(x);
            }
            if layer.pooled {
                x = self.pool(x);
                pooled += 1;
                if pooled == 2 {
                    features = Some(x.clone().flatten(1, 3));
                }
            }
        }
        let mut pre = x.flatten(1, 3);
        let hidden = self.linears.len() - 1;
        for (i, (weight, bias)) in self.linears[..hidden].iter().enumerate() {
            let input = if i == 0 { pre } else { self.activate(pre) };
            pre = linear(input, weight.clone().transpose(), Some(bias.clone()));
        }
        let embedding = self.activate(pre.clone());
        let logits = self.head(embedding.clone());
        let features = features.expect("a network pools twice or more");
        Pass { features, pre, embedding, logits }
    }

    /// The last layer over an embedding.
    fn head(&self, embedding: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = self.linears.last().expect("a network has a last layer");
        linear(embedding, weight.clone().transpose(), Some(bias.clone()))
    }

    /// A pass whose embedding is 0 where `keep` `[batch, d]` is false.
    pub fn drop_units(&self, pass: Pass, keep: &[bool]) -> Pass {
        let shape = pass.embedding.dims();
        let dropped: Vec<bool> = keep.iter().map(|k| !k).collect();
        let dropped = Tensor::<2, Bool>::from_data(TensorData::new(dropped, shape), &self.device);
        let embedding = pass.embedding.mask_fill(dropped, 0.0);
        let logits = self.head(embedding.clone());
        Pass { features: pass.features, pre: pass.pre, embedding, logits }
    }

    /// The gradient of all weights, as one buffer in the order of [`Architecture::parameters`], from
    /// that of the outputs: the chain rule, by the gradient of their dot product.
    pub fn backward(&self, pass: Pass, gradient: &OutputGradient) -> Vec<f32> {
        let dot = |output: Tensor<2>, gradient: &[f32]| {
            let shape = output.dims();
            let data = TensorData::new(gradient.to_vec(), shape);
            (output * Tensor::from_data(data, &self.device)).sum()
        };
        let mut total = dot(pass.logits, gradient.logits());
        if let Some(gradient) = gradient.embedding() {
            total = total + dot(pass.embedding, gradient);
        }
        if let Some(gradient) = gradient.pre() {
            total = total + dot(pass.pre, gradient);
        }
        if let Some(gradient) = gradient.features() {
            total = total + dot(pass.features, gradient);
        }
        self.flat_gradient(&total.backward())
    }

    fn flat_gradient(&self, gradients: &Gradients) -> Vec<f32> {
        let mut flat = Vec::with_capacity(self.architecture.weights());
        for (weight, bias) in &self.convolutions {
            append(&mut flat, weight, gradients);
            append(&mut flat, bias, gradients);
        }
        for (weight, bias) in &self.linears {
            append(&mut flat, weight, gradients);
            append(&mut flat, bias, gradients);
        }
        flat
    }

    /// The batch as `[batch, 3, 32, 32]`, standardised and mixed.
    pub fn load(&self, input: Input<'_>) -> Tensor<4> {
        let Input { images, rows, mix } = input;
        let pixels = dissim_kernel::PIXELS;
        let standardised = |row: u32| {
            let image = &images[row as usize * pixels..(row as usize + 1) * pixels];
            let planes = (0..3).flat_map(move |c| std::iter::repeat_n(c, pixels / 3));
            image.iter().zip(planes).map(|(&byte, c)| dissim_kernel::standardise(c, byte))
        };
        let mut values: Vec<f32> = rows.iter().flat_map(|&row| standardised(row)).collect();
        if let Some(Mix { partners, shares }) = mix {
            let samples = values.chunks_exact_mut(pixels).zip(partners).zip(shares);
            for ((sample, &partner), &share) in samples {
                let pairs = sample.iter_mut().zip(standardised(partner));
                pairs.for_each(|(x, partner)| *x += share * (partner - *x));
            }
        }
        Tensor::from_data(TensorData::new(values, [rows.len(), 3, 32, 32]), &self.device)
    }

    fn activate<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self.architecture.activation {
            Activation::Relu => activation::relu(x),
            Activation::LeakyRelu => activation::leaky_relu(x, 0.01),
            Activation::Gelu => activation::gelu(x),
            Activation::Tanh => activation::tanh(x),
        }
    }

    fn pool(&self, x: Tensor<4>) -> Tensor<4> {
        match self.architecture.pooling {
            Pooling::Max => max_pool2d(x, MaxPoolOptions::new([2, 2]).with_stride([2, 2])),
            Pooling::Average => avg_pool2d(x, AvgPoolOptions::new([2, 2])),
        }
    }
}

fn leaf<const D: usize>(data: TensorData, device: &Device) -> Tensor<D> {
    let tensor = Tensor::from_data(data, device);
    if device.is_autodiff() { tensor.require_grad() } else { tensor }
}

fn append<const D: usize>(flat: &mut Vec<f32>, leaf: &Tensor<D>, gradients: &Gradients) {
    let gradient = leaf.grad(gradients).expect("every weight takes part in the objective");
    flat.extend(gradient.into_data().iter::<f32>());
}

//! What computes a network: the SIMD kernel, or plain burn. Neither knows a loss: an objective reads
//! the outputs of a batch and answers with their gradient.

use burn::tensor::{Device, Tensor};
use dissim_kernel::{Input, Network, Optimiser, OutputGradient, Outputs};

use crate::architecture::Architecture;
use crate::backend::Backend;
use crate::plain::{Pass, Plain};

/// One way to compute a network. The calls of a step, in their order: [`forward`](Self::forward),
/// perhaps [`drop_units`](Self::drop_units), [`backward`](Self::backward), [`update`](Self::update).
pub trait Engine {
    /// Forward pass over a batch, to be followed by a backward pass.
    fn forward(&mut self, input: Input<'_>) -> Outputs<'_>;

    /// Makes units of the last batch's embedding 0, without gradient, where `keep` `[batch, d]` is
    /// false, and computes the logits again.
    fn drop_units(&mut self, keep: &[bool]) -> Outputs<'_>;

    /// From the gradient of the last batch's outputs to that of the weights, which it keeps.
    fn backward(&mut self, gradient: &OutputGradient);

    /// One step of the optimiser along the last gradient.
    fn update(&mut self, optimiser: &mut Optimiser);

    /// Forward pass over images `rows`, without a backward pass.
    fn predict(&mut self, images: &[u8], rows: &[u32]) -> Outputs<'_>;

    /// From now on the outputs of passes have [`features`](Outputs::features).
    fn keep_features(&mut self);

    /// The gradient that the last backward pass left.
    fn gradient(&self) -> &[f32];

    /// The weights, in the order of [`Architecture::parameters`].
    fn weights(&self) -> &[f32];

    /// The same, to be replaced from outside.
    fn weights_mut(&mut self) -> &mut [f32];
}

/// On `flex` the kernel where it covers the architecture; plain burn everywhere else. For batches
/// of at most `batch_size`.
#[must_use]
pub fn best(
    architecture: Architecture,
    weights: &[f32],
    batch_size: usize,
    backend: &Backend,
) -> Box<dyn Engine> {
    match architecture.not_fused() {
        None if backend.fused() => fused(weights, batch_size),
        _ => plain(architecture, weights, backend.device()),
    }
}

/// The SIMD kernel, which computes LeNet-5 with ReLU and max-pooling.
#[must_use]
pub fn fused(weights: &[f32], batch_size: usize) -> Box<dyn Engine> {
    Box::new(Network::new(weights, batch_size))
}

/// Plain burn on a device.
#[must_use]
pub fn plain(architecture: Architecture, weights: &[f32], device: &Device) -> Box<dyn Engine> {
    let weights = weights.to_vec();
    let (device, gradient) = (device.clone(), Vec::new());
    let (pass, rows, features) = (None, Rows::default(), false);
    Box::new(Burn { architecture, weights, device, gradient, pass, rows, features })
}

impl Engine for Network {
    fn forward(&mut self, input: Input<'_>) -> Outputs<'_> {
        self.forward(input)
    }

    fn drop_units(&mut self, keep: &[bool]) -> Outputs<'_> {
        self.drop_units(keep)
    }

    fn backward(&mut self, gradient: &OutputGradient) {
        self.backward(gradient);
    }

    fn update(&mut self, optimiser: &mut Optimiser) {
        self.update(optimiser);
    }

    fn predict(&mut self, images: &[u8], rows: &[u32]) -> Outputs<'_> {
        self.forward(Input { images, rows, mix: None })
    }

    fn keep_features(&mut self) {
        self.keep_features();
    }

    fn gradient(&self) -> &[f32] {
        self.grad()
    }

    fn weights(&self) -> &[f32] {
        self.weights()
    }

    fn weights_mut(&mut self) -> &mut [f32] {
        self.weights_mut()
    }
}

/// Plain burn: weights and gradient as flat buffers, and the last pass with its graph.
struct Burn {
    architecture: Architecture,
    weights: Vec<f32>,
    device: Device,
    gradient: Vec<f32>,
    pass: Option<(Plain, Pass)>,
    rows: Rows,
    /// Whether the outputs have features.
    features: bool,
}

/// Outputs as plain numbers.
#[derive(Default)]
struct Rows {
    logits: Vec<f32>,
    embedding: Vec<f32>,
    pre: Vec<f32>,
    features: Vec<f32>,
}

impl Rows {
    fn of(pass: &Pass, with_features: bool) -> Self {
        let floats = |t: &Tensor<2>| t.clone().into_data().iter::<f32>().collect();
        let Pass { features, pre, embedding, logits } = pass;
        let features = if with_features { floats(features) } else { Vec::new() };
        Self { logits: floats(logits), embedding: floats(embedding), pre: floats(pre), features }
    }
}

impl Burn {
    fn outputs(&self) -> Outputs<'_> {
        let Rows { logits, embedding, pre, features } = &self.rows;
        Outputs { logits, embedding, pre, width: self.architecture.embedding(), features }
    }
}

impl Engine for Burn {
    fn forward(&mut self, input: Input<'_>) -> Outputs<'_> {
        let device = self.device.clone().autodiff();
        let network = Plain::new(self.architecture, &self.weights, &device);
        let pass = network.forward(network.load(input));
        self.rows = Rows::of(&pass, self.features);
        self.pass = Some((network, pass));
        self.outputs()
    }

    fn drop_units(&mut self, keep: &[bool]) -> Outputs<'_> {
        let (network, pass) = self.pass.take().expect("units are dropped after a forward pass");
        let pass = network.drop_units(pass, keep);
        self.rows = Rows::of(&pass, self.features);
        self.pass = Some((network, pass));
        self.outputs()
    }

    fn backward(&mut self, gradient: &OutputGradient) {
        let (network, pass) = self.pass.take().expect("a backward pass follows a forward pass");
        self.gradient = network.backward(pass, gradient);
    }

    fn update(&mut self, optimiser: &mut Optimiser) {
        optimiser.apply(&mut self.weights, &self.gradient);
    }

    fn predict(&mut self, images: &[u8], rows: &[u32]) -> Outputs<'_> {
        let network = Plain::new(self.architecture, &self.weights, &self.device);
        let pass = network.forward(network.load(Input { images, rows, mix: None }));
        self.rows = Rows::of(&pass, self.features);
        self.outputs()
    }

    fn keep_features(&mut self) {
        self.features = true;
    }

    fn gradient(&self) -> &[f32] {
        &self.gradient
    }

    fn weights(&self) -> &[f32] {
        &self.weights
    }

    fn weights_mut(&mut self) -> &mut [f32] {
        &mut self.weights
    }
}

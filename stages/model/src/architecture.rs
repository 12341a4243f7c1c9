//! The networks by their layers: what a parameter is called, how large it is, where it lies.

use std::ops::Range;

use dissim_api::{Params, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// LeNet-5 for 3x32x32: convolutions 6@5 and 16@5, each with 2x2 pooling, then 120, 84 and 10
    /// units; 62,006 weights.
    #[default]
    Lenet5,
    /// AlexNet for 32x32 images as Wei Yang's pytorch-classification has it: convolutions 64@11
    /// (stride 4, padding 5), 192@5, 384@3, 256@3, 256@3, pooled 2x2 after the first, second and
    /// fifth, then 10 units; 2,472,266 weights, an embedding of 256.
    Alexnet,
}

/// What follows every layer but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(0, x)`.
    #[default]
    Relu,
    /// `x` above 0, `0.01 x` below.
    LeakyRelu,
    /// `x * Phi(x)`, exactly, by the error function (Hendrycks & Gimpel 2016).
    Gelu,
    /// The hyperbolic tangent.
    Tanh,
}

/// How four values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The largest.
    #[default]
    Max,
    /// The mean.
    Average,
}

/// A network, its activation and its pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Architecture {
    /// The layers.
    pub model: Model,
    /// What follows them.
    pub activation: Activation,
    /// What follows some convolutions.
    pub pooling: Pooling,
}

/// A convolution with a square kernel, and whether 2x2 pooling follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Convolution {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub pooled: bool,
}

/// A weight or bias of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// PyTorch's name, such as `conv1.weight`.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// Its place in the flat buffer.
    pub range: Range<usize>,
    /// Values that an output of its layer is a sum of.
    pub fan_in: usize,
}

const fn conv(
    [inputs, outputs, kernel]: [usize; 3],
    [stride, padding]: [usize; 2],
    pooled: bool,
) -> Convolution {
    Convolution { inputs, outputs, kernel, stride, padding, pooled }
}

const LENET5: [Convolution; 2] = [conv([3, 6, 5], [1, 0], true), conv([6, 16, 5], [1, 0], true)];

const ALEXNET: [Convolution; 5] = [
    conv([3, 64, 11], [4, 5], true),
    conv([64, 192, 5], [1, 2], true),
    conv([192, 384, 3], [1, 1], false),
    conv([384, 256, 3], [1, 1], false),
    conv([256, 256, 3], [1, 1], true),
];

impl Architecture {
    /// What the parameters of a training run say: `model`, `activation`, `pooling`.
    ///
    /// # Errors
    /// When one is of a later version.
    pub fn of(params: &Params) -> Result<Self, StageError> {
        fn field<T: Default + for<'a> Deserialize<'a>>(
            params: &Params,
            name: &str,
        ) -> Result<T, StageError> {
            let Some(value) = params.get(name) else { return Ok(T::default()) };
            T::deserialize(value)
                .map_err(|e| StageError::new(format!("the run's `{name}` cannot be read: {e}")))
        }
        Ok(Self {
            model: field(params, "model")?,
            activation: field(params, "activation")?,
            pooling: field(params, "pooling")?,
        })
    }

    /// The convolutions.
    pub(crate) fn convolutions(&self) -> &'static [Convolution] {
        match self.model {
            Model::Lenet5 => &LENET5,
            Model::Alexnet => &ALEXNET,
        }
    }

    /// Inputs and outputs of the fully connected layers.
    pub(crate) fn linears(&self) -> &'static [[usize; 2]] {
        match self.model {
            Model::Lenet5 => &[[400, 120], [120, 84], [84, 10]],
            Model::Alexnet => &[[256, 10]],
        }
    }

    /// The parameters in the order of the flat buffer: that of the layers, weight before bias.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        let convolutions = (1..)
            .zip(self.convolutions())
            .map(|(i, c)| (format!("conv{i}"), vec![c.outputs, c.inputs, c.kernel, c.kernel]));
        let linears = (1..)
            .zip(self.linears())
            .map(|(i, &[inputs, outputs])| (format!("fc{i}"), vec![outputs, inputs]));
        let mut parameters = Vec::new();
        let mut end = 0;
        for (layer, shape) in convolutions.chain(linears) {
            let fan_in = shape[1..].iter().product();
            for (kind, shape) in [("weight", shape.clone()), ("bias", vec![shape[0]])] {
                let range = end..end + shape.iter().product::<usize>();
                end = range.end;
                let name = format!("{layer}.{kind}");
                parameters.push(Parameter { name, shape, range, fan_in });
            }
        }
        parameters
    }

    /// Number of weights.
    #[must_use]
    pub fn weights(&self) -> usize {
        self.parameters().last().map_or(0, |p| p.range.end)
    }

    /// Length of the embedding: the inputs of the last layer.
    #[must_use]
    pub fn embedding(&self) -> usize {
        self.linears().last().map_or(0, |[inputs, _]| *inputs)
    }

    /// The last layer's weight, `[10, embedding]`, and bias, `[10]`, in the flat buffer.
    #[must_use]
    pub fn head(&self) -> [Range<usize>; 2] {
        let end = self.weights();
        let bias = end - dissim_kernel::CLASSES..end;
        [bias.start - dissim_kernel::CLASSES * self.embedding()..bias.start, bias]
    }

    /// What of it the SIMD kernel does not compute, or nothing.
    #[must_use]
    pub fn not_fused(&self) -> Option<&'static str> {
        match self {
            Self { model: Model::Alexnet, .. } => Some("`model: alexnet`"),
            Self { activation: Activation::LeakyRelu, .. } => Some("`activation: leaky_relu`"),
            Self { activation: Activation::Gelu, .. } => Some("`activation: gelu`"),
            Self { activation: Activation::Tanh, .. } => Some("`activation: tanh`"),
            Self { pooling: Pooling::Average, .. } => Some("`pooling: average`"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dissim_kernel::layout;

    #[test]
    fn the_parameters_cover_the_buffer() {
        for (model, weights, embedding) in
            [(Model::Lenet5, layout::WEIGHTS, 84), (Model::Alexnet, 2_472_266, 256)]
        {
            let network = Architecture { model, ..Architecture::default() };
            let mut end = 0;
            for p in network.parameters() {
                assert_eq!(p.range.start, end, "{}", p.name);
                assert_eq!(p.range.len(), p.shape.iter().product::<usize>(), "{}", p.name);
                end = p.range.end;
            }
            assert_eq!((end, network.embedding()), (weights, embedding));
        }
    }

    #[test]
    fn lenet5_lies_as_the_kernel_expects() {
        let network = Architecture::default();
        let places: Vec<_> = network
            .parameters()
            .into_iter()
            .map(|p| (p.name, p.shape, p.range, p.fan_in))
            .collect();
        let expected = [
            ("conv1.weight", vec![6, 3, 5, 5], layout::CONV1_WEIGHT, 75),
            ("conv1.bias", vec![6], layout::CONV1_BIAS, 75),
            ("conv2.weight", vec![16, 6, 5, 5], layout::CONV2_WEIGHT, 150),
            ("conv2.bias", vec![16], layout::CONV2_BIAS, 150),
            ("fc1.weight", vec![120, 400], layout::FC1_WEIGHT, 400),
            ("fc1.bias", vec![120], layout::FC1_BIAS, 400),
            ("fc2.weight", vec![84, 120], layout::FC2_WEIGHT, 120),
            ("fc2.bias", vec![84], layout::FC2_BIAS, 120),
            ("fc3.weight", vec![10, 84], layout::FC3_WEIGHT, 84),
            ("fc3.bias", vec![10], layout::FC3_BIAS, 84),
        ];
        assert_eq!(places, expected.map(|(n, s, r, f)| (n.to_owned(), s, r, f)));
        assert_eq!(network.head(), [layout::FC3_WEIGHT, layout::FC3_BIAS]);
    }

    #[test]
    fn a_run_of_a_later_version_is_named() {
        let params = serde_json::json!({"model": "vit"});
        let error = Architecture::of(params.as_object().unwrap()).unwrap_err();
        assert!(error.what.starts_with("the run's `model` cannot be read: unknown variant `vit`"));
    }
}

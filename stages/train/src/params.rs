//! The parameters of a training run: what each means, its default and why.

use dissim_api::{ParamError, Params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `with:` of a `train` stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainParams {
    /// The network.
    #[serde(default)]
    pub model: Model,
    /// What is minimised.
    #[serde(default)]
    pub method: Method,
    /// Weight of the dissimilarity penalty; 1.25 by default, the study's middle ground. Without
    /// effect, and so left out, where `method` is not `dissimilarity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda: Option<f64>,
    /// The embedding that the penalty reads; `dissimilarity` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embed: Option<Embed>,
    /// Passes over the training set.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 10_000))]
    pub epochs: u32,
    /// Images a step; the last step of an epoch takes what is left.
    #[serde(default = "sixty_four")]
    #[schemars(range(min = 1, max = 4096))]
    pub batch_size: u32,
    /// Learning rate of Adam.
    #[serde(default = "thousandth")]
    pub lr: f64,
    /// The optimiser.
    #[serde(default)]
    pub optimiser: Optimiser,
    /// Seed of the weights and of the order of batches: the same for every method.
    #[serde(default)]
    pub seed: u64,
    /// What computes a step.
    #[serde(default)]
    pub engine: EngineKind,
}

/// The network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// LeNet-5 for 3x32x32, 62,006 weights, ReLU and max-pooling.
    #[default]
    Lenet5,
}

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Empirical risk: mean cross-entropy.
    #[default]
    Erm,
    /// Cross-entropy plus lambda times the mean cosine similarity of the embeddings of pairs with
    /// the same label and the same background.
    Dissimilarity,
}

/// The embedding that the penalty reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Embed {
    /// The 84 units after their activation, as in the study.
    #[default]
    Post,
    /// The same units before it.
    Pre,
}

/// The optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Optimiser {
    /// Adam with PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8.
    #[default]
    Adam,
}

/// What computes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// The SIMD kernel of `dissim-kernel`.
    #[default]
    Fused,
    /// Plain burn, operation by operation: some six times slower, and the kernel's oracle.
    Plain,
}

fn ten() -> u32 {
    10
}

fn sixty_four() -> u32 {
    64
}

fn thousandth() -> f64 {
    0.001
}

/// The study's weight of the penalty.
const LAMBDA: f64 = 1.25;

/// Completes and checks what the user wrote; what has no effect is left out.
pub(crate) fn resolve(given: &Params) -> Result<Params, Vec<ParamError>> {
    let (mut params, _) = dissim_api::resolve::<TrainParams>(given)?;
    let errors = range_errors(&params);
    if !errors.is_empty() {
        return Err(errors);
    }
    let penalised = params.method == Method::Dissimilarity;
    // Adding 0 makes 0 of -0: the two train alike, and so must be one task.
    params.lambda = penalised.then_some(params.lambda.unwrap_or(LAMBDA) + 0.0);
    params.embed = penalised.then_some(params.embed.unwrap_or_default());
    match serde_json::to_value(&params) {
        Ok(serde_json::Value::Object(map)) => Ok(map),
        other => unreachable!("a parameter struct serialises as an object, not {other:?}"),
    }
}

fn range_errors(params: &TrainParams) -> Vec<ParamError> {
    let mut errors = Vec::new();
    let mut require = |holds: bool, name: &str, message: String| {
        if !holds {
            errors.push(ParamError::new(name, message));
        }
    };
    let TrainParams { lambda, epochs, batch_size, lr, .. } = params;
    require(
        lambda.is_none_or(|l| l.is_finite() && l >= 0.0),
        "lambda",
        format!("`lambda` must be 0 or more, and is {}", lambda.unwrap_or_default()),
    );
    require(
        (1..=10_000).contains(epochs),
        "epochs",
        format!("`epochs` must be 1 to 10000, and is {epochs}"),
    );
    require(
        (1..=4096).contains(batch_size),
        "batch_size",
        format!("`batch_size` must be 1 to 4096, and is {batch_size}"),
    );
    require(lr.is_finite() && *lr > 0.0, "lr", format!("`lr` must be above 0, and is {lr}"));
    errors
}

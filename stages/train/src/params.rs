//! The parameters of a training run: what each means, its default and why.

mod choices;
mod lambda;
mod ranges;

use dissim_api::{ParamError, Params};
use dissim_kernel::Rule;
use dissim_model::{Activation, Architecture, Model, Pooling};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use choices::{
    Embed, EngineKind, LambdaSchedule, LrSchedule, Method, Optimiser, Pairs, Sampler, TauLoss,
    TauSpace,
};
pub use lambda::Lambda;

/// `with:` of a `train` stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainParams {
    /// The network.
    #[serde(default)]
    pub model: Model,
    /// What follows every layer but the last.
    #[serde(default)]
    pub activation: Activation,
    /// How the convolutions are pooled.
    #[serde(default)]
    pub pooling: Pooling,
    /// What is minimised.
    #[serde(default)]
    pub method: Method,
    /// Weight of the method's penalty; each method has a default of its own, 1.25 for
    /// `dissimilarity`. `{ target: s }` in place of a number lets it follow whatever holds the mean
    /// similarity at s (`dissimilarity`, `class_repulsion`). Without effect, and so left out, where
    /// a method has no penalty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda: Option<Lambda>,
    /// How that weight changes while training goes on; constant by default. A weight with a target
    /// has no schedule, and `vrex` and `irm` have one of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda_schedule: Option<LambdaSchedule>,
    /// The share of the run in which it changes: 0.2 by default for `warm_up`, 1 for `decay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda_span: Option<f64>,
    /// The embedding that the penalty reads; `dissimilarity` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embed: Option<Embed>,
    /// The pairs that the penalty counts; `dissimilarity` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<Pairs>,
    /// Pairs of a label count where their cosine similarity is above 1 - tau; 0.001 by default, the
    /// study's best. `label_above_threshold` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tau: Option<f64>,
    /// What that similarity is of; `label_above_threshold` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tau_space: Option<TauSpace>,
    /// How the threshold enters the loss; `label_above_threshold` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tau_loss: Option<TauLoss>,
    /// Similarity that costs nothing, between -1 and 1: a pair costs max(0, S_ij - offset). None by
    /// default; `dissimilarity` only, without effect under a hinge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<f64>,
    /// Environments that `vrex`, `irm` and `conditional_coral` see: each label's backgrounds in so
    /// many parts, 2 by default. Left out elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub environments: Option<u32>,
    /// Passes over the training set.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 10_000))]
    pub epochs: u32,
    /// Images a step; the last step of an epoch takes what is left.
    #[serde(default = "sixty_four")]
    #[schemars(range(min = 1, max = 4096))]
    pub batch_size: u32,
    /// How an epoch is cut into batches; `shuffle` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Sampler>,
    /// Images of a group in a batch, 2 to 4096, 4 by default; it must divide `batch_size`.
    /// `sampler: groups` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 4096))]
    pub samples_per_group: Option<u32>,
    /// Learning rate: 0.001 by default, 0.01 for sgd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// How the learning rate changes while training goes on.
    #[serde(default)]
    pub lr_schedule: LrSchedule,
    /// The optimiser.
    #[serde(default)]
    pub optimiser: Optimiser,
    /// Decoupled weight decay of adamw, 0.01 by default as in PyTorch; left out elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Momentum of sgd, 0.9 by default; left out elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Seed of the weights and of the order of batches: the same for every method.
    #[serde(default)]
    pub seed: u64,
    /// What computes a step on `backend: flex`. With `backend: tch` it is always burn on libtorch.
    #[serde(default)]
    pub engine: EngineKind,
}

impl TrainParams {
    /// The network they ask for.
    #[must_use]
    pub fn architecture(&self) -> Architecture {
        let Self { model, activation, pooling, .. } = *self;
        Architecture { model, activation, pooling }
    }

    /// The optimiser's rule.
    #[must_use]
    pub fn rule(&self) -> Rule {
        match self.optimiser {
            Optimiser::Adam => Rule::Adam,
            Optimiser::Adamw => Rule::AdamW { decay: self.weight_decay.unwrap_or(DECAY) as f32 },
            Optimiser::Sgd => Rule::Sgd { momentum: self.momentum.unwrap_or(MOMENTUM) as f32 },
        }
    }

    /// The weight of the penalty where it is a number; 0 where there is none.
    #[must_use]
    pub fn fixed_lambda(&self) -> f64 {
        match self.lambda {
            Some(Lambda::Fixed(weight)) => weight,
            Some(Lambda::Target(_)) | None => 0.0,
        }
    }

    /// The learning rate before its schedule.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.lr.unwrap_or(if self.optimiser == Optimiser::Sgd { 0.01 } else { 0.001 })
    }
}

fn ten() -> u32 {
    10
}

fn sixty_four() -> u32 {
    64
}

/// The study's weight of the penalty.
pub(crate) const LAMBDA: f64 = 1.25;
/// As many environments as the sets of IRM and V-REx have in training.
const ENVIRONMENTS: u32 = 2;
/// PyTorch's default of adamw.
const DECAY: f64 = 0.01;
/// The usual momentum.
const MOMENTUM: f64 = 0.9;
/// The study's best threshold.
const TAU: f64 = 0.001;
/// Images of a group in a batch, as in Hermans et al. 2017, section 4.4.
const SAMPLES_PER_GROUP: u32 = 4;

/// Completes and checks what the user wrote; what has no effect is left out.
pub(crate) fn resolve(given: &Params) -> Result<Params, Vec<ParamError>> {
    let (mut params, _) = dissim_api::resolve::<TrainParams>(given)?;
    let errors = ranges::errors(&params);
    if !errors.is_empty() {
        return Err(errors);
    }
    complete_penalty(&mut params);
    complete_optimiser(&mut params);
    // What is the default is left out, so that naming it makes no other task.
    params.sampler = params.sampler.filter(|s| *s != Sampler::default());
    params.samples_per_group =
        params.sampler.map(|_| params.samples_per_group.unwrap_or(SAMPLES_PER_GROUP));
    if params.engine == EngineKind::Auto {
        let fused = params.architecture().not_fused().is_none();
        params.engine = if fused { EngineKind::Fused } else { EngineKind::Plain };
    }
    match serde_json::to_value(&params) {
        Ok(serde_json::Value::Object(map)) => Ok(map),
        other => unreachable!("a parameter struct serialises as an object, not {other:?}"),
    }
}

/// Everything about the method's penalty and its weight.
fn complete_penalty(params: &mut TrainParams) {
    let method = params.method;
    let default = method.weight().map(Lambda::Fixed);
    params.lambda = default.map(|default| params.lambda.unwrap_or(default).canonical());
    let scheduled = method.scheduled() && matches!(params.lambda, Some(Lambda::Fixed(_)));
    let changes = |s: &LambdaSchedule| scheduled && *s != LambdaSchedule::default();
    params.lambda_schedule = params.lambda_schedule.filter(changes);
    let span = params.lambda_schedule.and_then(LambdaSchedule::span);
    params.lambda_span = span.map(|span| params.lambda_span.unwrap_or(span));
    params.environments =
        method.environments().then(|| params.environments.unwrap_or(ENVIRONMENTS));
    let ours = method == Method::Dissimilarity;
    params.embed = ours.then_some(params.embed.unwrap_or_default());
    params.pairs = params.pairs.filter(|&p| ours && p != Pairs::default());
    let threshold = params.pairs == Some(Pairs::LabelAboveThreshold);
    params.tau = threshold.then(|| params.tau.unwrap_or(TAU) + 0.0);
    params.tau_space = params.tau_space.filter(|&s| threshold && s != TauSpace::default());
    params.tau_loss = threshold.then(|| params.tau_loss.unwrap_or_default());
    let hinge = params.tau_loss == Some(TauLoss::Hinge);
    params.offset = params.offset.filter(|_| ours && !hinge).map(|offset| offset + 0.0);
}

fn complete_optimiser(params: &mut TrainParams) {
    params.lr = Some(params.rate());
    params.weight_decay =
        (params.optimiser == Optimiser::Adamw).then(|| params.weight_decay.unwrap_or(DECAY));
    params.momentum =
        (params.optimiser == Optimiser::Sgd).then(|| params.momentum.unwrap_or(MOMENTUM));
}

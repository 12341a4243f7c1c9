//! The parameters of a training run: what each means, its default and why.

use dissim_api::{ParamError, Params};
use dissim_kernel::Rule;
use dissim_model::{Activation, Architecture, Model, Pooling};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// `dissimilarity`. Without effect, and so left out, where a method has no penalty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda: Option<f64>,
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
    /// What computes a step.
    #[serde(default)]
    pub engine: EngineKind,
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
    /// Cross-entropy plus lambda (0.1) times the mean squared logit.
    SpectralDecoupling,
    /// Cross-entropy after the units that speak most for the true label are dropped.
    Rsc,
    /// Cross-entropy plus lambda (0.04) times VICReg's covariance term.
    VicregDecorrelation,
    /// Cross-entropy plus lambda (1.25) times the mean similarity of pairs with the same label.
    ClassRepulsion,
    /// Cross-entropy of images and labels mixed in pairs.
    Mixup,
    /// Cross-entropy of images mixed with others of the same label on another background.
    Lisa,
    /// Cross-entropy that counts the worst groups most.
    GroupDro,
    /// Risks of environments plus lambda (10) times their variance.
    Vrex,
    /// Risks of environments plus lambda (100) times the squared slope of each.
    Irm,
    /// Cross-entropy plus lambda (1) times the distance of a label's moments between environments.
    ConditionalCoral,
    /// Cross-entropy minus lambda (1.25) times the mean similarity of pairs with the same label and
    /// different backgrounds.
    Similarity,
    /// Erm, and then the last layer fitted anew on held-out backgrounds.
    Dfr,
    /// Cross-entropy on a fresh background for every sample and epoch: the upper bound.
    Oracle,
}

impl Method {
    /// The weight of its penalty where the user gives none; none where it has no weight.
    #[must_use]
    pub fn weight(self) -> Option<f64> {
        match self {
            Self::Dissimilarity | Self::ClassRepulsion | Self::Similarity => Some(LAMBDA),
            Self::SpectralDecoupling => Some(0.1),
            Self::VicregDecorrelation => Some(0.04),
            Self::Vrex => Some(10.0),
            Self::Irm => Some(100.0),
            Self::ConditionalCoral => Some(1.0),
            Self::Erm
            | Self::Rsc
            | Self::Mixup
            | Self::Lisa
            | Self::GroupDro
            | Self::Dfr
            | Self::Oracle => None,
        }
    }

    /// Whether it reads environments.
    #[must_use]
    pub fn environments(self) -> bool {
        matches!(self, Self::Vrex | Self::Irm | Self::ConditionalCoral)
    }
}

/// The pairs that the penalty counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pairs {
    /// The same label and the same background, as in the study.
    #[default]
    LabelAndBackground,
    /// The same label, and a similarity above 1 - tau: needs no background labels.
    LabelAboveThreshold,
    /// The same label.
    Label,
}

/// How a threshold enters the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TauLoss {
    /// The mean similarity of the pairs above it; which these are is a constant to the gradient.
    #[default]
    SelectedMean,
    /// The mean over all pairs of a label of max(0, S_ij - (1 - tau)).
    Hinge,
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
    /// Adam with decoupled weight decay.
    Adamw,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

/// How the learning rate changes; the last value is that of the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedule {
    /// It stays.
    #[default]
    Constant,
    /// Half a cosine from `lr` to 0 over the run (Loshchilov & Hutter 2017, without restarts).
    Cosine,
    /// A tenth after half of the run, a hundredth after three quarters (He et al. 2016, section 4.2).
    Step,
}

impl LrSchedule {
    /// What the learning rate is multiplied by when `done` of the run, 0..1, lies behind.
    #[must_use]
    pub fn factor(self, done: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Self::Step if done < 0.5 => 1.0,
            Self::Step if done < 0.75 => 0.1,
            Self::Step => 0.01,
        }
    }
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

    /// The learning rate before its schedule.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.lr.unwrap_or(if self.optimiser == Optimiser::Sgd { 0.01 } else { 0.001 })
    }
}

/// What computes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// The SIMD kernel where it covers the network, plain burn where it does not.
    #[default]
    Auto,
    /// The SIMD kernel of `dissim-kernel`: LeNet-5 with ReLU and max-pooling.
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

/// The study's weight of the penalty.
const LAMBDA: f64 = 1.25;
/// As many environments as the sets of IRM and V-REx have in training.
const ENVIRONMENTS: u32 = 2;
/// PyTorch's default of adamw.
const DECAY: f64 = 0.01;
/// The usual momentum.
const MOMENTUM: f64 = 0.9;

/// Completes and checks what the user wrote; what has no effect is left out.
pub(crate) fn resolve(given: &Params) -> Result<Params, Vec<ParamError>> {
    let (mut params, _) = dissim_api::resolve::<TrainParams>(given)?;
    let errors = range_errors(&params);
    if !errors.is_empty() {
        return Err(errors);
    }
    let penalised = params.method == Method::Dissimilarity;
    // Adding 0 makes 0 of -0: the two train alike, and so must be one task.
    params.lambda = params.method.weight().map(|weight| params.lambda.unwrap_or(weight) + 0.0);
    params.environments =
        params.method.environments().then(|| params.environments.unwrap_or(ENVIRONMENTS));
    params.embed = penalised.then_some(params.embed.unwrap_or_default());
    // The study's own pairs are left out, so that naming them makes no other task.
    params.pairs = params.pairs.filter(|&p| penalised && p != Pairs::default());
    let threshold = params.pairs == Some(Pairs::LabelAboveThreshold);
    params.tau = threshold.then(|| params.tau.unwrap_or(TAU) + 0.0);
    params.tau_loss = threshold.then(|| params.tau_loss.unwrap_or_default());
    let hinge = params.tau_loss == Some(TauLoss::Hinge);
    params.offset = params.offset.filter(|_| penalised && !hinge).map(|offset| offset + 0.0);
    params.lr = Some(params.rate());
    params.weight_decay =
        (params.optimiser == Optimiser::Adamw).then(|| params.weight_decay.unwrap_or(DECAY));
    params.momentum =
        (params.optimiser == Optimiser::Sgd).then(|| params.momentum.unwrap_or(MOMENTUM));
    if params.engine == EngineKind::Auto {
        let fused = params.architecture().not_fused().is_none();
        params.engine = if fused { EngineKind::Fused } else { EngineKind::Plain };
    }
    match serde_json::to_value(&params) {
        Ok(serde_json::Value::Object(map)) => Ok(map),
        other => unreachable!("a parameter struct serialises as an object, not {other:?}"),
    }
}

/// The study's best threshold.
const TAU: f64 = 0.001;

fn range_errors(params: &TrainParams) -> Vec<ParamError> {
    let mut errors = Vec::new();
    let mut require = |holds: bool, name: &str, message: String| {
        if !holds {
            errors.push(ParamError::new(name, message));
        }
    };
    let TrainParams { lambda, epochs, batch_size, lr, weight_decay, momentum, .. } = params;
    require(
        lambda.is_none_or(|l| l.is_finite() && l >= 0.0),
        "lambda",
        format!("`lambda` must be 0 or more, and is {}", lambda.unwrap_or_default()),
    );
    require(
        params.tau.is_none_or(|t| t.is_finite() && t >= 0.0),
        "tau",
        format!("`tau` must be 0 or more, and is {}", params.tau.unwrap_or_default()),
    );
    require(
        params.offset.is_none_or(|o| (-1.0..=1.0).contains(&o)),
        "offset",
        format!("`offset` must be -1 to 1, and is {}", params.offset.unwrap_or_default()),
    );
    require(
        params.environments.is_none_or(|e| (1..=100).contains(&e)),
        "environments",
        format!(
            "`environments` must be 1 to 100, and is {}",
            params.environments.unwrap_or_default()
        ),
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
    require(
        lr.is_none_or(|lr| lr.is_finite() && lr > 0.0),
        "lr",
        format!("`lr` must be above 0, and is {}", lr.unwrap_or_default()),
    );
    require(
        weight_decay.is_none_or(|d| d.is_finite() && d >= 0.0),
        "weight_decay",
        format!("`weight_decay` must be 0 or more, and is {}", weight_decay.unwrap_or_default()),
    );
    require(
        momentum.is_none_or(|m| (0.0..1.0).contains(&m)),
        "momentum",
        format!(
            "`momentum` must be 0 or more and below 1, and is {}",
            momentum.unwrap_or_default()
        ),
    );
    if let (EngineKind::Fused, Some(what)) = (params.engine, params.architecture().not_fused()) {
        let message = format!(
            "`engine: fused` does not compute {what}; leave `engine` out, or set it to `plain`"
        );
        require(false, "engine", message);
    }
    errors
}

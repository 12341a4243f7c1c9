//! The choices of a training run, by their names in pipeline.yaml.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Cross-entropy; every tenth step the lower layers also forget, with weight lambda (1), what a
    /// linear classifier reads there.
    Sifer,
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
    /// Its name in pipeline.yaml.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Erm => "erm",
            Self::Dissimilarity => "dissimilarity",
            Self::SpectralDecoupling => "spectral_decoupling",
            Self::Rsc => "rsc",
            Self::Sifer => "sifer",
            Self::VicregDecorrelation => "vicreg_decorrelation",
            Self::ClassRepulsion => "class_repulsion",
            Self::Mixup => "mixup",
            Self::Lisa => "lisa",
            Self::GroupDro => "group_dro",
            Self::Vrex => "vrex",
            Self::Irm => "irm",
            Self::ConditionalCoral => "conditional_coral",
            Self::Similarity => "similarity",
            Self::Dfr => "dfr",
            Self::Oracle => "oracle",
        }
    }

    /// The weight of its penalty where the user gives none; none where it has no weight.
    #[must_use]
    pub fn weight(self) -> Option<f64> {
        match self {
            Self::Dissimilarity | Self::ClassRepulsion | Self::Similarity => Some(super::LAMBDA),
            Self::SpectralDecoupling => Some(0.1),
            Self::VicregDecorrelation => Some(0.04),
            Self::Vrex => Some(10.0),
            Self::Irm => Some(100.0),
            Self::Sifer | Self::ConditionalCoral => Some(1.0),
            Self::Erm
            | Self::Rsc
            | Self::Mixup
            | Self::Lisa
            | Self::GroupDro
            | Self::Dfr
            | Self::Oracle => None,
        }
    }

    /// Whether its weight follows `lambda_schedule`: `vrex` and `irm` have a schedule of their own.
    #[must_use]
    pub fn scheduled(self) -> bool {
        self.weight().is_some() && !matches!(self, Self::Vrex | Self::Irm)
    }

    /// Whether its penalty is a similarity to push down, which `lambda: { target: .. }` can hold.
    #[must_use]
    pub fn steered(self) -> bool {
        matches!(self, Self::Dissimilarity | Self::ClassRepulsion)
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

/// What the similarity is of that a threshold looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TauSpace {
    /// The embeddings, as in the study.
    #[default]
    Embedding,
    /// The images as the network sees them: their standardised pixels, divided by their norm. Which
    /// pairs count is then the same whatever the network has learned.
    Input,
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

/// How an epoch is cut into batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// All images in a random order.
    #[default]
    Shuffle,
    /// P groups of K images each: a group is a label on a background, K is `samples_per_group`, and
    /// P fills the batch. For every method; whatever the method, it is told the training groups.
    Groups,
}

/// How the weight of the penalty changes while training goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LambdaSchedule {
    /// It stays.
    #[default]
    Constant,
    /// It rises linearly from 0 over the first `lambda_span` of the run, a fifth by default.
    WarmUp,
    /// It falls linearly to 0 over the last `lambda_span` of the run, all of it by default.
    Decay,
}

impl LambdaSchedule {
    /// The share of the run in which it changes where the user gives none.
    #[must_use]
    pub fn span(self) -> Option<f64> {
        match self {
            Self::Constant => None,
            Self::WarmUp => Some(0.2),
            Self::Decay => Some(1.0),
        }
    }

    /// What the weight is multiplied by when `done` of the run, 0..1, lies behind.
    #[must_use]
    pub fn factor(self, done: f64, span: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::WarmUp => (done / span).min(1.0),
            Self::Decay => ((1.0 - done) / span).min(1.0),
        }
    }
}

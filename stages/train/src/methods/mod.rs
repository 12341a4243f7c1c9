//! What is minimised: one file a method, each with its formula and source.
//!
//! A method is an [`Objective`]: it reads what the network says of a batch and answers with the
//! gradient of its loss with respect to that, in closed form. Both engines call it between the
//! forward and the backward pass, so a method is written once and works with every network.
//!
//! | a method may also | by |
//! |---|---|
//! | mix images before the forward pass | [`Objective::mix`] |
//! | drop units of the embedding | [`Objective::keep`] |
//! | read an earlier layer | [`Objective::reads_features`] |
//! | start the optimiser anew | [`Objective::restarts_optimiser`] |
//! | refit the last layer after the last epoch | [`Objective::finish`] |
//! | remember something from step to step | [`Objective::state`] |

mod class_repulsion;
mod conditional_coral;
pub mod cross_entropy;
mod dfr;
mod dissimilarity;
mod environments;
mod erm;
pub mod gram;
mod group_dro;
mod irm;
mod mixup;
mod moments;
pub mod pairs;
pub mod penalised;
mod risk;
mod rsc;
mod sifer;
mod similarity;
mod spectral_decoupling;
mod vicreg_decorrelation;
mod vrex;
pub mod weight;

use dissim_api::StageError;
use dissim_api::formats::{Dataset, Told};
use dissim_kernel::{OutputGradient, Outputs};
use dissim_model::{Architecture, Engine};

use crate::params::{Method, Pairs, Sampler, TrainParams};
use environments::Slots;
use mixup::{Mixup, Partners};
use penalised::Penalised;
use weight::Weight;

pub use dissimilarity::Dissimilarity;
pub use erm::Erm;

/// A batch as a method sees it.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// All training images, u8 `[samples, 3, 32, 32]`.
    pub images: &'a [u8],
    /// The batch's images by number, `[n]`.
    pub rows: &'a [u32],
    /// Their classes, `[n]`.
    pub labels: &'a [u8],
    /// Their backgrounds, as numbers of [`Dataset::backgrounds`], `[n]`.
    pub backgrounds: &'a [u32],
    /// One number for label and background together, `[n]`.
    pub groups: &'a [u32],
    /// What was mixed into them.
    pub mixed: Option<Mixed<'a>>,
    /// When it is.
    pub clock: Clock,
}

/// The partners that were mixed into the images of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Mixed<'a> {
    /// Classes of the partners, `[n]`.
    pub labels: &'a [u8],
    /// Shares of the partners in the images, `[n]`, in 0..=1.
    pub shares: &'a [f32],
}

/// The images to mix into a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixing {
    /// Partners by number among the training images, `[n]`.
    pub partners: Vec<u32>,
    /// Their shares, `[n]`: 0 leaves the image as it is, 1 replaces it.
    pub shares: Vec<f32>,
}

/// How far training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    /// 1 for the first epoch.
    pub epoch: u32,
    /// Epochs in all.
    pub epochs: u32,
    /// Steps before this one, over all epochs.
    pub step: u64,
    /// Steps of an epoch.
    pub steps: u64,
}

impl Clock {
    /// Epochs done so far, with the fraction of this one.
    #[must_use]
    pub fn elapsed(&self) -> f64 {
        self.step as f64 / self.steps as f64
    }

    /// The share of the run that lies behind, 0..1.
    #[must_use]
    pub fn done(&self) -> f64 {
        self.elapsed() / f64::from(self.epochs)
    }
}

/// Figures of one step, before its update.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepStats {
    /// Mean cross-entropy.
    pub cross_entropy: f64,
    /// The method's penalty, before its weight; without one the mean similarity of the labelled
    /// pairs.
    pub penalty: f64,
    /// The penalty's weight.
    pub lambda: f64,
    /// Ordered pairs that the penalty is a mean of.
    pub pairs: f64,
    /// Mean norm of the embeddings.
    pub embedding_norm: f64,
    /// Share of embeddings whose norm is exactly 0.
    pub zero_norm: f64,
    /// Share of embedding units above 0.
    pub active: f64,
    /// Samples classified right.
    pub correct: usize,
}

/// What a method knows before the first step.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The parameters of the run.
    pub params: &'a TrainParams,
    /// Its data.
    pub dataset: &'a Dataset,
    /// Its network.
    pub architecture: Architecture,
}

/// The last layer: `logits = weight z + bias`.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// `[10, d]`.
    pub weight: &'a [f32],
    /// `[10]`.
    pub bias: &'a [f32],
}

/// What is minimised, and what a method changes of a step.
pub trait Objective {
    /// The images to mix into this batch before the forward pass; none by default.
    fn mix(&mut self, batch: &Batch<'_>) -> Option<Mixing> {
        let _ = batch;
        None
    }

    /// The units of the embeddings to keep, `[n, d]`; all by default. What is dropped becomes 0 and
    /// gets no gradient, and the logits are computed again.
    fn keep(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        head: Head<'_>,
    ) -> Option<Vec<bool>> {
        let _ = (batch, outputs, head);
        None
    }

    /// Whether it reads [`Outputs::features`], which cost a copy.
    fn reads_features(&self) -> bool {
        false
    }

    /// Adds the gradient of the loss to `gradient`, which comes as zeros; returns the figures.
    fn evaluate(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        gradient: &mut OutputGradient,
    ) -> StepStats;

    /// Whether the optimiser forgets its state before the update of this step.
    fn restarts_optimiser(&self, clock: Clock) -> bool {
        let _ = clock;
        false
    }

    /// Called once after the last epoch; may replace weights of the engine.
    ///
    /// # Errors
    /// When the data lack what the method needs.
    fn finish(&mut self, setting: Setting<'_>, engine: &mut dyn Engine) -> Result<(), StageError> {
        let _ = (setting, engine);
        Ok(())
    }

    /// What it remembers from step to step: part of the checkpoint, so that a resumed run ends in
    /// the same bytes.
    fn state(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Takes back what [`state`](Self::state) gave.
    fn restore(&mut self, state: &[f64]) {
        let _ = state;
    }
}

/// The objective of a run.
#[must_use]
pub fn objective(setting: Setting<'_>) -> Box<dyn Objective> {
    match setting.params.method {
        Method::Erm => Box::new(Erm::default()),
        Method::Dissimilarity => Box::new(Dissimilarity::new(setting.params)),
        method => rival(method, setting),
    }
}

/// The objective of a method that is neither the baseline nor the study's own.
fn rival(method: Method, setting: Setting<'_>) -> Box<dyn Objective> {
    let Setting { params, dataset, .. } = setting;
    let weight = Weight::of(params);
    let slots = || Slots::new(dataset, params.environments.unwrap_or_default() as usize);
    match method {
        // What is special about the oracle is its images.
        Method::Erm | Method::Dissimilarity | Method::Oracle => Box::new(Erm::default()),
        Method::SpectralDecoupling => {
            Box::new(Penalised::new(weight, spectral_decoupling::SquaredLogits))
        }
        Method::Rsc => Box::new(rsc::Rsc::default()),
        Method::Sifer => Box::new(sifer::Sifer::new(weight, params.seed)),
        Method::VicregDecorrelation => {
            Box::new(Penalised::new(weight, vicreg_decorrelation::Covariance::default()))
        }
        Method::ClassRepulsion => Box::new(class_repulsion::objective(params)),
        Method::Mixup => Box::new(Mixup::new(params.seed, Partners::Anyone)),
        Method::Lisa => Box::new(Mixup::new(params.seed, Partners::OtherBackground)),
        Method::GroupDro => Box::new(group_dro::GroupDro::new(dataset)),
        Method::Vrex => Box::new(vrex::Vrex::new(params.fixed_lambda(), slots())),
        Method::Irm => Box::new(irm::Irm::new(params.fixed_lambda(), slots())),
        Method::ConditionalCoral => {
            Box::new(Penalised::new(weight, conditional_coral::ConditionalCoral::new(slots())))
        }
        Method::Similarity => {
            Box::new(Penalised::new(weight, similarity::AcrossBackgrounds::default()))
        }
        Method::Dfr => Box::new(dfr::Dfr::default()),
    }
}

/// What a run with these parameters is told, by its method or by its batches.
#[must_use]
pub fn told(params: &TrainParams) -> Told {
    let by_batches = match params.sampler.unwrap_or_default() {
        Sampler::Shuffle => Told::Nothing,
        Sampler::Groups => Told::TrainingGroups,
    };
    told_by_method(params).max(by_batches)
}

fn told_by_method(params: &TrainParams) -> Told {
    let labelled = params.pairs.unwrap_or_default() == Pairs::LabelAndBackground;
    match params.method {
        Method::Erm => Told::Nothing,
        Method::Dissimilarity if !labelled => Told::Nothing,
        Method::SpectralDecoupling
        | Method::Rsc
        | Method::Sifer
        | Method::VicregDecorrelation
        | Method::ClassRepulsion
        | Method::Mixup => Told::Nothing,
        Method::Dissimilarity
        | Method::Lisa
        | Method::GroupDro
        | Method::Vrex
        | Method::Irm
        | Method::ConditionalCoral
        | Method::Similarity => Told::TrainingGroups,
        Method::Dfr | Method::Oracle => Told::HeldOutLabels,
    }
}

#[cfg(test)]
pub(crate) mod check;

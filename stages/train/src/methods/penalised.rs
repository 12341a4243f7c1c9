//! Cross-entropy plus a weight times a penalty on the outputs of a batch: the shape that many
//! methods share.

use std::fmt::Debug;

use dissim_kernel::{OutputGradient, Outputs};

use super::cross_entropy::CrossEntropy;
use super::pairs::GroupSums;
use super::weight::Weight;
use super::{Batch, Objective, StepStats};

/// A penalty in closed form.
pub trait Penalty: Debug {
    /// Adds the gradient of `weight` times the penalty to `gradient`, and returns the penalty.
    fn add(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        weight: f32,
        gradient: &mut OutputGradient,
    ) -> Term;
}

/// A penalty's value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Term {
    /// The penalty, before its weight.
    pub value: f64,
    /// How many pairs it is a mean of; 0 where it is none of pairs.
    pub pairs: f64,
}

/// The objective.
#[derive(Debug)]
pub struct Penalised {
    weight: Weight,
    entropy: CrossEntropy,
    norms: GroupSums,
    penalty: Box<dyn Penalty>,
}

impl Penalised {
    /// Cross-entropy plus `weight` times `penalty`.
    pub fn new(weight: impl Into<Weight>, penalty: impl Penalty + 'static) -> Self {
        let (entropy, norms) = (CrossEntropy::default(), GroupSums::default());
        Self { weight: weight.into(), entropy, norms, penalty: Box::new(penalty) }
    }
}

impl Objective for Penalised {
    fn evaluate(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        gradient: &mut OutputGradient,
    ) -> StepStats {
        let mut stats = StepStats::default();
        self.entropy.measure(batch, outputs);
        self.entropy.add_gradient(gradient.logits_mut());
        self.norms.measure(outputs.embedding, batch.groups, &mut stats);
        let lambda = self.weight.at(batch.clock);
        let term = self.penalty.add(batch, outputs, lambda as f32, gradient);
        StepStats {
            cross_entropy: self.entropy.mean(),
            correct: self.entropy.correct,
            penalty: term.value,
            pairs: term.pairs,
            lambda,
            ..stats
        }
    }
}

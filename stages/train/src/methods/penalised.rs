//! Cross-entropy plus a weight times a penalty on the outputs of a batch: the shape that many
//! methods share.

use std::fmt::Debug;

use dissim_kernel::{OutputGradient, Outputs};

use super::risk::Risk;
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
    risk: Risk,
    penalty: Box<dyn Penalty>,
}

impl Penalised {
    /// Cross-entropy plus `weight` times `penalty`.
    pub fn new(weight: impl Into<Weight>, penalty: impl Penalty + 'static) -> Self {
        Self { weight: weight.into(), risk: Risk::default(), penalty: Box::new(penalty) }
    }
}

impl Objective for Penalised {
    fn evaluate(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        gradient: &mut OutputGradient,
    ) -> StepStats {
        let stats = self.risk.measure(batch, outputs);
        self.risk.entropy.add_gradient(gradient.logits_mut());
        let lambda = self.weight.at(batch.clock);
        let term = self.penalty.add(batch, outputs, lambda as f32, gradient);
        StepStats { penalty: term.value, pairs: term.pairs, lambda, ..stats }
    }
}

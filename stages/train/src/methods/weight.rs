//! The weight of a penalty at a step: constant, on a schedule, or steered to a similarity.
//!
//! Steering is dual ascent on "the mean similarity s is at most s*" (Platt and Barr, "Constrained
//! differential optimization", NIPS 1987; with a network, Rezende and Viola, "Taming VAEs", 2018):
//! lambda is the constraint's multiplier, starts at 0, and after each batch with pairs becomes
//!
//! ```text
//! lambda <- min(5, max(0, lambda + 0.01 (s - s*)))
//! ```
//!
//! An integral controller: it rests where s is s*, or at 0 where s stays below. With s half above the target it takes 250 steps to
//! the study's 1.25, so it warms up by itself. The bound, the largest weight of the study, keeps it from
//! winding up where s* is out of reach, as below 0 after ReLU.

use super::Clock;
use crate::params::{Lambda, LambdaSchedule, TrainParams};

/// How far lambda moves for a batch whose similarity is 1 above the target.
const RATE: f64 = 0.01;
/// The largest weight that steering gives.
const MOST: f64 = 5.0;

/// The weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weight {
    /// The same at every step.
    Fixed(f64),
    /// On a schedule.
    Scheduled {
        /// The weight that the schedule multiplies.
        full: f64,
        /// The schedule.
        schedule: LambdaSchedule,
        /// The share of the run in which it changes.
        span: f64,
    },
    /// Steered.
    Steered {
        /// s*.
        target: f64,
        /// The weight of the next step.
        lambda: f64,
    },
}

impl Weight {
    /// As the parameters of a run say.
    #[must_use]
    pub fn of(params: &TrainParams) -> Self {
        if let Some(Lambda::Target(target)) = params.lambda {
            return Self::Steered { target, lambda: 0.0 };
        }
        let full = params.fixed_lambda();
        let schedule = params.lambda_schedule.unwrap_or_default();
        match params.lambda_span.or(schedule.span()) {
            Some(span) if schedule != LambdaSchedule::Constant => {
                Self::Scheduled { full, schedule, span }
            }
            _ => Self::Fixed(full),
        }
    }

    /// The weight of this step.
    #[must_use]
    pub fn at(&self, clock: Clock) -> f64 {
        match *self {
            Self::Fixed(weight) => weight,
            Self::Scheduled { full, schedule, span } => full * schedule.factor(clock.done(), span),
            Self::Steered { lambda, .. } => lambda,
        }
    }

    /// Takes note of the mean similarity of a batch's pairs.
    pub fn observe(&mut self, similarity: f64, pairs: f64) {
        if let Self::Steered { target, lambda } = self
            && pairs > 0.0
            && similarity.is_finite()
        {
            *lambda = (*lambda + RATE * (similarity - *target)).clamp(0.0, MOST);
        }
    }

    /// What it remembers from step to step.
    #[must_use]
    pub fn state(&self) -> Vec<f64> {
        match self {
            Self::Steered { lambda, .. } => vec![*lambda],
            _ => Vec::new(),
        }
    }

    /// Takes back what [`state`](Self::state) gave.
    pub fn restore(&mut self, state: &[f64]) {
        if let (Self::Steered { lambda, .. }, [known]) = (self, state) {
            *lambda = *known;
        }
    }
}

impl From<f64> for Weight {
    fn from(weight: f64) -> Self {
        Self::Fixed(weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn weight(with: Value) -> Weight {
        let params = crate::params::resolve(with.as_object().unwrap()).unwrap();
        Weight::of(&serde_json::from_value(params.into()).unwrap())
    }

    /// The weight at steps 0, 2, 5 and 9 of a run of 2 epochs with 5 steps.
    fn along(with: Value) -> [f64; 4] {
        let weight = weight(with);
        [0, 2, 5, 9].map(|step| weight.at(Clock { epoch: 1, epochs: 2, step, steps: 5 }))
    }

    #[test]
    fn schedules_by_hand() {
        let with = |schedule: Value| {
            let mut with = json!({"method": "dissimilarity", "lambda": 2});
            with.as_object_mut().unwrap().extend(schedule.as_object().unwrap().clone());
            along(with)
        };
        assert_eq!(with(json!({})), [2.0; 4]);
        assert_eq!(with(json!({"lambda_schedule": "constant", "lambda_span": 0.5})), [2.0; 4]);
        assert_eq!(with(json!({"lambda_schedule": "warm_up"})), [0.0, 2.0, 2.0, 2.0]);
        let half = json!({"lambda_schedule": "warm_up", "lambda_span": 0.5});
        assert_eq!(with(half), [0.0, 0.8, 2.0, 2.0]);
        let decay = with(json!({"lambda_schedule": "decay"}));
        let expected = [2.0, 1.6, 1.0, 0.2];
        assert!(decay.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{decay:?}");
        let late = with(json!({"lambda_schedule": "decay", "lambda_span": 0.25}));
        assert_eq!(late[..3], [2.0; 3]);
        assert!((late[3] - 0.8).abs() < 1e-12);
    }

    /// s = 0.9 against 0.4: + 0.005 a batch; without pairs nothing; below the target it falls to 0.
    #[test]
    fn steering_by_hand() {
        let mut weight = weight(json!({"method": "dissimilarity", "lambda": {"target": 0.4}}));
        let clock = Clock { epoch: 1, epochs: 1, step: 0, steps: 1 };
        let mut after = |similarity: f64, pairs: f64| {
            weight.observe(similarity, pairs);
            weight.at(clock)
        };
        assert!((after(0.9, 10.0) - 0.005).abs() < 1e-15);
        assert!((after(0.9, 10.0) - 0.010).abs() < 1e-15);
        assert!((after(0.0, 0.0) - 0.010).abs() < 1e-15);
        assert!((after(f64::NAN, 4.0) - 0.010).abs() < 1e-15);
        assert!((after(0.1, 2.0) - 0.007).abs() < 1e-15);
        assert_eq!((0..3).map(|_| after(-0.4, 2.0)).last(), Some(0.0));
        assert_eq!((0..2000).map(|_| after(1.0, 2.0)).last(), Some(MOST));
        let mut other = weight_of_target();
        other.restore(&weight.state());
        assert_eq!(other, weight);
    }

    fn weight_of_target() -> Weight {
        weight(json!({"method": "dissimilarity", "lambda": {"target": 0.4}}))
    }

    /// A toy in which similarity falls with the weight, s = 1 / (1 + lambda): it rests at s*.
    #[test]
    fn steering_rests_at_the_target() {
        let mut weight = weight_of_target();
        let clock = Clock { epoch: 1, epochs: 1, step: 0, steps: 1 };
        for _ in 0..5000 {
            let similarity = 1.0 / (1.0 + weight.at(clock));
            weight.observe(similarity, 1.0);
        }
        assert!((weight.at(clock) - 1.5).abs() < 1e-3, "{weight:?}");
    }
}

//! What a claim says, as pipeline.yaml writes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Selection;

/// One claim. Exactly one of `compare` and `trend` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// A short name, unique in the study.
    pub id: String,
    /// The claim in words.
    pub says: String,
    /// Two groups of runs, compared pair by pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<Compare>,
    /// A metric followed along an axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trend: Option<Trend>,
    /// What the difference, or the slope, is expected to be.
    pub expect: Expect,
    /// For `expect: none`: the largest difference that still counts as none, in the metric's own
    /// unit (accuracies are fractions: 0.02 is two points).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
}

/// A difference, a minus b, of runs that share `paired_by`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compare {
    /// A column of the runs table, such as `ood_acc` or `dead`.
    pub metric: String,
    /// The runs of the one side: column to value.
    pub a: Selection,
    /// The runs of the other.
    pub b: Selection,
    /// What both sides share.
    #[serde(default)]
    pub at: Selection,
    /// The column that pairs them.
    #[serde(default = "seed")]
    pub paired_by: String,
}

/// The slope of a metric against the rank of an axis' values, one slope for each `paired_by`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trend {
    /// A column of the runs table.
    pub metric: String,
    /// The column along which it is followed, such as `lambda`.
    pub over: String,
    /// The runs.
    #[serde(default)]
    pub at: Selection,
    /// The column that pairs them.
    #[serde(default = "seed")]
    pub paired_by: String,
    /// Follow how far a run lies from the median of its axis value, instead of the metric itself:
    /// the spread (Brown & Forsythe 1974).
    #[serde(default)]
    pub spread: bool,
}

/// What is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// a is greater than b, or the metric rises.
    Greater,
    /// a is less than b, or the metric falls.
    Less,
    /// No difference beyond `margin`.
    None,
}

fn seed() -> String {
    "seed".to_owned()
}

impl Claim {
    /// What is wrong with the claim itself, whatever the runs.
    ///
    /// # Errors
    /// One sentence without a full stop.
    pub fn check(&self) -> Result<(), String> {
        match (&self.compare, &self.trend) {
            (Some(_), Some(_)) => Err("a claim has `compare` or `trend`, not both".into()),
            (None, None) => Err("a claim needs `compare` or `trend`".into()),
            _ => match (self.expect, self.margin) {
                (Expect::None, None) => Err("`expect: none` needs a `margin`".into()),
                (Expect::None, Some(m)) if m.is_nan() || m <= 0.0 => {
                    Err("`margin` must be above 0".into())
                }
                (Expect::Greater | Expect::Less, Some(_)) => {
                    Err("`margin` goes with `expect: none`".into())
                }
                _ => Ok(()),
            },
        }
    }
}

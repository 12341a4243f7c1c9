//! What a claim says, as pipeline.yaml writes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Selection;

/// One claim. Exactly one of `compare`, `trend` and `best` is given.
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
    /// One setting against every other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
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

/// One setting against every other that was run, pair by pair. With `expect: greater` it is the
/// highest, with `less` the lowest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// A column of the runs table.
    pub metric: String,
    /// The runs among which it is looked for.
    #[serde(default)]
    pub of: Selection,
    /// The setting: column to value. Runs that differ in these columns are the others.
    pub is: Selection,
    /// The column that pairs them.
    #[serde(default = "seed")]
    pub paired_by: String,
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
        let forms = [self.compare.is_some(), self.trend.is_some(), self.best.is_some()];
        match forms.iter().filter(|given| **given).count() {
            0 => Err("a claim needs `compare`, `trend` or `best`".into()),
            2.. => Err("a claim has one of `compare`, `trend` and `best`".into()),
            _ if self.best.as_ref().is_some_and(|b| b.is.is_empty()) => {
                Err("`is` names no column".into())
            }
            _ if self.best.is_some() && self.expect == Expect::None => {
                Err("`best` goes with `expect: greater` or `less`".into())
            }
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

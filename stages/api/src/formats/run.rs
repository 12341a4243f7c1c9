//! What a training run leaves beside its weights.

use serde::{Deserialize, Serialize};

use super::DatasetInfo;
use crate::Params;

/// `run.json`: the training task's parameters and the data set it saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Resolved parameters of the `train` task: `method`, `lambda`, `seed`, ..
    pub params: Params,
    /// The data set.
    pub dataset: DatasetInfo,
    /// Compute backend, such as `flex`.
    pub backend: String,
    /// Number of trained weights.
    pub weights: usize,
    /// What the method was told of the data beside images and labels.
    pub told: Told,
}

/// What a method is told of the data beside its training images and their labels, from less to more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Nothing.
    Nothing,
    /// Which training images share a background.
    TrainingGroups,
    /// Images on held-out backgrounds, with their labels.
    HeldOutLabels,
}

impl Told {
    /// The name in files and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::TrainingGroups => "training_groups",
            Self::HeldOutLabels => "held_out_labels",
        }
    }
}

/// The weights after epoch `epoch` in the artifact of a `train` task, such as
/// `epochs/03.safetensors`. Every epoch's are kept, so that a way to choose among them costs no training.
#[must_use]
pub fn epoch_weights(epoch: u32) -> String {
    format!("epochs/{epoch:02}.safetensors")
}

/// One line of `epochs.jsonl`: means over the epoch's batches. What is not a number, because the
/// run diverged, is null in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochLog {
    /// 1 for the first.
    pub epoch: u32,
    /// Cross-entropy.
    #[serde(deserialize_with = "null_as_nan")]
    pub cross_entropy: f64,
    /// The penalty before its weight: mean cosine similarity of the pairs.
    #[serde(deserialize_with = "null_as_nan")]
    pub penalty: f64,
    /// Ordered pairs a batch, |M|.
    #[serde(deserialize_with = "null_as_nan")]
    pub pairs: f64,
    /// Weight of the penalty.
    #[serde(deserialize_with = "null_as_nan")]
    pub lambda: f64,
    /// Mean Euclidean norm of an embedding.
    #[serde(deserialize_with = "null_as_nan")]
    pub embedding_norm: f64,
    /// Share of embeddings whose norm is exactly 0.
    #[serde(deserialize_with = "null_as_nan")]
    pub zero_norm: f64,
    /// Share of embedding units above 0.
    #[serde(deserialize_with = "null_as_nan")]
    pub active: f64,
    /// Training accuracy.
    #[serde(deserialize_with = "null_as_nan")]
    pub train_acc: f64,
    /// Accuracy on `id_val` after the epoch; none when nothing is held out.
    pub id_val_acc: Option<f64>,
    /// Accuracy on `bg_val` after the epoch; none when nothing is held out.
    pub bg_val_acc: Option<f64>,
}

/// JSON has no NaN: serde_json writes null for it, and this reads it back.
fn null_as_nan<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

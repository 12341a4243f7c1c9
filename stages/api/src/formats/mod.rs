//! Artifact formats that more than one stage reads or writes.
//!
//! | file | written by | read by |
//! |---|---|---|
//! | `train.safetensors`, `test.safetensors` ([`ImageSet`]) | fetch | dataset |
//! | `dataset.json`, `glyphs_*.safetensors`, `backgrounds.safetensors`, `splits.safetensors` ([`Dataset`]) | dataset | train, evaluate, report |
//! | `run.json` ([`RunInfo`]), `epochs.jsonl` ([`EpochLog`]), `model.safetensors`, `epochs/` ([`epoch_weights`]) | train | evaluate, aggregate |

mod compose;
mod dataset;
mod images;
mod run;
mod tensors;

pub use compose::Compose;
pub use dataset::{
    Background, Dataset, DatasetInfo, Glyphs, NONE, PIXELS, Pool, SIDE, Split, SplitName,
};
pub use images::{GLYPH_PIXELS, GLYPH_SIDE, ImageSet};
pub use run::{EpochLog, RunInfo, Told, epoch_weights};

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{IoContext, StageError};

/// Writes `value` as indented JSON with a line feed at its end.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), StageError> {
    let mut text = serde_json::to_string_pretty(value).or_fail("cannot write JSON", path)?;
    text.push('\n');
    fs::write(path, text).or_fail("cannot write", path)
}

/// Reads a JSON file.
///
/// # Errors
/// When the file cannot be read or is not such JSON.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StageError> {
    let text = fs::read(path).or_fail("cannot read", path)?;
    serde_json::from_slice(&text).or_fail("cannot parse JSON", path)
}

//! A checkpoint after every epoch, so that a killed run goes on where it was.

use std::fs;
use std::path::{Path, PathBuf};

use dissim_api::formats::{EpochLog, RunInfo};
use dissim_api::{IoContext, StageError};
use dissim_kernel::{Adam, layout::WEIGHTS};
use dissim_model::weights;
use serde::{Deserialize, Serialize};

use crate::engine::State;

/// What goes on: the state after `epochs.len()` epochs.
pub(crate) struct Checkpoint {
    pub state: State,
    pub epochs: Vec<EpochLog>,
}

/// The part of a checkpoint that is not tensors.
#[derive(Serialize, Deserialize)]
struct Header {
    /// The run it belongs to: parameters, data set, backend.
    run: RunInfo,
    step: u64,
    lr: f64,
    epochs: Vec<EpochLog>,
    /// blake3 of the tensor file that belongs to it.
    tensors: String,
}

/// A checkpoint's two files in a scratch folder.
pub(crate) struct Store {
    folder: PathBuf,
}

impl Store {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    fn header(&self) -> PathBuf {
        self.folder.join("checkpoint.json")
    }

    fn tensors(&self, epoch: usize) -> PathBuf {
        self.folder.join(format!("epoch-{epoch}.safetensors"))
    }

    /// Writes a checkpoint: the tensors first, then the header that names them, by renaming.
    pub fn save(&self, run: &RunInfo, checkpoint: &Checkpoint) -> Result<(), StageError> {
        let Checkpoint { state, epochs } = checkpoint;
        let path = self.tensors(epochs.len());
        let flat = [
            ("weights", &state.weights),
            ("first", &state.adam.first),
            ("second", &state.adam.second),
        ];
        let bytes = weights::flat_bytes(&flat, &path)?;
        replace(&path, &bytes)?;
        let header = Header {
            run: run.clone(),
            step: state.adam.step,
            lr: state.adam.lr,
            epochs: epochs.clone(),
            tensors: blake3::hash(&bytes).to_hex().to_string(),
        };
        let path = self.header();
        let text = serde_json::to_vec(&header).or_fail("cannot write a checkpoint", &path)?;
        replace(&path, &text)?;
        if epochs.len() > 1 {
            // An earlier one that stays behind costs room, nothing else.
            let _ = fs::remove_file(self.tensors(epochs.len() - 1));
        }
        Ok(())
    }

    /// Reads the checkpoint of this run; none where there is none, and a reason where there is one
    /// that cannot be used.
    pub fn load(&self, run: &RunInfo) -> Result<Option<Checkpoint>, String> {
        let Ok(text) = fs::read(self.header()) else { return Ok(None) };
        let header: Header = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
        if header.run != *run {
            return Err("it belongs to another run".to_owned());
        }
        let path = self.tensors(header.epochs.len());
        let bytes = fs::read(&path).map_err(|e| e.to_string())?;
        if blake3::hash(&bytes).to_hex().to_string() != header.tensors {
            return Err("its tensors are damaged".to_owned());
        }
        let [weights, first, second] =
            weights::from_flat_bytes(&bytes, ["weights", "first", "second"])?;
        if [&weights, &first, &second].iter().any(|t| t.len() != WEIGHTS) {
            return Err("it is of another network".to_owned());
        }
        let adam = Adam { lr: header.lr, step: header.step, first, second };
        Ok(Some(Checkpoint { state: State { weights, adam }, epochs: header.epochs }))
    }
}

/// Replaces a file as a whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), StageError> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes).or_fail("cannot write a checkpoint", &temporary)?;
    fs::rename(&temporary, path).or_fail("cannot write a checkpoint", path)
}

//! A checkpoint after every epoch, so that a killed run goes on where it was.

use std::fs;
use std::path::{Path, PathBuf};

use dissim_api::formats::{EpochLog, RunInfo, epoch_weights};
use dissim_api::{IoContext, StageError};
use dissim_kernel::Optimiser;
use dissim_model::{Architecture, weights};
use serde::{Deserialize, Serialize};

/// All that a step changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    /// Weights in the order of the architecture's parameters.
    pub weights: Vec<f32>,
    /// The optimiser's moments and count.
    pub optimiser: Optimiser,
    /// What the method remembers.
    pub method: Vec<f64>,
}

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
    /// What the method remembers.
    method: Vec<f64>,
    epochs: Vec<EpochLog>,
    /// blake3 of the tensor file that belongs to it.
    tensors: String,
    /// blake3 of the weights kept of each epoch.
    kept: Vec<String>,
}

/// A checkpoint's two files in a scratch folder, and the weights of the epochs before it.
pub(crate) struct Store {
    folder: PathBuf,
    architecture: Architecture,
}

impl Store {
    pub fn new(folder: &Path, architecture: Architecture) -> Self {
        Self { folder: folder.to_path_buf(), architecture }
    }

    fn header(&self) -> PathBuf {
        self.folder.join("checkpoint.json")
    }

    fn tensors(&self, epoch: usize) -> PathBuf {
        self.folder.join(format!("epoch-{epoch}.safetensors"))
    }

    fn kept(&self, epoch: usize) -> PathBuf {
        self.folder.join(epoch_weights(epoch as u32))
    }

    /// Puts the weights of the first `epochs` epochs into an artifact.
    pub fn publish(&self, epochs: usize, output: &Path) -> Result<(), StageError> {
        for epoch in 1..=epochs {
            let (from, to) = (self.kept(epoch), output.join(epoch_weights(epoch as u32)));
            fs::create_dir_all(to.parent().unwrap_or(output)).or_fail("cannot create", &to)?;
            fs::copy(&from, &to).or_fail("cannot keep the weights of an epoch", &from)?;
        }
        Ok(())
    }

    /// Writes a checkpoint: the tensors first, then the header that names them, by renaming.
    pub fn save(&self, run: &RunInfo, checkpoint: &Checkpoint) -> Result<(), StageError> {
        let Checkpoint { state, epochs } = checkpoint;
        let path = self.tensors(epochs.len());
        let flat = [
            ("weights", &state.weights),
            ("first", &state.optimiser.first),
            ("second", &state.optimiser.second),
        ];
        let bytes = weights::flat_bytes(&flat, &path)?;
        replace(&path, &bytes)?;
        let path = self.kept(epochs.len());
        fs::create_dir_all(path.parent().unwrap_or(&self.folder))
            .or_fail("cannot create", &path)?;
        replace(&path, &weights::bytes(&path, &self.architecture, &state.weights)?)?;
        let kept = (1..=epochs.len()).map(|epoch| digest(&self.kept(epoch)));
        let header = Header {
            kept: kept.collect::<Result<_, _>>().or_fail("cannot read", &self.folder)?,
            run: run.clone(),
            step: state.optimiser.step,
            method: state.method.clone(),
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
    /// that cannot be used. `first` is the state before the first step.
    pub fn load(&self, run: &RunInfo, first: &State) -> Result<Option<Checkpoint>, String> {
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
        let kept: Vec<_> = (1..=header.epochs.len()).map(|e| digest(&self.kept(e)).ok()).collect();
        if !kept.iter().map(Option::as_ref).eq(header.kept.iter().map(Some)) {
            return Err("the weights of an earlier epoch are missing or damaged".to_owned());
        }
        let [weights, moments, second] =
            weights::from_flat_bytes(&bytes, ["weights", "first", "second"])?;
        let Optimiser { rule, lr, first: expected, second: expected2, .. } = &first.optimiser;
        let lengths = [weights.len(), moments.len(), second.len()];
        if lengths != [first.weights.len(), expected.len(), expected2.len()] {
            return Err("it is of another network".to_owned());
        }
        let optimiser =
            Optimiser { rule: *rule, lr: *lr, step: header.step, first: moments, second };
        let state = State { weights, optimiser, method: header.method };
        Ok(Some(Checkpoint { state, epochs: header.epochs }))
    }
}

/// blake3 of a file.
fn digest(path: &Path) -> std::io::Result<String> {
    Ok(blake3::hash(&fs::read(path)?).to_hex().to_string())
}

/// Replaces a file as a whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), StageError> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes).or_fail("cannot write a checkpoint", &temporary)?;
    fs::rename(&temporary, path).or_fail("cannot write a checkpoint", path)
}

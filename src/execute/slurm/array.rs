//! Job arrays, on disk before Slurm hears of them.
//!
//! ```text
//! cache/jobs/arrays/<name>/list      the folders of its tasks, a line each
//! cache/jobs/arrays/<name>/script    what every job of it runs
//! cache/jobs/arrays/<name>/id        Slurm's number for it, once Slurm said it
//! cache/jobs/arrays/<name>/N.out     what its job N printed outside of the task
//! ```
//!
//! A runner that dies, or misses Slurm's answer, leaves an array without a number. The name stands in
//! the comment of its jobs: Slurm is asked whether it has one of that name, so none is submitted twice.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::client::{self, Why};
use super::state::JobId;
use crate::store::{Store, at};

const ID: &str = "id";
const LIST: &str = "list";
const SCRIPT: &str = "script";
/// No output of a job is shown beyond this.
const LARGEST_OUTPUT: usize = 1 << 20;

/// The folder of an array.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Array(PathBuf);

/// What is known of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// Slurm has it, or had it.
    Sent(u64),
    /// Slurm never got it.
    Unsent,
    /// Slurm does not answer; in words.
    Unknown(String),
}

impl Array {
    /// A new one, with a folder of its own.
    pub fn new(store: &Store) -> io::Result<Self> {
        let arrays = store.root().join("jobs").join("arrays");
        fs::create_dir_all(&arrays).map_err(|e| at(e, &arrays))?;
        let folder = tempfile::Builder::new().prefix("array-").tempdir_in(&arrays)?;
        Ok(Self(folder.keep()))
    }

    /// The one of that name, which need not be there.
    pub fn named(store: &Store, name: &str) -> Self {
        Self(store.root().join("jobs").join("arrays").join(name))
    }

    pub fn folder(&self) -> &Path {
        &self.0
    }

    pub fn name(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub fn script(&self) -> PathBuf {
        self.0.join(SCRIPT)
    }

    /// Writes down its tasks, and what each of them runs.
    pub fn write<'a>(
        &self,
        tasks: impl Iterator<Item = &'a Path>,
        script: impl FnOnce(&Path) -> String,
    ) -> io::Result<()> {
        let list = self.0.join(LIST);
        let lines: String = tasks.map(|folder| format!("{}\n", folder.display())).collect();
        fs::write(&list, lines).map_err(|e| at(e, &list))?;
        fs::write(self.script(), script(&list)).map_err(|e| at(e, &list))
    }

    /// The folders of its tasks.
    pub fn tasks(&self) -> Vec<PathBuf> {
        let list = fs::read_to_string(self.0.join(LIST)).unwrap_or_default();
        list.lines().map(PathBuf::from).collect()
    }

    /// Writes down Slurm's number for it. Without it Slurm is asked once more.
    pub fn note(&self, id: u64) {
        // Whole or not at all, for those who read it meanwhile.
        let new = self.0.join("id.new");
        let written =
            fs::write(&new, id.to_string()).and_then(|()| fs::rename(&new, self.0.join(ID)));
        if let Err(error) = written {
            say!("warning: job array {id} could not be noted: {error}");
        }
    }

    /// Slurm's number for it, as far as it was written down.
    pub fn id(&self) -> Option<u64> {
        fs::read_to_string(self.0.join(ID)).ok()?.trim().parse().ok()
    }

    /// Whether Slurm has it.
    pub fn whereabouts(&self) -> Whereabouts {
        if let Some(id) = self.id() {
            return Whereabouts::Sent(id);
        }
        if !self.0.join(LIST).exists() {
            return Whereabouts::Unsent;
        }
        match client::find(&self.comment()) {
            Ok(Some(id)) => {
                self.note(id);
                Whereabouts::Sent(id)
            }
            Ok(None) => Whereabouts::Unsent,
            Err(Why::Silent(what) | Why::Refused(what)) => Whereabouts::Unknown(what),
        }
    }

    /// What stands in the comment of its jobs.
    pub fn comment(&self) -> String {
        format!("dissim:{}", self.name())
    }

    /// What a job printed outside of its task: why a module could not be loaded, or that Slurm ended it.
    pub fn output_of(&self, id: JobId) -> Vec<u8> {
        let mut output = fs::read(self.0.join(format!("{}.out", id.index))).unwrap_or_default();
        output.truncate(LARGEST_OUTPUT);
        output
    }

    /// All its tasks are over.
    pub fn clear(&self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

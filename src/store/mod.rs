//! The content-addressed store under `cache/`.
//!
//! ```text
//! objects/ab/<digest>       blobs: files of artifacts, logs
//! trees/ab/<digest>.json    manifests: path -> blob, size; their digest names the artifact
//! records/ab/<key>.json     what a task key gave
//! latest/ab/<name>.json     the key last used under a task's name, for `why`
//! code/<digest>.json        code manifests, for `why`
//! failed/<key>.log          the log of the last attempt, where it failed
//! quarantine/               what `cache verify` found to be damaged
//! unchanged/*.bin           what a run with nothing to do rested on: rebuilt when lost
//! index.bin, stats.bin     what `stat` said of records and project files: rebuilt when lost
//! locks/, tmp/
//! ```
//!
//! Everything is written to `tmp/` and renamed; a record is written last. A crash at any instant
//! leaves a miss or a whole hit. What the tasks of a second or more made is synced before their
//! record; what shorter ones made is synced together at the end of the run, and looked at again where
//! the power failed before (see `durable`): a power failure may cost trivial tasks, never a wrong hit.

mod artifact;
mod bundle;
mod durable;
mod files;
mod gc;
mod index;
mod leftovers;
mod lock;
mod packed;
mod record;
mod scratch;
mod stat;
mod unchanged;
mod verify;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;

pub use artifact::{Entry, Tree};
pub use bundle::{Contents, Imported};
pub use files::FileDigests;
pub use gc::{Held, Leftovers, Plan, Policy, Swept, UseLock, now};
pub use index::{Hit, Index};
pub use lock::KeyLock;
pub use record::Record;
pub use scratch::RunFolder;
pub use unchanged::{Ground, Question, Unchanged};
pub use verify::{Damage, Verified};

/// A store in a folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    unsynced: Arc<Mutex<durable::Unsynced>>,
}

impl Store {
    /// Opens the store in `root`, and makes it where there is none.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: &Path) -> io::Result<Self> {
        for folder in ["objects", "trees", "records", "latest", "code", "failed", "locks", "tmp"] {
            fs::create_dir_all(root.join(folder)).map_err(|e| at(e, &root.join(folder)))?;
        }
        let store = Self { root: root.canonicalize()?, unsynced: Arc::default() };
        store.look_after_power_failure();
        Ok(store)
    }

    /// The folder it is in.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a blob is, whether or not it is there.
    #[must_use]
    pub fn object(&self, digest: &Digest) -> PathBuf {
        self.root.join("objects").join(digest.shard()).join(digest.as_str())
    }

    fn sharded(&self, folder: &str, digest: &Digest) -> PathBuf {
        self.root.join(folder).join(digest.shard()).join(format!("{digest}.json"))
    }

    /// Where the log of a failed attempt at a key is kept.
    #[must_use]
    pub fn failed_log(&self, key: &Digest) -> PathBuf {
        self.root.join("failed").join(format!("{key}.log"))
    }

    /// Writes a file as a whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.temporary(path, bytes)?;
        file.as_file().sync_all().map_err(|e| at(e, path))?;
        file.persist(path).map_err(|e| at(e.error, path))?;
        Ok(())
    }

    fn temporary(&self, path: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(|e| at(e, folder))?;
        let mut file = tempfile::Builder::new()
            .prefix("write-")
            .tempfile_in(self.root.join("tmp"))
            .map_err(|e| at(e, path))?;
        file.write_all(bytes).map_err(|e| at(e, path))?;
        Ok(file)
    }

    /// Writes a file as a whole or not at all, but not synced: what is lost with the power can be
    /// found out again, and what is damaged by it is seen when it is read: it is no JSON, or not what
    /// its digest says.
    pub(crate) fn write_hint(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.temporary(path, bytes)?.persist(path).map_err(|e| at(e.error, path))?;
        Ok(())
    }

    fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> io::Result<()> {
        self.write_hint(path, &serde_json::to_vec_pretty(value)?)
    }

    /// Keeps bytes as a blob, on the disk for good once a record of it is.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put(&self, bytes: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        let path = self.object(&digest);
        if !path.exists() {
            self.write_hint(&path, bytes)?;
        }
        Ok(digest)
    }
}

/// Reads JSON; a file that is not there, or is damaged, is none. Damage is said on stderr, since the
/// work behind it will be done again.
fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = fs::read(path).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            eprintln!("warning: {} is damaged and is not used: {error}", path.display());
            None
        }
    }
}

/// Makes a rename in a folder survive a power failure.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all().map_err(|e| at(e, folder))
}

/// An error that names the path.
pub(crate) fn at(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;

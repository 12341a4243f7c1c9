//! The content-addressed store under `cache/`.
//!
//! ```text
//! objects/ab/<digest>       blobs: files of artifacts, logs
//! trees/ab/<digest>.json    manifests: path -> blob, size; their digest names the artifact
//! records/ab/<key>.json     what a task key gave
//! latest/ab/<name>.json     the key last used under a task's name, for `why`
//! code/<digest>.json        code manifests, for `why`
//! failed/<key>.log          the log of the last attempt, where it failed
//! quarantine/               what was found to be damaged
//! unchanged/*.bin           what a run with nothing to do rested on: rebuilt when lost
//! index.bin, stats.bin     what `stat` said of records and project files: rebuilt when lost
//! locks/, tmp/
//! ```
//!
//! Everything is written to `tmp/` and renamed; a record is written last. A crash at any instant
//! leaves a miss or a whole hit. What the tasks of a second or more made is synced before their
//! record; what shorter ones made is synced together at the end of the run, and looked at again where
//! the power failed before (see `durable`): a power failure may cost trivial tasks, never a wrong hit.
//!
//! Everything proves itself when it is used: a manifest and a record when they are read, a blob when
//! it is handed to a task or published. What does not is put into quarantine, said, and made again.

mod artifact;
mod bundle;
mod damage;
mod durable;
mod files;
mod gc;
mod hash;
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
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use crate::digest::Digest;

pub use artifact::{Entry, Tree};
pub(crate) use artifact::{is_plain, quoted};
pub use bundle::{Contents, Durable, Imported};
pub use damage::Damaged;
pub use files::FileDigests;
pub use gc::{Held, Leftovers, Plan, Policy, Swept, UseLock, now};
pub use hash::{hash_in, mapped};
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
    proven: Arc<damage::Proven>,
    unsynced: Arc<Mutex<durable::Unsynced>>,
}

/// The largest manifest, record or other text of the store that is read into memory.
const LARGEST_TEXT: u64 = 256 << 20;

impl Store {
    /// Opens the store in `root`, and makes it where there is none.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: &Path) -> io::Result<Self> {
        for folder in ["objects", "trees", "records", "latest", "code", "failed", "locks", "tmp"] {
            fs::create_dir_all(root.join(folder)).map_err(|e| at(e, &root.join(folder)))?;
        }
        let root = root.canonicalize().map_err(|e| at(e, root))?;
        let store = Self { root, proven: Arc::default(), unsynced: Arc::default() };
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
        persist(file, path)
    }

    fn temporary(&self, path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(|e| at(e, folder))?;
        let mut file = self.owned_file(scratch::WRITE, "")?;
        file.write_all(bytes).map_err(|e| at(e, path))?;
        Ok(file)
    }

    /// Writes a file as a whole or not at all, but not synced: what is lost with the power can be
    /// found out again, and what is damaged by it is seen when it is read: it is no JSON, or not what
    /// its digest says.
    pub(crate) fn write_hint(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        persist(self.temporary(path, bytes)?, path)
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
        if !self.has(&digest, bytes.len() as u64) {
            self.write_hint(&self.object(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// What `parse` makes of a file of the store. None where there is no such file; one that `parse`
    /// refuses goes into quarantine, and that is said.
    fn read<T>(&self, path: &Path, parse: impl FnOnce(&[u8]) -> Result<T, String>) -> Option<T> {
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                say!("warning: {} cannot be read: {error}", path.display());
                return None;
            }
        };
        parse(&bytes).map_err(|what| self.set_aside(path, &what)).ok()
    }

    fn read_json<T: DeserializeOwned>(&self, path: &Path) -> Option<T> {
        self.read(path, |bytes| serde_json::from_slice(bytes).map_err(|e| e.to_string()))
    }
}

/// Reads a file into memory, but not any length of it.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_TEXT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_TEXT {
        let what = format!("it is larger than {} MB", LARGEST_TEXT >> 20);
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(bytes)
}

/// Gives a temporary file its name. By std's rename, as everything else that the store does: so the
/// tests can make it fail like the rest.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    let (_open, temporary) = file.into_parts();
    fs::rename(&temporary, path).map_err(|e| at(e, path))?;
    temporary.keep().map(drop).map_err(|e| at(e.error, path))
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

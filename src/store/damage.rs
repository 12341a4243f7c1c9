//! What is not what its name says: told, put into quarantine, and made again.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use thiserror::Error;

use super::stat::Stat;
use super::{Store, at, hash};
use crate::digest::Digest;

/// Something that an artifact needs is damaged or gone. The task that made the artifact is a miss
/// from now on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}: {what}", path.display())]
pub struct Damaged {
    /// Where it was, relative to the store.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl Damaged {
    /// The damage that an error is about, if it is about damage.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<Damaged> for io::Error {
    fn from(damaged: Damaged) -> Self {
        Self::new(io::ErrorKind::InvalidData, damaged)
    }
}

/// The blobs that this process has read and found to be what their names say.
#[derive(Debug, Default)]
pub(super) struct Proven(Mutex<HashMap<Digest, Stat>>);

impl Store {
    /// Whether a blob is there and its bytes are what its name says; read once in a process. One
    /// that is damaged is put into quarantine.
    pub(crate) fn has(&self, blob: &Digest, size: u64) -> bool {
        self.prove(blob, size).is_ok()
    }

    /// The same, with the reason.
    ///
    /// # Errors
    /// [`Damaged`] where it is gone or damaged; it is in quarantine then.
    pub(super) fn prove(&self, blob: &Digest, size: u64) -> io::Result<()> {
        let path = self.object(blob);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let what = "it is gone from the store".to_owned();
                return Err(Damaged { path: self.relative(&path), what }.into());
            }
            Err(error) => return Err(at(error, &path)),
        };
        let stat = Stat::of(&metadata);
        let known = || self.proven.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known().get(blob) == Some(&stat) {
            return Ok(());
        }
        let what = match metadata.len() {
            found if found != size => format!("it has {found} bytes, and had {size}"),
            _ => match hash::hash_file(&path, size).map_err(|e| at(e, &path))? {
                actual if actual == *blob => {
                    known().insert(blob.clone(), stat);
                    return Ok(());
                }
                _ => format!("its {size} bytes are not what its name says"),
            },
        };
        self.set_aside(&path, &what);
        Err(Damaged { path: self.relative(&path), what }.into())
    }

    /// Reads a blob again, by its path.
    ///
    /// # Errors
    /// Returns [`Damaged`] if it is gone or not what its name says; it is in quarantine then.
    pub(crate) fn prove_object(&self, object: &Path) -> io::Result<()> {
        let name = object.file_name().unwrap_or_default();
        let Some(digest) = Digest::read(name.as_encoded_bytes()) else { return Ok(()) };
        let size = fs::metadata(object).map_or(0, |metadata| metadata.len());
        self.prove(&digest, size)
    }

    /// A path as it is under the store.
    pub(super) fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_path_buf()
    }

    /// Puts a damaged file into quarantine and says so. Where it cannot be moved it stays, and is
    /// found again.
    pub(super) fn set_aside(&self, path: &Path, what: &str) {
        let relative = self.relative(path);
        let put = match self.quarantine(path, &relative) {
            Ok(()) => "moved to cache/quarantine".to_owned(),
            // Another runner was quicker.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            Err(error) => format!("not used, and not moved: {error}"),
        };
        say!("warning: {} is damaged: {what}; {put}", relative.display());
    }

    /// Moves a file out of the way, where somebody can still look at it.
    pub(super) fn quarantine(&self, path: &Path, relative: &Path) -> io::Result<()> {
        let target = self.root.join("quarantine").join(relative);
        let folder = target.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(|e| at(e, folder))?;
        fs::rename(path, &target).map_err(|e| at(e, path))
    }
}

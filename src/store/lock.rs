//! Locks: one a key, so that runners that share a store compute nothing twice, and one for every
//! file under `tmp/`, so that what the dead left can be told from what the living write.
//!
//! A lock is held by an open file, and the system lets go of it when the process dies, however it
//! does. The file itself goes with the lock: who holds it removes it, and who waited for it looks
//! whether the file is still there.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{Store, at};
use crate::digest::Digest;

/// Held while a task's key is being computed; let go when dropped, or when the process dies.
#[derive(Debug)]
pub struct KeyLock {
    path: PathBuf,
    _file: File,
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // Still held: who opened the file meanwhile finds it gone, and makes another.
        let _ = fs::remove_file(&self.path);
    }
}

/// What came of an attempt at a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// It is ours now.
    Ours,
    /// A living process has it.
    Others,
    /// It is ours, but the file it is on was removed meanwhile.
    Gone,
}

/// Tries to lock an open file.
pub(super) fn try_hold(file: &File) -> io::Result<Held> {
    loop {
        return match file.try_lock() {
            Ok(()) if file.metadata()?.nlink() == 0 => Ok(Held::Gone),
            Ok(()) => Ok(Held::Ours),
            Err(TryLockError::WouldBlock) => Ok(Held::Others),
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(TryLockError::Error(error)) => Err(error),
        };
    }
}

impl Store {
    /// The lock of a key, or none where another process holds it.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn try_lock(&self, key: &Digest) -> io::Result<Option<KeyLock>> {
        let path = self.root.join("locks").join(key.as_str());
        loop {
            let file = File::create(&path).map_err(|e| at(e, &path))?;
            match try_hold(&file).map_err(|e| at(e, &path))? {
                Held::Ours => return Ok(Some(KeyLock { path, _file: file })),
                Held::Others => return Ok(None),
                Held::Gone => {}
            }
        }
    }

    /// A new file under `tmp/` that says by its lock that who writes it lives.
    pub(super) fn owned_file(&self, prefix: &str, suffix: &str) -> io::Result<NamedTempFile> {
        self.owned_file_in(&self.root.join("tmp"), prefix, suffix)
    }

    /// The same in another folder.
    pub(super) fn owned_file_in(
        &self,
        folder: &Path,
        prefix: &str,
        suffix: &str,
    ) -> io::Result<NamedTempFile> {
        loop {
            let file = temporary_in(folder, prefix, suffix)?;
            // A sweep may have come between the two. Where there are no locks, age decides.
            match try_hold(file.as_file()) {
                Ok(Held::Gone | Held::Others) => {}
                Ok(Held::Ours) | Err(_) => return Ok(file),
            }
        }
    }
}

/// A new file that goes when it is dropped. As with any other file of the user's, the umask says who else may read it.
///
/// # Errors
/// Returns an error if the file cannot be made.
pub(crate) fn temporary_in(folder: &Path, prefix: &str, suffix: &str) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.permissions(Permissions::from_mode(0o666)).prefix(prefix).suffix(suffix);
    builder.tempfile_in(folder).map_err(|e| at(e, folder))
}

/// Whether the file at `path` was left by a process that is dead; with its lock held meanwhile, so
/// that only one process thinks so. None where it cannot be told.
pub(super) fn left_by_the_dead(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    match try_hold(&file) {
        Ok(Held::Ours) => Some(file),
        Ok(Held::Others | Held::Gone) => None,
        // A file system without locks: what is written at all is written within the hour.
        Err(_) => {
            let age = file.metadata().and_then(|m| m.modified()).ok()?.elapsed().ok()?;
            (age.as_secs() > 3600).then_some(file)
        }
    }
}

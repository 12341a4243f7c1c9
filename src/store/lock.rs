//! A lock a key, so that runners that share a store compute nothing twice.

use std::fs::{File, TryLockError};
use std::io;

use super::{Store, at};
use crate::digest::Digest;

/// Held while a task's key is being computed; let go when dropped, or when the process dies.
#[derive(Debug)]
pub struct KeyLock {
    _file: File,
}

impl Store {
    /// The lock of a key, or none where another process holds it.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn try_lock(&self, key: &Digest) -> io::Result<Option<KeyLock>> {
        let path = self.root.join("locks").join(key.as_str());
        let file = File::create(&path).map_err(|e| at(e, &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(KeyLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(at(error, &path)),
        }
    }
}

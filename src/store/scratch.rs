//! Folders that a run needs while it lasts, and checkpoints that outlive it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{Store, UseLock, at};
use crate::digest::Digest;

/// A runner's own folder under `tmp/`. Its lock says that the runner is alive; the folder goes when
/// this is dropped, or at the start of the next run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
    _in_use: UseLock,
}

const LOCK: &str = "alive";
const PREFIX: &str = "run-";

impl RunFolder {
    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Store {
    /// A folder for this run; what dead runners left is removed first.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn run_folder(&self) -> io::Result<RunFolder> {
        let in_use = self.lock_for_use()?;
        let tmp = self.root.join("tmp");
        self.sweep(&tmp);
        // Locked under another name first: a folder with the prefix is always locked by the living.
        let folder = tempfile::Builder::new().prefix("new-").tempdir_in(&tmp)?.keep();
        let lock = File::create(folder.join(LOCK)).map_err(|e| at(e, &folder))?;
        lock.lock()?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = tmp.join(name.replacen("new-", PREFIX, 1));
        fs::rename(&folder, &path).map_err(|e| at(e, &path))?;
        Ok(RunFolder { path, _lock: lock, _in_use: in_use })
    }

    /// Removes folders whose runner is dead, and half-written files of an hour ago.
    fn sweep(&self, tmp: &Path) {
        let Ok(entries) = fs::read_dir(tmp) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let dead = if name.starts_with(PREFIX) {
                let lock = File::open(entry.path().join(LOCK));
                lock.map_or(true, |file| file.try_lock().is_ok())
            } else if name.starts_with("write-") || name.starts_with("new-") {
                let modified = entry.metadata().and_then(|m| m.modified());
                modified.is_ok_and(|m| m.elapsed().is_ok_and(|e| e.as_secs() > 3600))
            } else {
                false
            };
            if dead {
                // What cannot be removed now is tried again by the next run.
                let _ = match entry.file_type() {
                    Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
                    _ => fs::remove_file(entry.path()),
                };
            }
        }
    }

    /// The scratch folder of a key: it survives a killed task.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self, key: &Digest) -> io::Result<PathBuf> {
        let path = self.root.join("tmp").join("scratch").join(key.as_str());
        fs::create_dir_all(&path).map_err(|e| at(e, &path))?;
        Ok(path)
    }
}

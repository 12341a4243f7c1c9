//! Folders that a run needs while it lasts, and checkpoints that outlive it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dissim_api::files;
use tempfile::NamedTempFile;

use super::lock::left_by_the_dead;
use super::{Store, UseLock, at};
use crate::digest::Digest;

/// A runner's own folder under `tmp/`. A locked file beside it says that the runner is alive; both
/// go when this is dropped, or at the start of the next run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    attempts: AtomicU64,
    /// Goes after the folder: a folder without it is nobody's.
    _alive: NamedTempFile,
    _in_use: UseLock,
}

/// What the names of run folders begin with.
const RUN: &str = "run-";
/// What the file beside a run folder ends with.
const ALIVE: &str = ".alive";
/// Suffix of the lock file that belongs to a run's live file.
const LOCK: &str = ".lock";
/// What the names of files that are being written begin with.
pub(super) const WRITE: &str = "write-";
/// The scratch folder of a task that nobody asked for again goes after this.
const ABANDONED: Duration = Duration::from_secs(30 * 86_400);

impl RunFolder {
    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes an empty folder for one attempt at a task. No other attempt ever has a folder of that name.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be made.
    pub fn attempt(&self) -> io::Result<PathBuf> {
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(number.to_string());
        fs::create_dir(&path).map_err(|e| at(e, &path))?;
        Ok(path)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let _ = files::remove_tree(&self.path);
    }
}

impl Store {
    /// A folder for this run; what dead runners left is removed first.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn run_folder(&self) -> io::Result<RunFolder> {
        let in_use = self.lock_for_use()?;
        self.sweep();
        // The file before the folder: at no instant is there a living runner's folder without it.
        let alive = self.owned_file(RUN, ALIVE)?;
        let path = alive.path().with_extension("");
        fs::create_dir(&path).map_err(|e| at(e, &path))?;
        Ok(RunFolder { path, attempts: AtomicU64::new(0), _alive: alive, _in_use: in_use })
    }

    /// Where runs say what they are doing, a file and a lock for each.
    pub(crate) fn live_folder(&self) -> PathBuf {
        self.root.join("runs").join("live")
    }

    /// A lock that says that a run lives.
    pub(crate) fn live_lock(&self) -> io::Result<NamedTempFile> {
        let folder = self.live_folder();
        fs::create_dir_all(&folder).map_err(|e| at(e, &folder))?;
        self.owned_file_in(&folder, "", LOCK)
    }

    /// Whether the run lives that wrote this file in the live folder.
    pub(crate) fn is_live(&self, file: &Path) -> bool {
        let lock = file.with_extension(LOCK.trim_start_matches('.'));
        lock.exists() && left_by_the_dead(&lock).is_none()
    }

    /// Removes what processes left that are dead: folders, half-written files, locks, and the
    /// scratch folders of tasks that are done. What cannot be removed is tried again by the next run.
    fn sweep(&self) {
        let tmp = self.root.join("tmp");
        for entry in fs::read_dir(&tmp).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if name.starts_with(WRITE) {
                remove_if_dead(&path);
            } else if name.starts_with(RUN) {
                sweep_run(&tmp.join(name.trim_end_matches(ALIVE)));
            }
        }
        for entry in fs::read_dir(self.root.join("locks")).into_iter().flatten().flatten() {
            if Digest::read(entry.file_name().as_encoded_bytes()).is_some() {
                remove_if_dead(&entry.path());
            }
        }
        for entry in fs::read_dir(self.live_folder()).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "json") {
                if !self.is_live(&path) {
                    let _ = fs::remove_file(&path);
                }
            } else {
                remove_if_dead(&path);
            }
        }
        for entry in fs::read_dir(tmp.join("scratch")).into_iter().flatten().flatten() {
            let Some(key) = Digest::read(entry.file_name().as_encoded_bytes()) else { continue };
            let done = self.sharded("records", &key).exists();
            let age =
                entry.metadata().and_then(|m| m.modified()).ok().and_then(|m| m.elapsed().ok());
            if (done || age.is_some_and(|age| age > ABANDONED))
                && let Ok(Some(_lock)) = self.try_lock(&key)
            {
                let _ = files::remove_tree(&entry.path());
            }
        }
    }

    fn scratch_of(&self, key: &Digest) -> PathBuf {
        self.root.join("tmp").join("scratch").join(key.as_str())
    }

    /// The scratch folder of a key: it survives a killed task.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self, key: &Digest) -> io::Result<PathBuf> {
        let path = self.scratch_of(key);
        fs::create_dir_all(&path).map_err(|e| at(e, &path))?;
        Ok(path)
    }
}

fn remove_if_dead(path: &Path) {
    if let Some(_held) = left_by_the_dead(path) {
        let _ = fs::remove_file(path);
    }
}

/// Removes the folder of a run, then the file beside it, where its runner is dead.
fn sweep_run(folder: &Path) {
    let mut alive = folder.as_os_str().to_owned();
    alive.push(ALIVE);
    let alive = Path::new(&alive);
    let _held = match File::open(alive) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        _ => match left_by_the_dead(alive) {
            Some(held) => Some(held),
            None => return,
        },
    };
    let _ = files::remove_tree(folder);
    let _ = fs::remove_file(alive);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn every_attempt_has_a_new_empty_folder() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let run = store.run_folder().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let attempt = run.attempt().unwrap();
            assert_eq!(fs::read_dir(&attempt).unwrap().count(), 0);
            fs::write(attempt.join("file"), "").unwrap();
            assert!(seen.insert(attempt.clone()), "{} twice", attempt.display());
            // Whether or not the one before is gone.
            if seen.len() % 2 == 0 {
                fs::remove_dir_all(attempt).unwrap();
            }
        }
    }

    #[test]
    fn folders_without_write_permission_go_with_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let run = store.run_folder().unwrap();
        let closed = run.attempt().unwrap().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("file"), "").unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        let path = run.path().to_path_buf();
        drop(run);
        assert!(!path.exists());
    }
}

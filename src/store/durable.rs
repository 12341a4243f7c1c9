//! What is on the disk for good, and what a power failure may still take.
//!
//! Syncing each file of a short task costs more than the task. So the files of tasks under a second are
//! not synced one by one: while a run has such files, a marker names this start of the machine, and at
//! its end they are synced together. Where a marker of an earlier start is found, the power failed in
//! between: every blob written since then is hashed, and what is not what its name says is removed.
//! After that look, as before it, a blob that is there is whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Store, at};
use crate::history::host;

const FOLDER: &str = "unsynced";
/// Up to so many files are synced one by one; beyond, the whole file system at once.
const FEW: usize = 16;

/// The files of a run that are not synced yet.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    files: Vec<PathBuf>,
    /// Whether a marker was there: of a run that was killed, or of one that goes on beside this.
    inherited: bool,
}

/// A name for this machine since it was last started; none where the system has none to give.
fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let word = |text: &str| {
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect::<String>()
    };
    Some(format!("{}.{}", word(&host()), word(id.trim())))
}

impl Store {
    /// Whether a file may stay unsynced until the run ends. The marker is there before it says yes.
    pub(super) fn may_wait(&self, file: &Path) -> bool {
        let mut unsynced = self.unsynced.lock().unwrap_or_else(|e| e.into_inner());
        if unsynced.files.is_empty() {
            match self.mark() {
                Ok(inherited) => unsynced.inherited = inherited,
                Err(_) => return false,
            }
        }
        unsynced.files.push(file.to_path_buf());
        true
    }

    /// True where a marker was there.
    fn mark(&self) -> io::Result<bool> {
        let boot = boot().ok_or_else(|| io::Error::other("no boot id"))?;
        let folder = self.root.join(FOLDER);
        fs::create_dir_all(&folder)?;
        // One that is there is older, and covers more.
        let marker = folder.join(boot);
        let inherited = marker.exists();
        if !inherited {
            File::create(&marker)?.sync_all()?;
            super::sync_folder(&folder)?;
        }
        Ok(inherited)
    }

    /// Syncs what waits, and takes the marker away where no other run may have files that wait.
    ///
    /// # Errors
    /// When a file cannot be synced; the marker stays then.
    pub fn sync(&self) -> io::Result<()> {
        let waiting = std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(|e| e.into_inner()));
        let Some(first) = waiting.files.first() else { return Ok(()) };
        if waiting.files.len() <= FEW && !waiting.inherited {
            for path in &waiting.files {
                // What was collected or put aside meanwhile needs no disk.
                match File::open(path) {
                    Ok(file) => file.sync_all().map_err(|e| at(e, path))?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(at(error, path)),
                }
            }
        } else {
            sync_all_of(&self.root).map_err(|e| at(e, first))?;
        }
        if let Some(boot) = boot()
            && let Some(_alone) = self.lock_alone()
        {
            let _ = fs::remove_file(self.root.join(FOLDER).join(boot));
        }
        Ok(())
    }

    /// After a power failure: removes blobs that it damaged. Says how many on stderr.
    pub(super) fn look_after_power_failure(&self) {
        let Ok(markers) = fs::read_dir(self.root.join(FOLDER)) else { return };
        let Some(boot) = boot() else { return };
        let host = boot.split('.').next().unwrap_or_default().to_owned();
        for marker in markers.flatten() {
            let name = marker.file_name().to_string_lossy().into_owned();
            // Another machine that shares the store looks after its own.
            if name == boot || name.split('.').next() != Some(&host) {
                continue;
            }
            let Ok(since) = marker.metadata().and_then(|m| m.modified()) else { continue };
            match self.remove_damaged_since(since) {
                Ok(removed) => {
                    let what = "the machine stopped while files were not on the disk yet";
                    say!("warning: {what}: {removed} were damaged, and their tasks run again");
                    let _ = fs::remove_file(marker.path());
                }
                Err(error) => say!("warning: files could not be looked at: {error}"),
            }
        }
    }

    fn remove_damaged_since(&self, since: SystemTime) -> io::Result<usize> {
        let mut removed = 0;
        for blob in self.files_of("objects")?.into_iter().filter(|blob| blob.modified >= since) {
            let actual = super::hash::hash_file(&blob.path, blob.size).ok();
            if actual.is_none() || actual != blob.digest {
                fs::remove_file(&blob.path).map_err(|e| at(e, &blob.path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Syncs the file system that a folder is on.
#[cfg(target_os = "linux")]
fn sync_all_of(folder: &Path) -> io::Result<()> {
    Ok(nix::unistd::syncfs(File::open(folder)?)?)
}

/// Syncs the file system that a folder is on.
#[cfg(not(target_os = "linux"))]
fn sync_all_of(_: &Path) -> io::Result<()> {
    nix::unistd::sync();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn a_power_failure_costs_a_task_and_no_wrong_hit() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (good, bad) = (Digest::of(b"good"), Digest::of(b"badly"));
        for (digest, bytes) in [(&good, "good"), (&bad, "\0\0\0\0\0")] {
            let path = store.object(digest);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let markers = folder.path().join(FOLDER);
        fs::create_dir_all(&markers).unwrap();
        let now = boot().expect("Linux has a boot id");
        let host = now.split('.').next().unwrap();
        let names = [now.clone(), format!("{host}.earlier"), "elsewhere.earlier".to_owned()];
        for name in &names {
            let marker = File::create(markers.join(name)).unwrap();
            marker.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        Store::open(folder.path()).unwrap();
        assert!(store.object(&good).exists() && !store.object(&bad).exists());
        let left = names.map(|name| markers.join(name).exists());
        assert_eq!(left, [true, false, true]);
    }

    #[test]
    fn a_marker_stands_as_long_as_files_wait() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let marker = folder.path().join(FOLDER).join(boot().unwrap());
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        for few in [1, FEW + 1] {
            for _ in 0..few {
                assert!(store.may_wait(&file));
            }
            assert!(marker.exists());
            // Another run may have files of its own that wait.
            let other = store.lock_for_use().unwrap();
            store.sync().unwrap();
            assert!(marker.exists());
            drop(other);
            assert!(store.may_wait(&file));
            store.sync().unwrap();
            assert!(!marker.exists());
        }
    }
}

//! Folders that a run needs while it lasts, and checkpoints that outlive it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tempfile::NamedTempFile;

use super::lock::left_by_the_dead;
use super::{Store, UseLock, at};
use crate::digest::Digest;

/// A runner's own folder under `tmp/`. A locked file beside it says that the runner is alive; both
/// go when this is dropped, or at the start of the next run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Task folders that are done with.
    spare: Mutex<Vec<PathBuf>>,
    /// Scratch folders that are done with, below this one.
    spare_scratch: Mutex<Vec<PathBuf>>,
    /// Goes after the folder: a folder without it is nobody's.
    _alive: NamedTempFile,
    _in_use: UseLock,
}

/// What the names of run folders begin with.
const RUN: &str = "run-";
/// What the file beside a run folder ends with.
const ALIVE: &str = ".alive";
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

    /// An empty folder for a task, but for an `output` without files and a `spec.json` to be written
    /// over. It is one that another task was done with, under a new name: where many files just went, ext4
    /// looks long for the inode of a new one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn take(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        let _ = fs::remove_dir_all(&path);
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if spare.is_none_or(|spare| fs::rename(spare, &path).is_err()) {
            fs::create_dir(&path).map_err(|e| at(e, &path))?;
        }
        Ok(path)
    }

    /// Takes the folder of a task back, of which no process is left.
    pub fn give_back(&self, path: PathBuf) {
        match strip(&path, &["output"], Some("spec.json")) {
            Ok(()) => self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(path),
            Err(_) => drop(fs::remove_dir_all(&path)),
        }
    }

    /// The scratch folder of a key that is locked: the one that a killed task left, or one that has at most
    /// empty folders that a command makes in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn take_scratch(&self, store: &Store, key: &Digest) -> io::Result<PathBuf> {
        let path = store.scratch_of(key);
        // A folder that is there is never replaced: a task that is being killed may hold it.
        if fs::symlink_metadata(&path).is_err() {
            let spare = self.spare_scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
            if spare.is_some_and(|spare| fs::rename(spare, &path).is_ok()) {
                return Ok(path);
            }
        }
        store.scratch(key)
    }

    /// Takes the scratch folder of a key back, which is done and still locked.
    pub fn give_back_scratch(&self, path: &Path, name: &str) {
        let spare = self.path.join(format!("scratch-{name}"));
        // Under another name first: this one is the key's, whoever asks for it next.
        match fs::rename(path, &spare).and_then(|()| strip(&spare, &["work", "keep"], None)) {
            Ok(()) => {
                self.spare_scratch.lock().unwrap_or_else(PoisonError::into_inner).push(spare);
            }
            Err(_) => {
                let _ = fs::remove_dir_all(path);
                let _ = fs::remove_dir_all(spare);
            }
        }
    }
}

/// Removes all that is in a folder.
fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }?;
    }
    Ok(())
}

/// Removes what a task left in a folder, but for folders, emptied, and a plain file, where they are as
/// the next task would make them.
fn strip(folder: &Path, empty: &[&str], plain: Option<&str>) -> io::Result<()> {
    let mode = fs::metadata(folder)?.mode();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        let name = entry.file_name();
        let kept = if metadata.is_dir() {
            empty.iter().any(|empty| name == *empty)
                && metadata.mode() == mode
                && clear(&path).is_ok()
        } else {
            plain.is_some_and(|plain| name == plain)
                && metadata.is_file()
                && metadata.nlink() == 1
                && !metadata.permissions().readonly()
        };
        if !kept && metadata.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if !kept {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
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
        self.sweep();
        // The file before the folder: at no instant is there a living runner's folder without it.
        let alive = self.owned_file(RUN, ALIVE)?;
        let path = alive.path().with_extension("");
        fs::create_dir(&path).map_err(|e| at(e, &path))?;
        Ok(RunFolder {
            path,
            spare: Mutex::default(),
            spare_scratch: Mutex::default(),
            _alive: alive,
            _in_use: in_use,
        })
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
        for entry in fs::read_dir(tmp.join("scratch")).into_iter().flatten().flatten() {
            let Some(key) = Digest::read(entry.file_name().as_encoded_bytes()) else { continue };
            let done = self.sharded("records", &key).exists();
            let age =
                entry.metadata().and_then(|m| m.modified()).ok().and_then(|m| m.elapsed().ok());
            if (done || age.is_some_and(|age| age > ABANDONED))
                && let Ok(Some(_lock)) = self.try_lock(&key)
            {
                let _ = fs::remove_dir_all(entry.path());
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
    let _ = fs::remove_dir_all(folder);
    let _ = fs::remove_file(alive);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_task_finds_nothing_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let run = store.run_folder().unwrap();
        let names = |path: &Path| {
            let entries = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name());
            let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        };
        // As every task leaves it: the same folder, under the next name.
        let first = run.take("1").unwrap();
        fs::create_dir_all(first.join("inputs/data/0")).unwrap();
        fs::create_dir(first.join("output")).unwrap();
        for file in ["spec.json", "log", "inputs/data/0/a"] {
            fs::write(first.join(file), "one").unwrap();
        }
        let inode = fs::metadata(&first).unwrap().ino();
        run.give_back(first.clone());
        let second = run.take("2").unwrap();
        assert_eq!((fs::metadata(&second).unwrap().ino(), first.exists()), (inode, false));
        assert_eq!(names(&second), ["output", "spec.json"]);
        assert_eq!(fs::read_dir(second.join("output")).unwrap().count(), 0);
        // What the next task would trip over goes: files in the output, another mode, links.
        fs::create_dir(second.join("output/below")).unwrap();
        fs::write(second.join("output/below/file"), "").unwrap();
        fs::remove_file(second.join("spec.json")).unwrap();
        symlink(folder.path().join("elsewhere"), second.join("spec.json")).unwrap();
        run.give_back(second);
        let third = run.take("3").unwrap();
        assert_eq!(names(&third), ["output"]);
        assert!(names(&third.join("output")).is_empty());
        fs::set_permissions(third.join("output"), fs::Permissions::from_mode(0o500)).unwrap();
        fs::write(third.join("spec.json"), "").unwrap();
        fs::hard_link(third.join("spec.json"), folder.path().join("another")).unwrap();
        run.give_back(third);
        assert!(names(&run.take("4").unwrap()).is_empty());
        // A scratch folder too; but one that is there is the key's own.
        let keys = [b"1", b"2", b"3"].map(|name| Digest::of(name));
        let first = run.take_scratch(&store, &keys[0]).unwrap();
        fs::create_dir_all(first.join("work/in")).unwrap();
        fs::write(first.join("checkpoint"), "").unwrap();
        let inode = fs::metadata(&first).unwrap().ino();
        run.give_back_scratch(&first, "1");
        fs::create_dir(store.scratch_of(&keys[1])).unwrap();
        let second = run.take_scratch(&store, &keys[1]).unwrap();
        assert_ne!(fs::metadata(&second).unwrap().ino(), inode);
        let third = run.take_scratch(&store, &keys[2]).unwrap();
        assert_eq!((fs::metadata(&third).unwrap().ino(), first.exists()), (inode, false));
        assert_eq!(names(&third), ["work"]);
        assert!(names(&third.join("work")).is_empty());
        // Two at once have two, and what a killed attempt left at that name goes.
        fs::write(run.path().join("4").join("half"), "").unwrap();
        assert!(names(&run.take("4").unwrap()).is_empty());
        assert_ne!(run.take("5").unwrap(), run.take("6").unwrap());
    }
}

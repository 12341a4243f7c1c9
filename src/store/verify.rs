//! Reads the whole store and puts aside what is not what its name says.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use dissim_api::Code;
use walkdir::WalkDir;

use super::{Record, Store, Tree, hash, read_bounded};
use crate::digest::Digest;

/// A file of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it is.
    pub path: PathBuf,
    /// The digest that its name says, if it says one.
    pub digest: Option<Digest>,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written.
    pub modified: SystemTime,
}

/// Something that is not what its name says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// Where it was, relative to the store.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

/// What a look at the whole store found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blobs that were read.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Records that were read.
    pub records: usize,
    /// What was put aside, sorted by path.
    pub damage: Vec<Damage>,
    /// Files that could not be read, sorted by path. They may be good, and stay where they are.
    pub unreadable: Vec<Damage>,
    /// Tasks whose artifact is not whole: they will run again.
    pub incomplete: Vec<String>,
}

impl Store {
    /// The files of `objects`, `trees`, `records` or another folder of the store.
    pub(super) fn files_of(&self, folder: &str) -> io::Result<Vec<Stored>> {
        let mut found = Vec::new();
        for entry in WalkDir::new(self.root.join(folder)).sort_by_file_name() {
            // A run beside this may have removed it since it was listed.
            let entry = match entry {
                Err(e) if is_gone(&e) => continue,
                entry => entry?,
            };
            if !entry.file_type().is_file() {
                continue;
            }
            let metadata = match entry.metadata() {
                Err(e) if is_gone(&e) => continue,
                metadata => metadata?,
            };
            let name = entry.file_name().to_string_lossy();
            let digest = Digest::try_from(name.trim_end_matches(".json").to_owned()).ok();
            let modified = metadata.modified()?;
            found.push(Stored { path: entry.into_path(), digest, size: metadata.len(), modified });
        }
        Ok(found)
    }

    /// Every record; none is left out.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be listed, or a record cannot be read or is of another version.
    pub(super) fn all_records(&self) -> io::Result<Vec<Record>> {
        let digests = self.files_of("records")?.into_iter().filter_map(|file| file.digest);
        digests.filter_map(|key| self.try_record(&key).transpose()).collect()
    }

    /// Every record that can be read.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be listed.
    pub fn records(&self) -> io::Result<Vec<Record>> {
        let digests = self.files_of("records")?.into_iter().filter_map(|file| file.digest);
        Ok(digests.filter_map(|key| self.record(&key)).collect())
    }

    /// Hashes every blob, reads every manifest and record, and moves what is damaged to
    /// `quarantine/`. What depended on it is a miss from then on, and is computed again.
    ///
    /// # Errors
    /// When a file cannot be listed or moved.
    pub fn verify(&self) -> io::Result<Verified> {
        let mut verified = Verified::default();
        let blobs = self.files_of("objects")?;
        verified.blobs = blobs.len();
        verified.bytes = blobs.iter().map(|b| b.size).sum();
        let mut found = check_all(&blobs, &blob_damage);
        found.extend(check_all(&self.files_of("trees")?, &tree_damage));
        found.extend(check_all(&self.files_of("code")?, &code_damage));
        let records = self.files_of("records")?;
        verified.records = records.len();
        found.extend(check_all(&records, &record_damage));
        for (path, fault) in found {
            let relative = self.relative(&path);
            match fault {
                Fault::Damaged(what) => match self.quarantine(&path, &relative) {
                    // A run beside this was quicker.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    moved => {
                        moved?;
                        verified.damage.push(Damage { path: relative, what });
                    }
                },
                Fault::Unreadable(what) => {
                    verified.unreadable.push(Damage { path: relative, what })
                }
            }
        }
        verified.damage.sort();
        verified.unreadable.sort();
        let lost = |record: &Record| self.whole(&record.artifact).is_none();
        verified.incomplete = self.records()?.into_iter().filter(lost).map(|r| r.task).collect();
        verified.incomplete.sort();
        Ok(verified)
    }

    /// Files in the store and the bytes that they take.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn disk_use(&self) -> io::Result<(usize, u64)> {
        let files = self.files_of("")?;
        Ok((files.len(), files.iter().map(|file| file.size).sum()))
    }
}

/// Whether an entry was removed between being listed and being looked at.
fn is_gone(error: &walkdir::Error) -> bool {
    // The folder that is walked must be there.
    error.depth() > 0 && error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// A problem with a file of the store.
#[derive(Debug)]
enum Fault {
    /// It is not what its name says.
    Damaged(String),
    /// It cannot be read: permissions, an error of the disk or the network, no more open files.
    Unreadable(String),
}

impl Fault {
    /// The problem with a file, given the result of reading it; `None` if there is no problem.
    fn of(read: io::Result<Result<(), String>>) -> Option<Self> {
        match read {
            Ok(Ok(())) => None,
            Ok(Err(what)) => Some(Self::Damaged(what)),
            // A run beside this removed it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) if e.kind() == io::ErrorKind::InvalidData => Some(Self::Damaged(e.to_string())),
            Err(e) => Some(Self::Unreadable(e.to_string())),
        }
    }
}

/// Runs a check over files on all cores; returns what is wrong.
fn check_all(
    files: &[Stored],
    check: &(dyn Fn(&Stored) -> Option<Fault> + Sync),
) -> Vec<(PathBuf, Fault)> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(what) = check(file) {
                        let mut found = found.lock().unwrap_or_else(|e| e.into_inner());
                        found.push((file.path.clone(), what));
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(|e| e.into_inner())
}

const NO_DIGEST: &str = "its name is no digest";

fn blob_damage(file: &Stored) -> Option<Fault> {
    let Some(named) = &file.digest else { return Some(Fault::Damaged(NO_DIGEST.to_owned())) };
    let wrong = format!("its {} bytes are not what its name says", file.size);
    Fault::of(
        hash::hash_file(&file.path, file.size)
            .map(|actual| if actual == *named { Ok(()) } else { Err(wrong) }),
    )
}

fn tree_damage(file: &Stored) -> Option<Fault> {
    let Some(named) = &file.digest else { return Some(Fault::Damaged(NO_DIGEST.to_owned())) };
    Fault::of(read_bounded(&file.path).map(|bytes| Tree::read(&bytes, named).map(drop)))
}

fn code_damage(file: &Stored) -> Option<Fault> {
    let named = file.digest.as_ref().map(Digest::as_str);
    Fault::of(read_bounded(&file.path).map(|bytes| match serde_json::from_slice::<Code>(&bytes) {
        Ok(code) if named == Some(code.digest().as_str()) => Ok(()),
        Ok(_) => Err("the code manifest is not what its name says".to_owned()),
        Err(error) => Err(format!("the code manifest cannot be read: {error}")),
    }))
}

fn record_damage(file: &Stored) -> Option<Fault> {
    let Some(named) = &file.digest else { return Some(Fault::Damaged(NO_DIGEST.to_owned())) };
    Fault::of(read_bounded(&file.path).map(|bytes| Record::read(&bytes, named).map(drop)))
}

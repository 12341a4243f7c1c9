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
    /// Tasks whose artifact is not whole: they will run again.
    pub incomplete: Vec<String>,
}

impl Store {
    /// The files of `objects`, `trees`, `records` or another folder of the store.
    pub(super) fn files_of(&self, folder: &str) -> io::Result<Vec<Stored>> {
        let mut found = Vec::new();
        for entry in WalkDir::new(self.root.join(folder)).sort_by_file_name() {
            let entry = match entry.map_err(io::Error::from) {
                Ok(entry) => entry,
                // A collection beside this may remove what was listed a moment ago.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if !entry.file_type().is_file() {
                continue;
            }
            // It may have gone since it was listed.
            let Ok(metadata) = entry.metadata() else { continue };
            let name = entry.file_name().to_string_lossy();
            let digest = Digest::try_from(name.trim_end_matches(".json").to_owned()).ok();
            let modified = metadata.modified()?;
            found.push(Stored { path: entry.into_path(), digest, size: metadata.len(), modified });
        }
        Ok(found)
    }

    /// Every record that can be read.
    ///
    /// # Errors
    /// When the folder cannot be listed.
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
        let mut damage = check_all(&blobs, &blob_damage);
        damage.extend(check_all(&self.files_of("trees")?, &tree_damage));
        damage.extend(check_all(&self.files_of("code")?, &code_damage));
        let records = self.files_of("records")?;
        verified.records = records.len();
        damage.extend(check_all(&records, &record_damage));
        for (path, what) in damage {
            let relative = self.relative(&path);
            self.quarantine(&path, &relative)?;
            verified.damage.push(Damage { path: relative, what });
        }
        verified.damage.sort();
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

/// Runs a check over files on all cores; returns those that are damaged, with the reason.
fn check_all(
    files: &[Stored],
    check: &(dyn Fn(&Stored) -> Option<String> + Sync),
) -> Vec<(PathBuf, String)> {
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

fn blob_damage(file: &Stored) -> Option<String> {
    let Some(named) = &file.digest else { return Some("its name is no digest".to_owned()) };
    match hash::hash_file(&file.path, file.size) {
        Ok(actual) if actual == *named => None,
        Ok(_) => Some(format!("its {} bytes are not what its name says", file.size)),
        Err(error) => Some(format!("it cannot be read: {error}")),
    }
}

fn tree_damage(file: &Stored) -> Option<String> {
    let Some(named) = &file.digest else { return Some("its name is no digest".to_owned()) };
    match read_bounded(&file.path) {
        Ok(bytes) => Tree::read(&bytes, named).err(),
        Err(error) => Some(format!("the manifest cannot be read: {error}")),
    }
}

fn code_damage(file: &Stored) -> Option<String> {
    let named = file.digest.as_ref().map(Digest::as_str);
    match read_bounded(&file.path).and_then(|b| Ok(serde_json::from_slice::<Code>(&b)?)) {
        Ok(code) if named == Some(code.digest().as_str()) => None,
        Ok(_) => Some("the code manifest is not what its name says".to_owned()),
        Err(error) => Some(format!("the code manifest cannot be read: {error}")),
    }
}

fn record_damage(file: &Stored) -> Option<String> {
    let Some(named) = &file.digest else { return Some("its name is no digest".to_owned()) };
    match read_bounded(&file.path) {
        Ok(bytes) => Record::read(&bytes, named).err(),
        Err(error) => Some(format!("the record cannot be read: {error}")),
    }
}

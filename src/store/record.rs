//! Records: what a task key gave.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;

use dissim_api::Code;
use serde::{Deserialize, Serialize};

use super::{Durable, Store, Tree, at};
use crate::digest::Digest;
use crate::key::Description;

/// A task that took this long is synced to the disk before it counts as done: quicker ones are
/// computed again after a power failure in less time than the syncs of all of them would take.
const SYNCED_FROM_S: f64 = 1.0;

/// What the store keeps for a task key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of this format.
    pub version: u32,
    /// The key.
    pub key: Digest,
    /// The name of the task that ran.
    pub task: String,
    /// What the key is a digest of.
    pub description: Description,
    /// The artifact.
    pub artifact: Digest,
    /// When it started, in seconds since 1970.
    pub started: u64,
    /// How long it took.
    pub duration_s: f64,
    /// The most memory its process held, by the operating system.
    pub peak_memory_bytes: u64,
    /// Where it ran.
    pub host: String,
    /// Its log, a blob.
    pub log: Digest,
    /// The numbers it reported.
    pub metrics: BTreeMap<String, Option<f64>>,
    /// The version of dissim.
    pub dissim: String,
    /// In the file: blake3 of the record without this. `None` in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Digest>,
}

/// What every version of a record has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// The key last used under a task's name.
#[derive(Debug, Serialize, Deserialize)]
struct Latest {
    task: String,
    key: Digest,
}

impl Record {
    /// The version this build writes and reads. Version 3 has manifests with links and empty folders, and
    /// inputs with their axes.
    pub const VERSION: u32 = 3;

    /// Reads the record of `key`; `None` if another version of dissim wrote it.
    ///
    /// # Errors
    /// Returns an error that says what is wrong with the record: every bit of it is accounted for.
    pub(super) fn read(bytes: &[u8], key: &Digest) -> Result<Option<Self>, String> {
        let cannot = |error: serde_json::Error| format!("the record cannot be read: {error}");
        let Versioned { version } = serde_json::from_slice(bytes).map_err(cannot)?;
        if version != Self::VERSION {
            return Ok(None);
        }
        let mut record: Self = serde_json::from_slice(bytes).map_err(cannot)?;
        if record.key != *key {
            return Err("the record is of another key".to_owned());
        }
        match record.check.take() {
            Some(check) if check != record.sum() => {
                return Err("the record is not what its checksum says".to_owned());
            }
            None => return Err("the record has lost its checksum".to_owned()),
            Some(_) => {}
        }
        if record.description.version != Description::VERSION || record.description.key() != *key {
            return Err("the record does not describe its key".to_owned());
        }
        Ok(Some(record))
    }

    /// The checksum that stands in the file.
    fn sum(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a record serialises"))
    }

    /// The bytes of the file, with the checksum.
    ///
    /// # Errors
    /// Returns an error if the record has no JSON, which no record is known to be.
    pub fn sealed(&self) -> io::Result<Vec<u8>> {
        let bare = Self { check: None, ..self.clone() };
        Ok(serde_json::to_vec_pretty(&Self { check: Some(bare.sum()), ..bare })?)
    }
}

impl Store {
    /// The record of a key, if there is one. Its artifact may be gone: ask [`Store::whole`].
    #[must_use]
    pub fn record(&self, key: &Digest) -> Option<Record> {
        self.read(&self.sharded("records", key), |bytes| Record::read(bytes, key))?
    }

    /// The record of a key, for whoever must tell a record that is not understood from one that is not
    /// there.
    ///
    /// # Errors
    /// Returns an error if the record is there and cannot be read or is of another version.
    pub(super) fn try_record(&self, key: &Digest) -> io::Result<Option<Record>> {
        let path = self.sharded("records", key);
        match self.try_read(&path, |bytes| Record::read(bytes, key))? {
            Some(None) => {
                let what = format!("{} is of another version of dissim", path.display());
                Err(io::Error::new(io::ErrorKind::Unsupported, what))
            }
            found => Ok(found.flatten()),
        }
    }

    /// Keeps a record, and that its key is the latest of its task. The artifact is there already. What a
    /// short task made may wait for [`Store::sync`] in any case.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_record(&self, record: &Record, code: &Code, durable: Durable) -> io::Result<()> {
        let path = self.root.join("code").join(format!("{}.json", record.description.code));
        if self.code(&record.description.code).is_none() {
            self.write_json(&path, code)?;
        }
        let may_wait = durable == Durable::Later || record.duration_s < SYNCED_FROM_S;
        self.write_record(record, may_wait)?;
        let _ = fs::remove_file(self.failed_log(&record.key));
        Ok(())
    }

    /// Keeps a record that was made elsewhere, and was checked; its blobs are there already. It can be
    /// had again, so it may wait for the disk as that of a short task may.
    ///
    /// # Errors
    /// When the manifest is not what the record says or not what the blobs are, or nothing can be
    /// written.
    pub(crate) fn adopt(&self, record: &Record, tree: &Tree) -> io::Result<()> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let manifest = serde_json::to_vec(tree)?;
        Tree::read(&manifest, &record.artifact).map_err(invalid)?;
        self.write_hint(&self.sharded("trees", &record.artifact), &manifest)?;
        if self.whole(&record.artifact).is_none() {
            return Err(invalid("its manifest gives blobs another size than they have".to_owned()));
        }
        self.write_record(record, true)
    }

    fn write_record(&self, record: &Record, may_wait: bool) -> io::Result<()> {
        // Before the record: after it, a crash would leave a hit whose task has no latest key.
        self.put_latest(&record.task, &record.key)?;
        let path = self.sharded("records", &record.key);
        let made = self.paths_of(&record.artifact, &record.log);
        // All are asked, so that the marker is there for each.
        if may_wait && made.iter().all(|file| self.may_wait(file)) {
            self.write_hint(&path, &record.sealed()?)?;
        } else {
            sync_files(&made)?;
            self.write(&path, &record.sealed()?)?;
            super::sync_folder(path.parent().unwrap_or(&path))?;
        }
        Ok(())
    }

    /// Whether the code manifest of that digest is kept.
    pub(crate) fn has_code(&self, digest: &Digest) -> bool {
        self.root.join("code").join(format!("{digest}.json")).exists()
    }

    /// The code manifest of that digest, if it is kept.
    #[must_use]
    pub fn code(&self, digest: &Digest) -> Option<Code> {
        self.read(&self.root.join("code").join(format!("{digest}.json")), |bytes| {
            let code: Code = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
            let right = code.digest() == digest.as_str();
            right.then_some(code).ok_or_else(|| "it is not what its name says".to_owned())
        })
    }

    /// The key last used under a task's name.
    #[must_use]
    pub fn latest(&self, task: &str) -> Option<Digest> {
        let latest: Latest =
            self.read_json(&self.sharded("latest", &Digest::of(task.as_bytes())))?;
        (latest.task == task).then_some(latest.key)
    }

    /// The key in a file under `latest/`.
    pub(super) fn latest_key(&self, path: &std::path::Path) -> Option<Digest> {
        self.read_json::<Latest>(path).map(|latest| latest.key)
    }

    /// Remembers the key last used under a task's name; writes only where it is another.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_latest(&self, task: &str, key: &Digest) -> io::Result<()> {
        if self.latest(task).as_ref() == Some(key) {
            return Ok(());
        }
        let latest = Latest { task: task.to_owned(), key: key.clone() };
        self.write_json(&self.sharded("latest", &Digest::of(task.as_bytes())), &latest)
    }
}

/// Makes files, and their names, survive a power failure.
fn sync_files(paths: &[PathBuf]) -> io::Result<()> {
    for path in paths {
        fs::File::open(path).and_then(|file| file.sync_all()).map_err(|e| at(e, path))?;
    }
    let folders: BTreeSet<_> = paths.iter().filter_map(|path| path.parent()).collect();
    folders.into_iter().try_for_each(super::sync_folder)
}

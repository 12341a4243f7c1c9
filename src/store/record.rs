//! Records: what a task key gave.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;

use dissim_api::Code;
use serde::{Deserialize, Serialize};

use super::{Store, at, read_json};
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
}

/// The key last used under a task's name.
#[derive(Debug, Serialize, Deserialize)]
struct Latest {
    task: String,
    key: Digest,
}

impl Record {
    /// The version this build writes.
    pub const VERSION: u32 = 1;
}

impl Store {
    /// The record of a key, if there is one. Its artifact may be gone: ask [`Store::whole`].
    #[must_use]
    pub fn record(&self, key: &Digest) -> Option<Record> {
        let record: Record = read_json(&self.sharded("records", key))?;
        // A record under a name that is not its own was put there by accident.
        (record.key == *key && record.version == Record::VERSION).then_some(record)
    }

    /// Keeps a record, and that its key is the latest of its task. The artifact is there already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_record(&self, record: &Record, code: &Code) -> io::Result<()> {
        let path = self.root.join("code").join(format!("{}.json", record.description.code));
        if !path.exists() {
            self.write_json(&path, code)?;
        }
        // Before the record: after it, a crash would leave a hit whose task has no latest key.
        self.put_latest(&record.task, &record.key)?;
        let path = self.sharded("records", &record.key);
        let made = self.paths_of(&record.artifact, &record.log);
        // All are asked, so that the marker is there for each.
        let waits =
            record.duration_s < SYNCED_FROM_S && made.iter().all(|file| self.may_wait(file));
        if waits {
            self.write_json(&path, record)?;
        } else {
            sync_files(&made)?;
            self.write(&path, &serde_json::to_vec_pretty(record)?)?;
            super::sync_folder(path.parent().unwrap_or(&path))?;
        }
        let _ = fs::remove_file(self.failed_log(&record.key));
        Ok(())
    }

    /// The code manifest of that digest, if it is kept.
    #[must_use]
    pub fn code(&self, digest: &Digest) -> Option<Code> {
        read_json(&self.root.join("code").join(format!("{digest}.json")))
    }

    /// The key last used under a task's name.
    #[must_use]
    pub fn latest(&self, task: &str) -> Option<Digest> {
        let latest: Latest = read_json(&self.sharded("latest", &Digest::of(task.as_bytes())))?;
        (latest.task == task).then_some(latest.key)
    }

    /// The key in a file under `latest/`.
    pub(super) fn latest_key(&self, path: &std::path::Path) -> Option<Digest> {
        read_json::<Latest>(path).map(|latest| latest.key)
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

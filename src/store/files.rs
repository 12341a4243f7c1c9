//! Digests of project files, remembered by what `stat` says of them, so that a run in which
//! nothing changed reads no file.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Store, artifact, read_json};
use crate::digest::Digest;

/// A file this young when it was hashed may change once more within the clock's resolution and look
/// the same: it is hashed again.
const SETTLED: Duration = Duration::from_secs(2);

/// What `stat` says of a file that has not changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stat {
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
    inode: u64,
    device: u64,
}

impl Stat {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    stat: Stat,
    digest: Digest,
}

/// The digests of the project's files.
#[derive(Debug)]
pub struct FileDigests {
    store: Store,
    known: BTreeMap<String, Known>,
    changed: bool,
    hashed: usize,
}

impl Store {
    /// The digests remembered from earlier runs.
    #[must_use]
    pub fn file_digests(&self) -> FileDigests {
        let known = read_json(&self.root.join("stats.json")).unwrap_or_default();
        FileDigests { store: self.clone(), known, changed: false, hashed: 0 }
    }
}

impl FileDigests {
    /// The digest of `root/file`; read only where it may have changed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn digest(&mut self, root: &Path, file: &Path) -> io::Result<Digest> {
        let path = root.join(file);
        let metadata = fs::metadata(&path).map_err(|e| super::at(e, file))?;
        let stat = Stat::of(&metadata);
        let name = path.to_string_lossy().into_owned();
        if let Some(known) = self.known.get(&name)
            && known.stat == stat
        {
            return Ok(known.digest.clone());
        }
        let now = SystemTime::now();
        self.hashed += 1;
        let digest = artifact::hash_file(&path, metadata.len()).map_err(|e| super::at(e, file))?;
        let settled =
            metadata.modified().is_ok_and(|m| now.duration_since(m).is_ok_and(|age| age > SETTLED));
        if settled {
            self.known.insert(name, Known { stat, digest: digest.clone() });
            self.changed = true;
        } else {
            self.changed |= self.known.remove(&name).is_some();
        }
        Ok(digest)
    }

    /// Files read so far.
    #[must_use]
    pub fn hashed(&self) -> usize {
        self.hashed
    }

    /// Remembers them for the next run, where anything changed.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn save(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        self.store.write_json(&self.store.root.join("stats.json"), &self.known)
    }
}

//! Digests of project files, remembered by what `stat` says of them, so that a run in which
//! nothing changed reads no file.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::packed::{Packer, Unpacker};
use super::stat::Stat;
use super::{Store, hash};
use crate::digest::Digest;

/// A file this young when it was hashed may change once more within the clock's resolution and look
/// the same: it is hashed again.
const SETTLED: Duration = Duration::from_secs(2);
const FILE: &str = "stats.bin";
const VERSION: u64 = 1;
/// The fewest bytes an entry takes.
const LEAST: usize = 100;

#[derive(Debug, Clone)]
struct Known {
    stat: Stat,
    digest: Digest,
}

/// The digests of the project's files. Many threads may ask at once.
#[derive(Debug)]
pub struct FileDigests {
    store: Store,
    known: HashMap<PathBuf, Known>,
    fresh: Mutex<Fresh>,
}

/// What was found out since the file was read.
#[derive(Debug, Default)]
struct Fresh {
    known: HashMap<PathBuf, Known>,
    hashed: usize,
}

impl Store {
    /// The digests remembered from earlier runs.
    #[must_use]
    pub fn file_digests(&self) -> FileDigests {
        let known = read(&self.root.join(FILE)).unwrap_or_default();
        FileDigests { store: self.clone(), known, fresh: Mutex::default() }
    }
}

impl FileDigests {
    /// The digest of `root/file`; read only where it may have changed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn digest(&self, root: &Path, file: &Path) -> io::Result<Digest> {
        let path = root.join(file);
        let metadata = fs::metadata(&path).map_err(|e| super::at(e, file))?;
        self.of(path, &metadata).map_err(|e| super::at(e, file))
    }

    /// The digest of a file whose metadata is at hand.
    pub(crate) fn of(&self, path: PathBuf, metadata: &Metadata) -> io::Result<Digest> {
        let stat = Stat::of(metadata);
        if let Some(known) = self.known.get(&path)
            && known.stat == stat
        {
            return Ok(known.digest.clone());
        }
        if let Some(known) = self.fresh().known.get(&path)
            && known.stat == stat
        {
            return Ok(known.digest.clone());
        }
        let now = SystemTime::now();
        let digest = hash::hash_file(&path, metadata.len())?;
        let settled =
            metadata.modified().is_ok_and(|m| now.duration_since(m).is_ok_and(|age| age > SETTLED));
        let mut fresh = self.fresh();
        fresh.hashed += 1;
        if settled {
            fresh.known.insert(path, Known { stat, digest: digest.clone() });
        }
        Ok(digest)
    }

    /// What `stat` said of a file when it was last asked for, if its digest is remembered.
    pub(super) fn stat_of(&self, path: &Path) -> Option<&Stat> {
        self.known.get(path).map(|known| &known.stat)
    }

    fn fresh(&self) -> std::sync::MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files read so far.
    #[must_use]
    pub fn hashed(&self) -> usize {
        self.fresh().hashed
    }

    /// Remembers them for the next run, where anything changed.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn save(&mut self) -> io::Result<()> {
        let fresh = std::mem::take(&mut self.fresh().known);
        if fresh.is_empty() {
            return Ok(());
        }
        self.known.extend(fresh);
        let mut packer = Packer::default();
        packer.number(self.known.len() as u64);
        for (path, known) in &self.known {
            // A path that is no text is only hashed again.
            let Some(path) = path.to_str() else { continue };
            packer.text(path);
            known.stat.pack(&mut packer);
            packer.digest(&known.digest);
        }
        self.store.write_hint(&self.store.root.join(FILE), &packer.seal(VERSION))
    }
}

fn read(path: &Path) -> Option<HashMap<PathBuf, Known>> {
    let mut from = Unpacker::open(path, VERSION)?;
    let count = usize::try_from(from.number()?).ok()?;
    let mut known = HashMap::with_capacity(count.min(from.most(LEAST)));
    while let Some(path) = from.text() {
        let path = PathBuf::from(path);
        let stat = Stat::unpack(&mut from)?;
        known.insert(path, Known { stat, digest: from.digest()? });
    }
    Some(known)
}

//! An index of records: what a no-op run has to know of them, in one file.
//!
//! Never trusted over the records. An entry counts only while `stat` says that the record and the
//! manifest are the very files it was made from; otherwise they are read again. The file may be
//! deleted, damaged or overwritten by another runner at any time: it is only slower then.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::packed::{Packer, Unpacker};
use super::stat::Stat;
use super::{Entry, Record, Store};
use crate::digest::Digest;

const FILE: &str = "index.bin";
const VERSION: u64 = 1;
/// The fewest bytes an entry takes.
const LEAST: usize = 72;

/// A task key whose artifact is whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The key.
    pub key: Digest,
    /// The artifact.
    pub artifact: Digest,
    /// How long it took to make, in seconds.
    pub duration_s: f64,
}

/// An entry: a hit, and the files that say so.
#[derive(Debug, Clone)]
struct Known {
    artifact: Digest,
    duration_s: f64,
    record: Stat,
    tree: Stat,
    blobs: Vec<(Digest, u64)>,
}

/// The index of a store, read once; many threads may ask at once.
#[derive(Debug)]
pub struct Index {
    store: Store,
    known: HashMap<Digest, Known>,
    fresh: Mutex<Fresh>,
}

/// What was found out since the file was read.
#[derive(Debug, Default)]
struct Fresh {
    known: HashMap<Digest, Known>,
    /// The key last used under a task's name, as far as the files under `latest/` were seen.
    latest: HashMap<String, Digest>,
    changed: bool,
    /// Whether it was said that something cannot be kept.
    complained: bool,
}

impl Store {
    /// The index as the last run left it; empty where it cannot be used.
    #[must_use]
    pub fn index(&self) -> Index {
        let (known, latest) = self.read_index().unwrap_or_default();
        let fresh = Mutex::new(Fresh { latest, ..Fresh::default() });
        Index { store: self.clone(), known, fresh }
    }

    fn read_index(&self) -> Option<(HashMap<Digest, Known>, HashMap<String, Digest>)> {
        let mut from = Unpacker::open(&self.root.join(FILE), VERSION)?;
        let count = usize::try_from(from.number()?).ok()?;
        let mut known = HashMap::with_capacity(count.min(from.most(LEAST)));
        for _ in 0..count {
            let key = from.digest()?;
            let artifact = from.digest()?;
            let duration_s = f64::from_bits(from.number()?);
            let (record, tree) = (Stat::unpack(&mut from)?, Stat::unpack(&mut from)?);
            let blobs = (0..from.number()?).map(|_| Some((from.digest()?, from.number()?)));
            let blobs = blobs.collect::<Option<_>>()?;
            known.insert(key, Known { artifact, duration_s, record, tree, blobs });
        }
        let count = usize::try_from(from.number()?).ok()?;
        let mut latest = HashMap::with_capacity(count.min(from.most(LEAST)));
        for _ in 0..count {
            latest.insert(from.text()?.to_owned(), from.digest()?);
        }
        Some((known, latest))
    }
}

impl Index {
    /// The hit for a key, if there is a record and its artifact is whole.
    #[must_use]
    pub fn look_up(&self, key: &Digest) -> Option<Hit> {
        let there = match self.known.get(key).filter(|known| self.is_current(key, known)) {
            Some(known) => known.clone(),
            None => {
                let found = self.find(key)?;
                let mut fresh = self.fresh();
                fresh.known.insert(key.clone(), found.clone());
                fresh.changed = true;
                found
            }
        };
        let lost = there.blobs.iter().find(|(blob, size)| !self.store.has(blob, *size));
        if let Some((blob, size)) = lost {
            // One of another size goes into quarantine.
            if let Err(error) = self.store.prove(blob, *size) {
                let task = self.store.record(key).map_or_else(|| key.to_string(), |r| r.task);
                say!("warning: {task} is not whole and runs again: {error}");
            }
            return None;
        }
        let Known { artifact, duration_s, .. } = there;
        Some(Hit { key: key.clone(), artifact, duration_s })
    }

    fn is_current(&self, key: &Digest, known: &Known) -> bool {
        self.stat("records", key).as_ref() == Some(&known.record)
            && self.stat("trees", &known.artifact).as_ref() == Some(&known.tree)
    }

    fn stat(&self, folder: &str, digest: &Digest) -> Option<Stat> {
        fs::metadata(self.store.sharded(folder, digest)).ok().map(|m| Stat::of(&m))
    }

    /// Reads the record and the manifest. They are asked for their stat first: what changes in
    /// between is read again the next time.
    fn find(&self, key: &Digest) -> Option<Known> {
        let record = self.stat("records", key)?;
        let Record { artifact, duration_s, .. } = self.store.record(key)?;
        let tree = self.stat("trees", &artifact)?;
        let files = self.store.tree(&artifact)?.files;
        let blobs = files.into_values().map(|Entry { digest, size, .. }| (digest, size)).collect();
        Some(Known { artifact, duration_s, record, tree, blobs })
    }

    /// Remembers the key last used under a task's name; writes only where it is another. Only `why`
    /// misses it: where it cannot be written, that is said once, and nobody is held up.
    pub fn put_latest(&self, task: &str, key: &Digest) {
        if self.fresh().latest.get(task) == Some(key) {
            return;
        }
        let written = self.store.put_latest(task, key);
        let mut fresh = self.fresh();
        match written {
            Ok(()) => {
                fresh.latest.insert(task.to_owned(), key.clone());
                fresh.changed = true;
            }
            Err(error) if !fresh.complained => {
                fresh.complained = true;
                say!("warning: the latest keys of tasks cannot be kept: {error}");
            }
            Err(_) => {}
        }
    }

    /// How long a task took the last time, by its name, if the index knows.
    #[must_use]
    pub fn past_duration(&self, task: &str) -> Option<f64> {
        let fresh = self.fresh();
        let key = fresh.latest.get(task)?;
        let known = fresh.known.get(key).or_else(|| self.known.get(key))?;
        Some(known.duration_s)
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the index for the next run, where anything is new.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&mut self) -> io::Result<()> {
        let fresh = std::mem::take(&mut *self.fresh());
        if !fresh.changed {
            self.fresh().latest = fresh.latest;
            return Ok(());
        }
        self.known.extend(fresh.known);
        let mut known = std::mem::take(&mut self.known);
        // What gc removed goes from here too.
        known.retain(|key, entry| self.is_current(key, entry));
        self.known = known;
        let mut packer = Packer::default();
        packer.number(self.known.len() as u64);
        for (key, known) in &self.known {
            packer.digest(key);
            packer.digest(&known.artifact);
            packer.number(known.duration_s.to_bits());
            known.record.pack(&mut packer);
            known.tree.pack(&mut packer);
            packer.number(known.blobs.len() as u64);
            for (blob, size) in &known.blobs {
                packer.digest(blob);
                packer.number(*size);
            }
        }
        packer.number(fresh.latest.len() as u64);
        for (task, key) in &fresh.latest {
            packer.text(task);
            packer.digest(key);
        }
        self.fresh().latest = fresh.latest;
        self.store.write_hint(&self.store.root.join(FILE), &packer.seal(VERSION))
    }
}

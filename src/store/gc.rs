//! What the store may forget. [`Policy::plan`] decides and touches nothing; [`Store::sweep_out`]
//! carries a plan out: records first, then manifests and blobs that no record needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Record, Store, at};
use crate::digest::Digest;

/// Which records stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Keys that stay whatever their age: those of the pipeline, in all its profiles.
    pub reachable: BTreeSet<Digest>,
    /// Others stay while they are younger than this.
    pub newer_than: Option<Duration>,
    /// Others stay, the youngest first, while all that stays fits into so many bytes.
    pub at_most: Option<u64>,
    /// Nothing this young goes: a run may be about to use it.
    pub grace: Duration,
}

/// A record as far as a policy looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its key.
    pub key: Digest,
    /// The task that made it.
    pub task: String,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// The blobs it needs, with their sizes.
    pub blobs: Vec<(Digest, u64)>,
}

/// What goes and what stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Records that go, the oldest first.
    pub goes: Vec<Held>,
    /// How many stay.
    pub stays: usize,
    /// Bytes of the blobs that those need.
    pub bytes_stay: u64,
    /// Bytes of the blobs that only what goes needs.
    pub bytes_go: u64,
}

impl Policy {
    /// Decides over `held` at time `now`, in seconds since 1970. A pure function of what it is given.
    ///
    /// Without `newer_than` and `at_most`, all that is not reachable goes.
    #[must_use]
    pub fn plan(&self, mut held: Vec<Held>, now: u64) -> Plan {
        // The youngest first; of one age, by key, so that the plan is always the same.
        held.sort_by(|a, b| (b.made, &a.key).cmp(&(a.made, &b.key)));
        let age = |h: &Held| Duration::from_secs(now.saturating_sub(h.made));
        let safe = |h: &Held| self.reachable.contains(&h.key) || age(h) < self.grace;
        let (safe, others): (Vec<_>, Vec<_>) = held.into_iter().partition(safe);
        let mut kept: BTreeMap<Digest, u64> = BTreeMap::new();
        for held in &safe {
            kept.extend(held.blobs.iter().cloned());
        }
        let mut total: u64 = kept.values().sum();
        let (mut stays, mut goes) = (safe.len(), Vec::new());
        for held in others {
            let young = match (self.newer_than, self.at_most) {
                (Some(limit), _) => age(&held) < limit,
                (None, Some(_)) => true,
                (None, None) => false,
            };
            let new: BTreeMap<_, _> = held
                .blobs
                .iter()
                .filter(|(digest, _)| !kept.contains_key(digest))
                .cloned()
                .collect();
            let more: u64 = new.values().sum();
            if young && self.at_most.is_none_or(|most| total + more <= most) {
                stays += 1;
                total += more;
                kept.extend(new);
            } else {
                goes.push(held);
            }
        }
        goes.reverse();
        let gone: BTreeMap<_, _> = goes
            .iter()
            .flat_map(|h| &h.blobs)
            .filter(|(digest, _)| !kept.contains_key(digest))
            .cloned()
            .collect();
        Plan { goes, stays, bytes_stay: total, bytes_go: gone.values().sum() }
    }
}

/// What a sweep removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Records.
    pub records: usize,
    /// Blobs.
    pub blobs: usize,
    /// Logs of failures, scratch folders, locks and the like.
    pub leftovers: usize,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Error messages of files that could not be removed.
    pub refused: Vec<String>,
}

impl Swept {
    pub(super) fn refuse(&mut self, error: io::Error) {
        self.refused.push(error.to_string());
    }
}

/// What a sweep would remove beside records and what they need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// How many files and folders.
    pub count: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that no record needs, neither one that stays nor one that goes.
    pub orphans: usize,
    /// Their bytes.
    pub orphan_bytes: u64,
}

/// A manifest, blob or code manifest that no record needs.
struct Unneeded {
    path: PathBuf,
    size: u64,
    is_blob: bool,
}

/// Held by every run, shared; by a sweep, alone.
#[derive(Debug)]
pub struct UseLock {
    _file: File,
}

impl Store {
    /// Says that the store is in use, for as long as the lock is held. Waits for a sweep to end.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn lock_for_use(&self) -> io::Result<UseLock> {
        let (file, path) = self.use_lock_file()?;
        file.lock_shared().map_err(|e| at(e, &path))?;
        Ok(UseLock { _file: file })
    }

    /// The store alone, for as long as this is held; none where a run is using it.
    pub(super) fn lock_alone(&self) -> Option<UseLock> {
        let (file, _) = self.use_lock_file().ok()?;
        file.try_lock().is_ok().then_some(UseLock { _file: file })
    }

    fn use_lock_file(&self) -> io::Result<(File, PathBuf)> {
        let path = self.root.join("locks").join("use");
        let file = match File::options().write(true).create(true).truncate(false).open(&path) {
            // The file belongs to another user. Read permission is enough to lock it.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => File::open(&path),
            opened => opened,
        };
        Ok((file.map_err(|e| at(e, &path))?, path))
    }

    /// Every record, as far as a policy looks at it. One whose manifest is gone needs its log alone.
    ///
    /// # Errors
    /// Returns an error if a folder cannot be listed, or if a record or a manifest cannot be read or is of another
    /// version: nothing is known of what it needs, and so nothing may be removed.
    pub fn held(&self) -> io::Result<Vec<Held>> {
        let held = |record: Record| -> io::Result<Held> {
            let tree = self.try_tree(&record.artifact)?.unwrap_or_default();
            let log = fs::metadata(self.object(&record.log)).map_or(0, |m| m.len());
            let mut blobs: Vec<_> =
                tree.files.into_values().map(|entry| (entry.digest, entry.size)).collect();
            blobs.push((record.log, log));
            Ok(Held { key: record.key, task: record.task, made: record.started, blobs })
        };
        self.all_records()?.into_iter().map(held).collect()
    }

    /// Manifests, blobs and code manifests that none of `records` needs and that are old enough to go.
    fn unneeded(
        &self,
        policy: &Policy,
        records: impl Iterator<Item = Record>,
    ) -> io::Result<Vec<Unneeded>> {
        let (mut artifacts, mut codes) = (BTreeSet::new(), BTreeSet::new());
        let mut needed: BTreeSet<Digest> = BTreeSet::new();
        for record in records {
            needed.insert(record.log);
            // The code that a run copied: what made the artifact can be looked at, and run again.
            needed.extend(record.description.files.into_values());
            codes.insert(record.description.code);
            artifacts.insert(record.artifact);
        }
        for artifact in &artifacts {
            let tree = self.try_tree(artifact)?.unwrap_or_default();
            needed.extend(tree.files.into_values().map(|entry| entry.digest));
        }
        // A file that landed before its record did may be of a program that does not hold the lock.
        let now = SystemTime::now();
        let old = |file: &super::verify::Stored| {
            now.duration_since(file.modified).is_ok_and(|age| age >= policy.grace)
        };
        let mut unneeded = Vec::new();
        for (folder, keep) in [("trees", &artifacts), ("code", &codes), ("objects", &needed)] {
            let files = self.files_of(folder)?.into_iter();
            let goes =
                files.filter(|f| f.digest.as_ref().is_some_and(|d| !keep.contains(d)) && old(f));
            unneeded.extend(goes.map(|file| Unneeded {
                path: file.path,
                size: file.size,
                is_blob: folder == "objects",
            }));
        }
        Ok(unneeded)
    }

    /// What runs left that would go with a plan: logs of failures, scratch folders of keys that the
    /// pipeline cannot use, keys of task names that have no record, locks, runs beyond a thousand.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn leftovers_of(&self, policy: &Policy, plan: &Plan) -> io::Result<Leftovers> {
        let goes: BTreeSet<&Digest> = plan.goes.iter().map(|held| &held.key).collect();
        let records: Vec<Record> =
            self.all_records()?.into_iter().filter(|record| !goes.contains(&record.key)).collect();
        let keys = records.iter().map(|record| record.key.clone()).collect();
        let leftovers = self.leftovers_that_go(policy, &keys)?;
        let unneeded = self.unneeded(policy, records.into_iter())?;
        // The blobs of the records that go are counted with those.
        let planned: BTreeSet<PathBuf> = plan
            .goes
            .iter()
            .flat_map(|held| held.blobs.iter().map(|(blob, _)| self.object(blob)))
            .collect();
        let blobs = unneeded.iter().filter(|file| file.is_blob && !planned.contains(&file.path));
        let (orphans, orphan_bytes) =
            blobs.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.size));
        Ok(Leftovers {
            count: leftovers.len(),
            bytes: leftovers.iter().map(|leftover| leftover.bytes).sum(),
            orphans,
            orphan_bytes,
        })
    }

    fn leftovers_that_go(
        &self,
        policy: &Policy,
        records: &BTreeSet<Digest>,
    ) -> io::Result<Vec<super::leftovers::Leftover>> {
        let mut leftovers = self.leftovers()?;
        leftovers.retain(|leftover| leftover.goes(policy, records));
        Ok(leftovers)
    }

    /// Removes what a plan says, then the manifests, blobs and code manifests that no record needs.
    /// None where a run is using the store: then nothing is removed.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn sweep_out(&self, policy: &Policy, plan: &Plan) -> io::Result<Option<Swept>> {
        let (lock, path) = self.use_lock_file()?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(at(error, &path)),
        }
        let goes: BTreeSet<&Digest> = plan.goes.iter().map(|held| &held.key).collect();
        let records: Vec<Record> =
            self.all_records()?.into_iter().filter(|record| !goes.contains(&record.key)).collect();
        let keys = records.iter().map(|record| record.key.clone()).collect();
        // Everything is known before the first file goes.
        let leftovers = self.leftovers_that_go(policy, &keys)?;
        let unneeded = self.unneeded(policy, records.into_iter())?;
        let mut swept = Swept::default();
        for held in &plan.goes {
            if remove(&self.sharded("records", &held.key), &mut swept) {
                swept.records += 1;
            }
        }
        self.remove_leftovers(&leftovers, &mut swept);
        for file in unneeded {
            if remove(&file.path, &mut swept) && file.is_blob {
                swept.blobs += 1;
                swept.bytes += file.size;
            }
        }
        Ok(Some(swept))
    }
}

/// Removes a file. If that fails, the error is added to `swept`, and the caller goes on.
pub(super) fn remove(path: &std::path::Path, swept: &mut Swept) -> bool {
    match fs::remove_file(path) {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(error) => {
            swept.refuse(at(error, path));
            false
        }
    }
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400;

    fn held(name: &str, days_old: u64, blobs: &[(&str, u64)]) -> Held {
        Held {
            key: Digest::of(name.as_bytes()),
            task: name.to_owned(),
            made: 1000 * DAY - days_old * DAY,
            blobs: blobs.iter().map(|(b, size)| (Digest::of(b.as_bytes()), *size)).collect(),
        }
    }

    fn all() -> Vec<Held> {
        vec![
            held("old", 90, &[("a", 10), ("shared", 5)]),
            held("middle", 30, &[("b", 20)]),
            held("young", 2, &[("c", 40), ("shared", 5)]),
            held("fresh", 0, &[("d", 80)]),
        ]
    }

    fn goes(policy: &Policy) -> (Vec<String>, u64, u64) {
        let plan = policy.plan(all(), 1000 * DAY);
        assert_eq!(plan.stays + plan.goes.len(), 4);
        let names = plan.goes.into_iter().map(|h| h.task).collect();
        (names, plan.bytes_stay, plan.bytes_go)
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn without_limits_all_that_is_not_reachable_goes() {
        let reachable = BTreeSet::from([Digest::of(b"young")]);
        let policy = Policy { reachable, ..Policy::default() };
        assert_eq!(goes(&policy), (names(&["old", "middle", "fresh"]), 45, 110));
        // What is within its grace stays.
        let policy = Policy { grace: Duration::from_secs(3600), ..policy };
        assert_eq!(goes(&policy), (names(&["old", "middle"]), 125, 30));
    }

    #[test]
    fn age_and_size_bound_what_is_not_reachable() {
        let newer = Policy { newer_than: Some(Duration::from_secs(31 * DAY)), ..Policy::default() };
        assert_eq!(goes(&newer), (names(&["old"]), 145, 10));
        let small = Policy { at_most: Some(126), ..Policy::default() };
        assert_eq!(goes(&small), (names(&["old", "middle"]), 125, 30));
        let none = Policy { at_most: Some(0), ..Policy::default() };
        assert_eq!(goes(&none).0.len(), 4);
        let reachable = BTreeSet::from([Digest::of(b"old")]);
        assert_eq!(goes(&Policy { reachable, ..none }).0, names(&["middle", "young", "fresh"]));
    }

    proptest! {
        /// The limits hold, what is reachable stays, and no blob of what stays is counted as going.
        #[test]
        fn limits_hold(
            records in prop::collection::vec((0u64..100, prop::collection::vec(0u8..12, 0..4), any::<bool>()), 0..20),
            days in prop::option::of(0u64..100),
            most in prop::option::of(0u64..120),
        ) {
            let mut reachable = BTreeSet::new();
            let held: Vec<Held> = records.iter().enumerate().map(|(i, (age, blobs, reach))| {
                let blobs: Vec<_> = blobs.iter().map(|b| (format!("{b}"), u64::from(*b))).collect();
                let blobs: Vec<_> = blobs.iter().map(|(n, s)| (n.as_str(), *s)).collect();
                let held = held(&format!("t{i}"), *age, &blobs);
                if *reach { reachable.insert(held.key.clone()); }
                held
            }).collect();
            let newer_than = days.map(|d| Duration::from_secs(d * DAY));
            let policy = Policy { reachable: reachable.clone(), newer_than, at_most: most, grace: Duration::ZERO };
            let plan = policy.plan(held.clone(), 1000 * DAY);
            let gone: BTreeSet<_> = plan.goes.iter().map(|h| h.key.clone()).collect();
            prop_assert!(gone.is_disjoint(&reachable));
            let stay = held.iter().filter(|h| !gone.contains(&h.key));
            let blobs: BTreeMap<_, _> = stay.clone().flat_map(|h| h.blobs.clone()).collect();
            let bytes: u64 = blobs.values().sum();
            prop_assert_eq!(bytes, plan.bytes_stay);
            let all: BTreeMap<_, _> = held.iter().flat_map(|h| h.blobs.clone()).collect();
            prop_assert_eq!(all.values().sum::<u64>(), plan.bytes_stay + plan.bytes_go);
            let must: BTreeMap<_, _> = held.iter().filter(|h| reachable.contains(&h.key)).flat_map(|h| h.blobs.clone()).collect();
            if let Some(most) = most {
                prop_assert!(bytes <= most.max(must.values().sum()));
            }
            for h in stay.filter(|h| !reachable.contains(&h.key)) {
                prop_assert!(days.is_none_or(|d| h.made > 1000 * DAY - d * DAY));
            }
        }
    }
}

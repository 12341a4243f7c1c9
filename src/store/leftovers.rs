//! What runs leave beside records: logs of failures, keys by task name, scratch folders, lock files,
//! the history of runs. [`Leftover::goes`] decides and touches nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dissim_api::files;
use walkdir::WalkDir;

use super::{Policy, Store, Swept, at};
use crate::digest::Digest;

/// So many runs are remembered.
const RUNS: usize = 1000;

/// The folder of a job that no runner came back for goes after this.
const ABANDONED_JOB: Duration = Duration::from_secs(30 * 86_400);

/// What a leftover is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    /// The key last used under a task's name, which is the digest here.
    Latest,
    /// The log of a failed attempt at a key.
    FailedLog,
    /// The scratch folder of a key: a checkpoint.
    Scratch,
    /// The lock file of a key.
    Lock,
    /// The folder of a cluster's job, or of an array of them, that nobody came back for.
    Job,
    /// A run of the history beyond those that are remembered, or keys that no run has.
    History,
}

/// A file or folder that no record needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub sort: Sort,
    pub path: PathBuf,
    pub key: Option<Digest>,
    pub bytes: u64,
    pub age: Duration,
}

impl Leftover {
    /// Whether it may go: nothing that the pipeline can still use does. `records` are the keys that
    /// have a record, once those that go are gone.
    pub(crate) fn goes(&self, policy: &Policy, records: &BTreeSet<Digest>) -> bool {
        let is_in = |set: &BTreeSet<Digest>| self.key.as_ref().is_some_and(|key| set.contains(key));
        self.age >= policy.grace
            && match self.sort {
                Sort::Latest => !is_in(records) && !is_in(&policy.reachable),
                Sort::FailedLog | Sort::Scratch => !is_in(&policy.reachable),
                // Its result may still be on its way, unless there is a record.
                Sort::Job => is_in(records) || self.age >= ABANDONED_JOB,
                Sort::Lock | Sort::History => true,
            }
    }
}

impl Store {
    /// All there are.
    pub(crate) fn leftovers(&self) -> io::Result<Vec<Leftover>> {
        let now = SystemTime::now();
        let age = |modified: SystemTime| now.duration_since(modified).unwrap_or_default();
        let mut found = Vec::new();
        for file in self.files_of("latest")? {
            let key = self.latest_key(&file.path);
            found.push((Sort::Latest, file, key));
        }
        for file in self.files_of("failed")? {
            let name = file.path.file_stem().unwrap_or_default().to_string_lossy();
            let key = Digest::try_from(name.into_owned()).ok();
            found.push((Sort::FailedLog, file, key));
        }
        for file in self.files_of("locks")? {
            let key = file.digest.clone();
            if key.is_some() {
                found.push((Sort::Lock, file, key));
            }
        }
        let forgotten = self.forgotten_runs();
        for file in self.files_of("runs").unwrap_or_default() {
            if forgotten.contains(&file.path) {
                found.push((Sort::History, file, None));
            }
        }
        let of_file = |(sort, file, key): (Sort, super::verify::Stored, Option<Digest>)| Leftover {
            sort,
            key,
            bytes: file.size,
            age: age(file.modified),
            path: file.path,
        };
        let mut all: Vec<Leftover> = found.into_iter().map(of_file).collect();
        let folders = [
            (Sort::Scratch, self.root().join("tmp").join("scratch")),
            (Sort::Job, self.root().join("jobs")),
            (Sort::Job, self.root().join("jobs").join("arrays")),
        ];
        let entries = folders.into_iter().flat_map(|(sort, folder)| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(move |entry| (sort, entry))
        });
        for (sort, entry) in entries.filter(|(_, entry)| entry.file_name() != "arrays") {
            let key = Digest::try_from(entry.file_name().to_string_lossy().into_owned()).ok();
            let (bytes, modified) = size_of(&entry.path());
            let modified = modified.or_else(|| entry.metadata().and_then(|m| m.modified()).ok());
            all.push(Leftover {
                sort,
                path: entry.path(),
                key,
                bytes,
                age: modified.map_or(Duration::ZERO, age),
            });
        }
        Ok(all)
    }

    /// Runs beyond the latest [`RUNS`], and lists of keys that none of those has.
    fn forgotten_runs(&self) -> BTreeSet<PathBuf> {
        let runs = self.run_records();
        let (old, kept) = runs.split_at(runs.len().saturating_sub(RUNS));
        let folder = self.root().join("runs");
        let keys = |run: &crate::history::RunRecord| folder.join(format!("keys/{}.json", run.keys));
        let needed: BTreeSet<PathBuf> = kept.iter().map(keys).collect();
        let lists = fs::read_dir(folder.join("keys")).into_iter().flatten().flatten();
        let unused = lists.map(|entry| entry.path()).filter(|path| !needed.contains(path));
        old.iter().map(|run| folder.join(format!("{}.json", run.id))).chain(unused).collect()
    }

    /// Removes leftovers. Errors are added to `swept`, and the remaining leftovers are removed all the same.
    pub(super) fn remove_leftovers(&self, leftovers: &[Leftover], swept: &mut Swept) {
        for leftover in leftovers {
            let removed = match leftover.sort {
                Sort::Scratch | Sort::Job => match files::remove_tree(&leftover.path) {
                    Ok(()) => true,
                    Err(error) => {
                        swept.refuse(at(error, &leftover.path));
                        false
                    }
                },
                _ => super::gc::remove(&leftover.path, swept),
            };
            if removed {
                swept.leftovers += 1;
                swept.bytes += leftover.bytes;
            }
        }
    }
}

/// The bytes of the files under a folder, as far as it can be looked into, and the time of the youngest.
fn size_of(folder: &Path) -> (u64, Option<SystemTime>) {
    let files =
        WalkDir::new(folder).into_iter().flatten().filter_map(|entry| entry.metadata().ok());
    files.filter(std::fs::Metadata::is_file).fold((0, None), |(bytes, youngest), file| {
        (bytes + file.len(), youngest.max(file.modified().ok()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_that_the_pipeline_can_use() {
        let [reachable, recorded, neither] = [b"a", b"b", b"c"].map(|name| Digest::of(name));
        let policy = Policy {
            reachable: BTreeSet::from([reachable.clone()]),
            grace: Duration::from_secs(60),
            ..Policy::default()
        };
        let records = BTreeSet::from([recorded.clone()]);
        let goes = |sort, key: &Digest, age| {
            let path = PathBuf::new();
            let key = Some(key.clone());
            let leftover = Leftover { sort, path, key, bytes: 1, age: Duration::from_secs(age) };
            leftover.goes(&policy, &records)
        };
        for sort in [Sort::Latest, Sort::FailedLog, Sort::Scratch] {
            assert!(!goes(sort, &reachable, 100) && goes(sort, &neither, 100));
            assert!(!goes(sort, &neither, 59), "{sort:?} within its grace");
        }
        // A record may be of an older key of the same task: `why` compares with it.
        assert!(!goes(Sort::Latest, &recorded, 100));
        // A task that is done needs neither log of a failure nor checkpoint.
        assert!(goes(Sort::FailedLog, &recorded, 100) && goes(Sort::Scratch, &recorded, 100));
        // A job may still bring what the pipeline waits for.
        assert!(goes(Sort::Job, &recorded, 100) && !goes(Sort::Job, &neither, 100));
        assert!(goes(Sort::Job, &reachable, 31 * 86_400));
        assert!(goes(Sort::Lock, &reachable, 100) && !goes(Sort::Lock, &neither, 0));
    }
}

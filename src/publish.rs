//! Copies the artifacts of published stages to `reports/`.
//!
//! `.published.json` remembers which files came from here. A file that an earlier run put there and
//! this one does not is removed; a file that the user put there stays. A page gets its provenance on
//! the way; one that is there already, of a run that computed nothing, stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::execute::Summary;
use crate::graph::{Study, TaskId};
use crate::history::RunRecord;
use crate::provenance::{self, Behind};
use crate::store::{Entry, Store, at, is_plain, make_ignored_folder, persist, temporary_in};

const MEMORY: &str = ".published.json";

/// A published file as it was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Published {
    digest: Digest,
    size: u64,
    mtime: (i64, i64),
}

/// Publishes what a run left; returns the page to open, if there is one. `run` is the run as it was
/// recorded.
///
/// # Errors
/// When a file cannot be written.
pub fn publish(
    study: &Study,
    store: &Store,
    summary: &Summary,
    run: Option<&RunRecord>,
) -> io::Result<Option<PathBuf>> {
    let folder = study.root.join("reports");
    let published: Vec<_> = study.stages.iter().filter(|s| s.stage.traits().published).collect();
    let mut wanted: BTreeMap<String, Entry> = BTreeMap::new();
    for stage in &published {
        for task in stage.tasks.clone() {
            let Some(artifact) = summary.artifacts.get(&task) else { continue };
            let tree = store.tree(artifact).unwrap_or_default();
            let alone = published.len() == 1 && stage.tasks.len() == 1;
            // A value in a task's name may be a path; the folder is one all the same.
            let name = study.tasks[task].name.replace('/', "_");
            let prefix = if alone { String::new() } else { format!("{name}/") };
            wanted.extend(tree.files.into_iter().map(|(path, e)| (format!("{prefix}{path}"), e)));
        }
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    make_ignored_folder(&folder)?;
    let memory = folder.join(MEMORY);
    let before: BTreeMap<String, Published> =
        fs::read(&memory).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    let tasks: BTreeSet<TaskId> = published.iter().flat_map(|s| s.tasks.clone()).collect();
    let behind = Behind { keys: &summary.keys, computed: &summary.computed, run, live: None };
    let mut after = BTreeMap::new();
    for (path, entry) in &wanted {
        let target = folder.join(path);
        let is_page = path.ends_with("index.html");
        let kept = before.get(path).filter(|p| p.digest == entry.digest);
        let kept = kept.filter(|_| !is_page || summary.ran == 0);
        let state = match kept.filter(|p| stat(&target).as_ref() == Some(&(p.size, p.mtime))) {
            Some(unchanged) => unchanged.clone(),
            None if is_page => {
                let page = provenance::page(entry, study, store, &tasks, behind)?;
                write(&target, &entry.digest, page.as_bytes())?
            }
            None => copy(store, entry, &target)?,
        };
        after.insert(path.clone(), state);
    }
    // The memory lies among files that people edit: it may name nothing outside of its folder.
    let stale = before.keys().filter(|p| !wanted.contains_key(*p) && is_plain(p));
    let stale: BTreeSet<_> = stale.collect();
    for path in stale {
        // It may be gone already.
        let _ = fs::remove_file(folder.join(path));
    }
    if after != before {
        let mut file = temporary_in(&folder, "", "")?;
        file.write_all(&serde_json::to_vec_pretty(&after)?).map_err(|e| at(e, &memory))?;
        persist(file, &memory)?;
    }
    let page = wanted.keys().find(|path| path.ends_with("index.html"));
    Ok(page.map(|path| Path::new("reports").join(path)))
}

/// The files that are published as they were left, absolute; the list of them is one.
#[must_use]
pub fn files(study: &Study) -> Vec<PathBuf> {
    let folder = study.root.join("reports");
    let memory = folder.join(MEMORY);
    let Ok(bytes) = fs::read(&memory) else { return Vec::new() };
    let published: BTreeMap<String, Published> = serde_json::from_slice(&bytes).unwrap_or_default();
    published.keys().map(|path| folder.join(path)).chain([memory]).collect()
}

fn stat(path: &Path) -> Option<(u64, (i64, i64))> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.len(), (metadata.mtime(), metadata.mtime_nsec())))
}

/// Copies a blob, as a whole or not at all. No link: what people open they may also edit.
fn copy(store: &Store, entry: &Entry, target: &Path) -> io::Result<Published> {
    place(target, &entry.digest, |file| store.copy_out(entry, file))
}

/// Writes what was made of a blob, as a whole or not at all.
fn write(target: &Path, digest: &Digest, bytes: &[u8]) -> io::Result<Published> {
    place(target, digest, |file| fs::write(file, bytes))
}

fn place(
    target: &Path,
    digest: &Digest,
    fill: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<Published> {
    let parent = target.parent().unwrap_or(target);
    fs::create_dir_all(parent).map_err(|e| at(e, parent))?;
    let temporary = temporary_in(parent, "", "")?;
    fill(temporary.path())?;
    persist(temporary, target)?;
    let (size, mtime) = stat(target).ok_or_else(|| io::Error::other("a published file is gone"))?;
    Ok(Published { digest: digest.clone(), size, mtime })
}

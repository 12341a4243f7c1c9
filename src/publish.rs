//! Copies the artifacts of published stages to `reports/`.
//!
//! `.published.json` remembers which files came from here. A file that an earlier run put there and
//! this one does not is removed; a file that the user put there stays. A page gets its provenance on
//! the way; one that is there already, of a run that computed nothing, stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::execute::Summary;
use crate::graph::{Study, TaskId};
use crate::history::RunRecord;
use crate::provenance::{self, Behind};
use crate::store::{Entry, Store};

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
            let prefix = if alone { String::new() } else { format!("{}/", study.tasks[task].name) };
            wanted.extend(tree.files.into_iter().map(|(path, e)| (format!("{prefix}{path}"), e)));
        }
    }
    if wanted.is_empty() {
        return Ok(None);
    }
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
                let page = fs::read_to_string(store.object(&entry.digest))?;
                let provenance = provenance::of(study, store, &tasks, behind);
                write(&target, &entry.digest, provenance::fill(&page, &provenance).as_bytes())?
            }
            None => copy(store, entry, &target)?,
        };
        after.insert(path.clone(), state);
    }
    let stale: BTreeSet<_> = before.keys().filter(|p| !wanted.contains_key(*p)).collect();
    for path in stale {
        // It may be gone already.
        let _ = fs::remove_file(folder.join(path));
    }
    if after != before {
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        serde_json::to_writer_pretty(&mut file, &after)?;
        file.persist(&memory).map_err(|e| e.error)?;
    }
    let page = wanted.keys().find(|path| path.ends_with("index.html"));
    Ok(page.map(|path| Path::new("reports").join(path)))
}

fn stat(path: &Path) -> Option<(u64, (i64, i64))> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.len(), (metadata.mtime(), metadata.mtime_nsec())))
}

/// Copies a blob, as a whole or not at all. No link: what people open they may also edit.
fn copy(store: &Store, entry: &Entry, target: &Path) -> io::Result<Published> {
    place(target, &entry.digest, |file| fs::copy(store.object(&entry.digest), file).map(|_| ()))
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
    fs::create_dir_all(parent).map_err(|e| crate::store::at(e, parent))?;
    let temporary = tempfile::NamedTempFile::new_in(parent)?;
    fill(temporary.path())?;
    fs::set_permissions(temporary.path(), Permissions::from_mode(0o644))?;
    temporary.persist(target).map_err(|e| e.error)?;
    let (size, mtime) = stat(target).ok_or_else(|| io::Error::other("a published file is gone"))?;
    Ok(Published { digest: digest.clone(), size, mtime })
}

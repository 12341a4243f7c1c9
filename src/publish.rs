//! Copies the artifacts of published stages to `reports/`.
//!
//! `.published.json` remembers which files came from here. A file that an earlier run put there and
//! this one does not is removed; a file that the user put there stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::execute::Summary;
use crate::graph::Study;
use crate::store::{Entry, Store};

const MEMORY: &str = ".published.json";

/// A published file as it was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Published {
    digest: Digest,
    size: u64,
    mtime: (i64, i64),
}

/// Publishes what a run left; returns the page to open, if there is one.
///
/// # Errors
/// When a file cannot be written.
pub fn publish(study: &Study, store: &Store, summary: &Summary) -> io::Result<Option<PathBuf>> {
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
    let mut after = BTreeMap::new();
    for (path, entry) in &wanted {
        let target = folder.join(path);
        let kept = before.get(path).filter(|p| p.digest == entry.digest);
        let state = match kept.filter(|p| stat(&target).as_ref() == Some(&(p.size, p.mtime))) {
            Some(unchanged) => unchanged.clone(),
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
    let parent = target.parent().unwrap_or(target);
    fs::create_dir_all(parent).map_err(|e| crate::store::at(e, parent))?;
    let temporary = tempfile::NamedTempFile::new_in(parent)?;
    fs::copy(store.object(&entry.digest), temporary.path())?;
    fs::set_permissions(temporary.path(), Permissions::from_mode(0o644))?;
    temporary.persist(target).map_err(|e| e.error)?;
    let (size, mtime) = stat(target).ok_or_else(|| io::Error::other("a published file is gone"))?;
    Ok(Published { digest: entry.digest.clone(), size, mtime })
}

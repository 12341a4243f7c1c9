//! The code of a run's programs: copied into the store once, when the run begins, so that edits made
//! later neither disturb nor discard anything. They count from the next run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use dissim_api::files;

use crate::digest::Digest;
use crate::graph::{Study, TaskId};
use crate::store::{FileDigests, Store};

/// A project file: its content and whether it may be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectFile {
    /// The digest of its content.
    pub digest: Digest,
    /// Whether it may be executed.
    pub executable: bool,
}

/// Project files by path relative to the project.
pub type ProjectFiles = BTreeMap<String, ProjectFile>;

/// The files that the `code:` patterns of a study meant when a run began. Their content is in the store.
#[derive(Debug, Default)]
pub struct CodeSnapshot {
    /// By pattern: the files, or why they cannot be had.
    patterns: HashMap<PathBuf, Result<ProjectFiles, String>>,
}

impl CodeSnapshot {
    /// Copies the code of these tasks into the store, as far as it is not there yet.
    #[must_use]
    pub fn take(study: &Study, store: &Store, tasks: impl Iterator<Item = TaskId>) -> Self {
        let patterns: BTreeSet<&PathBuf> = tasks.flat_map(|task| &study.tasks[task].code).collect();
        if patterns.is_empty() {
            return Self::default();
        }
        let mut digests = store.file_digests();
        let copied = |pattern: &&PathBuf| {
            let files = copy(&study.root, pattern, store, &digests);
            ((*pattern).clone(), files)
        };
        let patterns = patterns.iter().map(copied).collect();
        // Only a hint: what is not remembered is read again.
        let _ = digests.save();
        Self { patterns }
    }

    /// The files of a pattern; `None` if the snapshot does not have that pattern.
    ///
    /// # Errors
    /// Returns an error, in words, if the files could not be copied when the run began.
    pub fn files(&self, pattern: &Path) -> Option<Result<&ProjectFiles, &str>> {
        Some(self.patterns.get(pattern)?.as_ref().map_err(String::as_str))
    }
}

/// Copies the files of one pattern into the store.
fn copy(
    root: &Path,
    pattern: &Path,
    store: &Store,
    digests: &FileDigests,
) -> Result<ProjectFiles, String> {
    let mut found = ProjectFiles::new();
    for file in files::expand(root, pattern).map_err(|e| e.to_string())? {
        let path = root.join(&file);
        let cannot = |e: std::io::Error| format!("cannot read `{}`: {e}", file.display());
        let metadata = fs::metadata(&path).map_err(cannot)?;
        let digest = digests.of(path.clone(), &metadata).map_err(cannot)?;
        let digest = if store.has(&digest, metadata.len()) {
            digest
        } else {
            // The key is of the bytes that were copied, even if the file was written in between.
            store.put(&fs::read(&path).map_err(cannot)?).map_err(|e| e.to_string())?
        };
        let executable = metadata.permissions().mode() & 0o111 != 0;
        let file = file.to_string_lossy().into_owned();
        found.insert(file, ProjectFile { digest, executable });
    }
    Ok(found)
}

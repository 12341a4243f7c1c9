//! `dissim run --watch`: runs again whenever pipeline.yaml or a file that a task reads was saved.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dissim_api::files;

use crate::execute::Cancel;
use crate::graph::{Study, Task};

/// How often files are asked for their times: no faster than a person saves, and cheap.
const POLL: Duration = Duration::from_millis(200);

/// What was seen of the files: size and time, or nothing where a file is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen(Vec<(PathBuf, Option<(u64, SystemTime)>)>);

impl Seen {
    /// Looks at pipeline.yaml and all that the tasks read. Without a study, where the pipeline has
    /// errors, at the pipeline alone.
    pub fn now(pipeline: &Path, study: Option<&Study>) -> Self {
        let mut paths = BTreeSet::from([pipeline.to_path_buf()]);
        if let Some(study) = study {
            let patterns: BTreeSet<&PathBuf> =
                study.tasks.iter().flat_map(Task::project_files).collect();
            for pattern in patterns {
                match files::expand(&study.root, pattern) {
                    Ok(found) => paths.extend(found.into_iter().map(|f| study.root.join(f))),
                    Err(_) => drop(paths.insert(study.root.join(pattern))),
                }
            }
        }
        let look = |path: PathBuf| {
            let metadata = path.metadata().ok();
            let seen = metadata.and_then(|m| Some((m.len(), m.modified().ok()?)));
            (path, seen)
        };
        Self(paths.into_iter().map(look).collect())
    }
}

/// Waits until something differs from what was seen. False where a signal came first.
pub(super) fn wait(seen: &Seen, pipeline: &Path, study: Option<&Study>, cancel: &Cancel) -> bool {
    while !cancel.requested() {
        std::thread::sleep(POLL);
        if Seen::now(pipeline, study) != *seen {
            // An editor may write in several steps: let it finish.
            std::thread::sleep(POLL);
            return !cancel.requested();
        }
    }
    false
}

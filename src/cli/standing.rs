//! Which run of a task a command is about. `show`, `log` and `diff` all ask here, so that they mean the
//! same run, and each says so if it is not the run of the pipeline as it stands.

use std::path::PathBuf;

use crate::history::stamp;
use crate::plan::State;
use crate::store::{Record, Store};

/// The last run of a task, as the store has it.
pub(super) enum LastRun {
    /// It succeeded.
    Done(Box<Record>),
    /// It failed, and left this log.
    Failed(PathBuf),
}

/// How the last run of a task relates to the pipeline as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The task would run the same way now.
    Current,
    /// The same, but the artifact is damaged or gone.
    Lost,
    /// Something was edited since: a parameter, a file, the code, or a task before it.
    Edited,
    /// Tasks before it have to run first. Whether it is current depends on what they make.
    Waiting,
    /// The task cannot run as it stands: a file that it reads is missing, for example.
    Broken,
}

/// The last run of a task and how it stands; `None` if the task never ran.
pub(super) fn last_run(store: &Store, task: &str, state: &State) -> Option<(LastRun, Standing)> {
    let (current, otherwise) = match state {
        State::Hit(record) => return Some((LastRun::Done(record.clone()), Standing::Current)),
        State::Miss(description) => (Some(description.key()), Standing::Edited),
        State::Waiting => (None, Standing::Waiting),
        State::Broken(_) => (None, Standing::Broken),
    };
    let failed = |key| Some(store.failed_log(key)).filter(|log| log.exists());
    if let Some(log) = current.as_ref().and_then(failed) {
        return Some((LastRun::Failed(log), Standing::Current));
    }
    let key = store.latest(task)?;
    let is_current = current.as_ref() == Some(&key);
    match failed(&key) {
        Some(log) => Some((LastRun::Failed(log), otherwise)),
        None => {
            let record = store.record(&key)?;
            let standing = if is_current { Standing::Lost } else { otherwise };
            Some((LastRun::Done(Box::new(record)), standing))
        }
    }
}

impl Standing {
    /// Why the last run is not one of the pipeline as it stands; `None` if it is.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Current => None,
            Self::Lost => Some("its artifact is damaged or gone"),
            Self::Edited => Some("it has not run since it was edited"),
            Self::Waiting => Some("it waits for tasks that have to run first"),
            Self::Broken => Some("it cannot run as the pipeline stands"),
        }
    }
}

/// When a task ran, for people.
pub(super) fn when(record: &Record) -> String {
    format!("{} UTC", stamp(record.started))
}

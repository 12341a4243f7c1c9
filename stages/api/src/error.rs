//! How a stage says what went wrong: what happened, where, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

/// The failure of a stage, in words for the person who runs the study.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StageError {
    /// What happened, as one sentence without a full stop.
    pub what: String,
    /// The file or folder it happened at.
    pub at: Option<PathBuf>,
    /// What to do about it.
    pub help: Option<String>,
}

impl StageError {
    /// An error that says what happened.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), at: None, help: None }
    }

    /// Adds the file or folder.
    #[must_use]
    pub fn at(mut self, path: impl Into<PathBuf>) -> Self {
        self.at = Some(path.into());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(at) = &self.at {
            write!(f, "\n  at: {}", at.display())?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for StageError {}

/// Turns any error into a [`StageError`] that names the path.
pub trait IoContext<T> {
    /// Names what was being done and the path it was done to: `.or_fail("cannot read", path)?`.
    ///
    /// # Errors
    /// The original error, as a [`StageError`].
    fn or_fail(self, doing: &str, path: &Path) -> Result<T, StageError>;
}

impl<T, E: fmt::Display> IoContext<T> for Result<T, E> {
    fn or_fail(self, doing: &str, path: &Path) -> Result<T, StageError> {
        self.map_err(|e| StageError::new(format!("{doing}: {e}")).at(path))
    }
}

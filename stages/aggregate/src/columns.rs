//! What the columns of the table of runs are: the file `columns.json` beside it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dissim_api::{IoContext, StageError};
use polars::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{METRICS, TASK, variant};

/// Columns over which runs are repeated.
pub(crate) const REPLICATES: [&str; 2] = ["seed", "data_seed"];

/// Text that a run reports of itself: it follows from the run's parameters and separates no settings.
const ATTRIBUTES: [&str; 2] = ["told", "engine"];

/// The roles of the columns of `runs.parquet`. Runs that are averaged may differ in replicates,
/// metrics, attributes, and identifiers, but in no factor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnRoles {
    /// The version of this file's format.
    pub version: u32,
    /// Parameters of the run and of the tasks upstream: every column that is nothing else.
    pub factors: BTreeSet<String>,
    /// Columns over which runs are repeated, such as the seed.
    pub replicates: BTreeSet<String>,
    /// Numbers and flags that a run reports.
    pub metrics: BTreeSet<String>,
    /// Text that a run reports.
    pub attributes: BTreeSet<String>,
    /// What names a run, or says what other columns say.
    pub identifiers: BTreeSet<String>,
}

impl ColumnRoles {
    /// The version that this code writes.
    pub const VERSION: u32 = 1;
    /// The file's name.
    pub const FILE: &str = "columns.json";

    /// The roles of a table's columns.
    #[must_use]
    pub fn of(runs: &DataFrame) -> Self {
        Self::of_names(runs.get_column_names().into_iter().map(PlSmallStr::as_str))
    }

    /// The roles of columns with these names.
    #[must_use]
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut roles = Self {
            version: Self::VERSION,
            factors: BTreeSet::new(),
            replicates: BTreeSet::new(),
            metrics: BTreeSet::new(),
            attributes: BTreeSet::new(),
            identifiers: BTreeSet::new(),
        };
        for name in names {
            let list = match name {
                name if METRICS.contains(&name) => &mut roles.metrics,
                name if REPLICATES.contains(&name) => &mut roles.replicates,
                name if ATTRIBUTES.contains(&name) => &mut roles.attributes,
                TASK | variant::VARIANT => &mut roles.identifiers,
                _ => &mut roles.factors,
            };
            list.insert(name.to_string());
        }
        roles
    }

    /// Reads the file of an `aggregate` stage's artifact.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has another version.
    pub fn read(folder: &Path) -> Result<Self, StageError> {
        let path = folder.join(Self::FILE);
        let text = fs::read_to_string(&path).or_fail("cannot read", &path)?;
        let roles: Self = serde_json::from_str(&text).or_fail("cannot parse", &path)?;
        if roles.version == Self::VERSION {
            return Ok(roles);
        }
        let found = format!("the file has version {}, and this program reads 1", roles.version);
        Err(StageError::new(found).at(path))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), StageError> {
        let path = folder.join(Self::FILE);
        let text = serde_json::to_string_pretty(self).or_fail("cannot format", &path)?;
        fs::write(&path, text + "\n").or_fail("cannot write", &path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_that_is_nothing_else_is_a_factor() {
        let runs = df!("seed" => [0], "lr" => [0.1], "nobody_listed_this" => [1.5],
            "ood_acc" => [0.5], "dead" => [false], "told" => ["nothing"], "task" => ["t"],
            "variant" => ["plain"], "deterministic" => [true]);
        let roles = ColumnRoles::of(&runs.unwrap());
        let join = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(join(&roles.factors), "deterministic lr nobody_listed_this");
        assert_eq!(join(&roles.replicates), "seed");
        assert_eq!(join(&roles.metrics), "dead ood_acc");
        assert_eq!(join(&roles.attributes), "told");
        assert_eq!(join(&roles.identifiers), "task variant");
    }

    #[test]
    fn another_version_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut roles = ColumnRoles::of(&df!("lr" => [0.1]).unwrap());
        roles.write(folder.path()).unwrap();
        assert_eq!(ColumnRoles::read(folder.path()).unwrap(), roles);
        roles.version = 2;
        roles.write(folder.path()).unwrap();
        let error = ColumnRoles::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("the file has version 2, and this program reads 1"), "{error}");
    }
}

//! SQL over the tables of a study, by polars' own SQL context.
//!
//! ```
//! use dissim_query::{Tables, Values};
//!
//! let mut tables = Tables::default();
//! let methods = Values::Text(vec![Some("erm".into()), Some("dissimilarity".into())]);
//! let accuracies = Values::Number(vec![Some(0.25), Some(0.5)]);
//! tables.insert("results", vec![("method", methods), ("ood_acc", accuracies)])?;
//! let answer = tables.ask("SELECT method FROM results WHERE ood_acc > 0.3")?;
//! assert_eq!(answer.json(), serde_json::json!([{ "method": "dissimilarity" }]));
//! # Ok::<(), dissim_query::QueryError>(())
//! ```

mod answer;
mod error;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use polars::prelude::*;
use polars::sql::{SQLContext, extract_table_identifiers};

pub use answer::Answer;
pub use error::{Place, QueryError, Unknown};

/// A column of a table that is made in memory; none is NULL.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Text.
    Text(Vec<Option<String>>),
    /// Whole numbers.
    Whole(Vec<Option<i64>>),
    /// Numbers; one that is not finite counts as none.
    Number(Vec<Option<f64>>),
    /// True or false.
    Truth(Vec<Option<bool>>),
}

/// The columns of a table, with their types in words.
pub type ColumnTypes = Vec<(String, String)>;

/// Tables by name.
#[derive(Default)]
pub struct Tables {
    frames: BTreeMap<String, LazyFrame>,
    columns: BTreeMap<String, ColumnTypes>,
}

impl Tables {
    /// Adds a Parquet file. Its columns are read now, its rows when a question needs them.
    ///
    /// # Errors
    /// Returns an error if it is not a Parquet file or cannot be read; the tables stay as they were.
    pub fn parquet(&mut self, name: &str, file: &Path) -> Result<(), QueryError> {
        // polars panics on some damaged files.
        let added = quietly(|| {
            let path = PlRefPath::new(file.to_string_lossy());
            let frame = LazyFrame::scan_parquet(path, ScanArgsParquet::default());
            self.register(name, frame.map_err(|e| QueryError::plain(&e))?)
        });
        added.unwrap_or_else(|panic| Err(QueryError::new(words_of(&*panic))))
    }

    /// Adds columns of one length.
    ///
    /// # Errors
    /// When their lengths differ, or two have one name.
    pub fn insert(&mut self, name: &str, columns: Vec<(&str, Values)>) -> Result<(), QueryError> {
        let column = |(name, values): (&str, Values)| match values {
            Values::Text(values) => Column::new(name.into(), values),
            Values::Whole(values) => Column::new(name.into(), values),
            Values::Number(values) => {
                let finite = values.into_iter().map(|v| v.filter(|v| v.is_finite()));
                Column::new(name.into(), finite.collect::<Vec<_>>())
            }
            Values::Truth(values) => Column::new(name.into(), values),
        };
        let frame = DataFrame::new_infer_height(columns.into_iter().map(column).collect());
        self.register(name, frame.map_err(|e| QueryError::plain(&e))?.lazy())
    }

    fn register(&mut self, name: &str, mut frame: LazyFrame) -> Result<(), QueryError> {
        let schema = frame.collect_schema().map_err(|e| QueryError::plain(&e))?;
        let columns = schema.iter().map(|(name, kind)| (name.to_string(), word(kind)));
        self.columns.insert(name.to_owned(), columns.collect());
        self.frames.insert(name.to_owned(), frame);
        Ok(())
    }

    /// The columns of every table.
    #[must_use]
    pub fn columns(&self) -> &BTreeMap<String, ColumnTypes> {
        &self.columns
    }

    /// The tables and their columns, a column a row.
    #[must_use]
    pub fn listed(&self) -> Answer {
        let rows = self.columns.iter().flat_map(|(table, columns)| {
            columns.iter().map(move |(name, kind)| [table, name, kind].map(|t| t.clone().into()))
        });
        let names = ["table", "column", "type"].map(str::to_owned).to_vec();
        Answer::of(names, rows.map(Vec::from).collect())
    }

    /// Answers one SQL statement.
    ///
    /// # Errors
    /// When it is no SQL, names what is not there, or asks for what polars does not do.
    pub fn ask(&self, sql: &str) -> Result<Answer, QueryError> {
        // A context of its own: what the statement drops or creates is gone with it.
        let mut context = SQLContext::new();
        for (name, frame) in &self.frames {
            context.register(name, frame.clone());
        }
        // polars panics where a statement needs a feature that this build leaves out.
        let asked = quietly(|| {
            self.refuse_dots(sql)?;
            let frame = context.execute(sql).and_then(LazyFrame::collect);
            frame.map_err(|error| QueryError::explain(sql, &error))
        });
        match asked {
            Ok(answered) => answered.map(Answer::new),
            Err(panic) => {
                Err(QueryError::new(format!("polars cannot do this: {}", words_of(&*panic))))
            }
        }
    }

    /// The tables that a statement reads.
    #[must_use]
    pub fn read_by(&self, sql: &str) -> Vec<String> {
        let named = extract_table_identifiers(sql, false, true).unwrap_or_default();
        named.into_iter().filter(|name| self.columns.contains_key(name)).collect()
    }

    /// Of `a.b`, polars would read `a` and say nothing.
    fn refuse_dots(&self, sql: &str) -> Result<(), QueryError> {
        let named = extract_table_identifiers(sql, true, true).unwrap_or_default();
        match named.into_iter().find(|name| name.contains('.') && !self.columns.contains_key(name))
        {
            Some(name) => Err(QueryError::unknown(sql, Unknown::Table(name))),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("columns", &self.columns).finish_non_exhaustive()
    }
}

/// A type as a person says it.
fn word(kind: &DataType) -> String {
    match kind {
        DataType::String => "text".to_owned(),
        DataType::Boolean => "truth".to_owned(),
        kind if kind.is_integer() => "whole".to_owned(),
        kind if kind.is_float() => "number".to_owned(),
        DataType::List(item) => format!("list of {}", word(item)),
        kind => kind.to_string(),
    }
}

/// The first line of what a panic says.
fn words_of(panic: &(dyn Any + Send)) -> &str {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
    said.unwrap_or("it gave up").lines().next().unwrap_or_default()
}

/// Runs `work` with panics caught and not printed.
fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    done
}

#[cfg(test)]
mod tests;

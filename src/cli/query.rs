//! `dissim query`: SQL over what the store holds of a study.

mod tables;

use tables::{Found, Unreadable};

use clap::{Args, ValueEnum};

use super::{Cli, Failure, Result, Selection, print, print_json};
use crate::parse::{PipelineError, PipelineErrors, Place, suggestion};
use crate::registry::{Answer, QueryError, Registry, Tables, Unknown};
use crate::say;

#[derive(Debug, Args)]
pub(super) struct QueryArgs {
    /// One SQL statement, such as "SELECT method, AVG(ood_acc) FROM runs GROUP BY method".
    #[arg(required_unless_present = "tables", conflicts_with = "tables")]
    sql: Option<String>,
    #[command(flatten)]
    selection: Selection,
    /// Lists the tables and their columns.
    #[arg(long)]
    tables: bool,
    /// How the rows are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The same as --format json: an object a row.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns side by side.
    Table,
    /// Comma-separated values.
    Csv,
    /// An object a row.
    Json,
    /// A table of Markdown.
    Markdown,
}

pub(super) fn query(cli: &Cli, args: &QueryArgs, registry: &Registry) -> Result<()> {
    let (study, store) = cli.open(&args.selection, registry)?;
    let found = tables::of(&study, &store).map_err(|e| told("", "the tables", e, None))?;
    for bad in found.unreadable.values() {
        say!("warning: {}; it is left out", bad.said());
    }
    let tables = &found.tables;
    let format = if args.json { Format::Json } else { args.format };
    let Some(sql) = &args.sql else {
        return if format == Format::Table {
            list(tables)
        } else {
            write(&tables.listed(), format)
        };
    };
    let answer = tables.ask(sql).map_err(|mut error| {
        let help = help(&found, sql, &error, &args.selection.behind(&study));
        if let Some(bad) = missing(&found, &error) {
            error.message = format!("no table `{}`: {}", bad.0, bad.1.said());
        }
        told(sql, "SQL", error, help)
    })?;
    write(&answer, format)
}

/// The file that would be the table that a statement asks for, if it were Parquet.
fn missing<'a>(found: &'a Found, error: &QueryError) -> Option<(&'a String, &'a Unreadable)> {
    match error.unknown.as_ref()? {
        Unknown::Table(name) => found.unreadable.get_key_value(name),
        Unknown::Column(_) => None,
    }
}

fn write(answer: &Answer, format: Format) -> Result<()> {
    match format {
        Format::Table => print(&answer.aligned()),
        Format::Csv => print(&answer.csv()),
        Format::Json => print_json(&answer.json()),
        Format::Markdown => print(&answer.markdown()),
    }
}

fn told(sql: &str, file: &str, error: QueryError, help: Option<String>) -> Failure {
    let place = error.place.map_or(Place::Nowhere, |place| Place::File {
        line: place.line,
        column: place.column,
        length: place.length,
    });
    let error = PipelineError { place, message: error.message, help };
    let errors =
        PipelineErrors { file: file.to_owned(), text: sql.to_owned(), errors: vec![error] };
    Failure::Coloured(errors.listed(say::stderr_has_colour()))
}

/// The name that may have been meant, or the names there are; and the stages whose tables are missing
/// because they are not in the cache.
fn help(found: &Found, sql: &str, error: &QueryError, chosen: &str) -> Option<String> {
    if let Some((_, bad)) = missing(found, error) {
        return Some(format!(
            "write Parquet to it, or give it another name; see dissim log '{}'",
            bad.task
        ));
    }
    let tables = &found.tables;
    let all = tables.columns();
    let lines: Vec<String> = match error.unknown.as_ref()? {
        Unknown::Table(name) => {
            let meant = name.rsplit('.').next().unwrap_or(name);
            let exact = all.contains_key(meant);
            let exact = exact.then(|| format!("a table is named by one word: {meant}"));
            let near = || suggestion(meant, all.keys().map(String::as_str));
            exact.or_else(near).map_or_else(
                || {
                    let names = all.keys().cloned().collect::<Vec<_>>().join(", ");
                    let missing = found.stale.iter().map(|stage| {
                        let run = format!("dissim run {stage}{chosen}");
                        format!("what `{stage}` makes is not in the cache: {run}")
                    });
                    std::iter::once(format!("tables: {names}")).chain(missing).collect()
                },
                |meant| vec![meant],
            )
        }
        Unknown::Column(name) => {
            let read = tables.read_by(sql);
            let columns = |table: &String| all[table].iter().map(|(column, _)| column.as_str());
            let near = suggestion(name, read.iter().flat_map(columns));
            let listed =
                |table| format!("`{table}` has {}", columns(table).collect::<Vec<_>>().join(", "));
            near.map_or_else(|| read.iter().map(listed).collect(), |near| vec![near])
        }
    };
    Some(lines.join("\n        ")).filter(|help| !help.is_empty())
}

impl Unreadable {
    fn said(&self) -> String {
        let Self { task, file, why } = self;
        format!("`{file}` of `{task}` cannot be read as Parquet: {why}")
    }
}

/// The most characters of a line of columns.
const WIDTH: usize = 100;

/// A table and its columns, as many on a line as fit.
fn list(tables: &Tables) -> Result<()> {
    let mut text = String::new();
    for (table, columns) in tables.columns() {
        text += &format!("{table}\n");
        let mut line = String::new();
        for (at, (name, kind)) in columns.iter().enumerate() {
            let comma = if at + 1 < columns.len() { "," } else { "" };
            let next = format!(" {name} {kind}{comma}");
            if line.chars().count() + next.chars().count() > WIDTH {
                text += &format!(" {line}\n");
                line.clear();
            }
            line += &next;
        }
        text += &format!(" {line}\n");
    }
    print(&text)
}

//! The `report` stage: figures, tables and one self-contained page.
//!
//! Writes `index.html` (no network: figures and samples are in it), `claims.json`, `figures/*.svg`
//! and `*.png`, and `tables/`, each only where the results hold its data. The bytes depend on the results and the shape of the pipeline alone.

mod data;
mod figures;
mod headline;
mod page;
mod rivals;
mod runs;
mod tables;
mod text;
mod verdicts;

use std::fs;
use std::path::Path;

use dissim_aggregate::ColumnRoles;
use dissim_api::{Code, Context, Input, IoContext, ParamError, Params, Stage, StageError, Traits};
use dissim_claims::RunTable;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use figures::Sources;
use rivals::Rivals;
use tables::Grid;
pub use tables::{Best, Format, TableSpec, check_table};

/// Where the page has room for what only the runner knows: the run and the records behind it. The page
/// holds this text once; when it is published, `null` becomes the provenance, so that the artifact
/// itself depends on results alone.
pub const PROVENANCE_SLOT: &str =
    r#"<script type="application/json" id="provenance">null</script>"#;

/// `with:` of a `report` stage: nothing to choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportParams {}

/// The `report` stage.
#[derive(Debug, Clone, Copy)]
pub struct Report;

impl Stage for Report {
    fn kind(&self) -> &'static str {
        "report"
    }

    fn summary(&self) -> &'static str {
        "Draws the figures of the study and writes the page that shows them."
    }

    fn code(&self) -> Code {
        dissim_api::code!()
    }

    fn inputs(&self) -> &'static [Input] {
        const { &[Input::one("results"), Input::many("samples").optional()] }
    }

    fn traits(&self) -> Traits {
        Traits { pipeline: true, published: true, ..Traits::default() }
    }

    fn schema(&self) -> Value {
        dissim_api::schema::<ReportParams>()
    }

    fn resolve(&self, given: &Params) -> Result<Params, Vec<ParamError>> {
        Ok(dissim_api::resolve::<ReportParams>(given)?.1)
    }

    fn run(&self, context: &mut Context) -> Result<(), StageError> {
        let results = context.input("results")?.to_path_buf();
        let output = context.output().to_path_buf();
        let path = results.join("runs.parquet");
        let table = runs::table(&path)?;
        let roles = ColumnRoles::read(&results)?;
        let runs = runs::read(&table, &roles, &path)?;
        let rows = runs::run_table(&table, &roles);
        for folder in ["figures", "tables"] {
            let folder = output.join(folder);
            fs::create_dir_all(&folder).or_fail("cannot make", &folder)?;
        }
        for name in ["runs.csv", "summary.csv", "summary.md"] {
            let (from, to) = (results.join(name), output.join("tables").join(name));
            fs::copy(&from, &to).or_fail("cannot copy", &from)?;
        }
        let pipeline = context.pipeline().cloned();
        let claims = pipeline.as_ref().map_or(&[][..], |p| &p.claims);
        let verdicts = verdicts::write(claims, &rows, &output)?;
        let mut grids = Vec::new();
        for spec in pipeline.iter().flat_map(|p| &p.tables) {
            let spec: TableSpec = serde_json::from_value(Value::Object(spec.clone()))
                .map_err(|e| StageError::new(format!("a table cannot be read: {e}")))?;
            let grid = Grid::of(spec, &rows);
            tables::write(&grid, &output.join("tables"))?;
            grids.push(grid);
        }
        let compared = runs::plain(&runs);
        let rivals = Rivals::of(&compared);
        if let Some(rivals) = &rivals {
            rivals.write(&output.join("tables"))?;
        }
        let figures = figures::draw(
            &Sources { runs: &compared, all: &runs, rivals: rivals.as_ref(), results: &results },
            &output,
        )?;
        let samples = match context.inputs("samples").first() {
            Some(artifact) => figures::sample_grid(&artifact.path, &output)?,
            None => None,
        };
        let page = page::Page {
            pipeline,
            verdicts,
            grids,
            headline: headline::sentences(&compared, &runs, rivals.as_ref()),
            rivals,
            figures,
            samples,
            data: data::of(&table, &roles, &results, &compared)?,
            summary: read(&results.join("summary.md"))?,
            runs,
        };
        let path = output.join("index.html");
        fs::write(&path, page.render()?).or_fail("cannot write", &path)
    }
}

/// An entry of `tables:` over these runs, in Markdown.
///
/// # Errors
/// Returns an error if the entry is no table.
pub fn table_markdown(entry: &Params, runs: &RunTable) -> Result<String, serde_json::Error> {
    let spec: TableSpec = serde_json::from_value(Value::Object(entry.clone()))?;
    Ok(Grid::of(spec, runs).markdown())
}

fn read(path: &Path) -> Result<String, StageError> {
    fs::read_to_string(path).or_fail("cannot read", path)
}

#[cfg(test)]
mod mixtures;
#[cfg(test)]
mod tests;

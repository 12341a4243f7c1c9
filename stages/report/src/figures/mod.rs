//! The figures of a study, each only where the results hold its data.

mod canvas;
mod confusion;
mod curves;
mod embedding;
mod heat;
mod lines;
mod pair;
mod rivals;
mod samples;

use std::fs;
use std::path::Path;

use dissim_api::{IoContext, StageError};
use serde::Serialize;

use crate::rivals::Rivals;
use crate::runs::Run;
use canvas::Drawing;
pub(crate) use samples::sample_grid;

/// A figure as it stands in the page.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// File name without extension.
    pub name: String,
    pub caption: String,
    pub svg: String,
    /// Whether the page has an interactive chart of the same.
    pub charted: bool,
}

/// What figures are drawn from.
pub(crate) struct Sources<'a> {
    /// The runs that are compared.
    pub runs: &'a [Run],
    /// All runs, with every variant.
    pub all: &'a [Run],
    pub rivals: Option<&'a Rivals>,
    /// The folder of the results: `epochs.parquet` and others may be missing from it.
    pub results: &'a Path,
}

/// Draws every figure there is data for, into `output/figures`.
///
/// # Errors
/// When a table is damaged or a file cannot be written.
pub(crate) fn draw(from: &Sources<'_>, output: &Path) -> Result<Vec<Figure>, StageError> {
    let mut done = Vec::new();
    let mut pen = Pen { output, done: &mut done };
    for panel in lines::panels(from.runs) {
        pen.draw(&panel.name, &panel.caption, &panel, Charted::Yes)?;
    }
    if let Some(rivals) = from.rivals {
        pen.draw("rivals", &rivals.caption(), &rivals::Ranking(rivals), Charted::Yes)?;
    }
    if let Some(map) = heat::HeatMap::of(from.all) {
        pen.draw("lambda-tau", &map.caption(), &map, Charted::No)?;
    }
    if let Some(curves) = curves::Curves::of(from.runs, from.results)? {
        pen.draw("training-curves", &curves.caption(), &curves, Charted::Yes)?;
    }
    if let Some(matrices) = confusion::Matrices::of(from.runs, from.results)? {
        pen.draw("confusion", &matrices.caption(), &matrices, Charted::No)?;
    }
    if let Some(planes) = embedding::Planes::of(from.runs, from.results)? {
        pen.draw("embeddings", &planes.caption(), &planes, Charted::No)?;
    }
    Ok(done)
}

/// Whether the page charts it itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Charted {
    Yes,
    No,
}

struct Pen<'a> {
    output: &'a Path,
    done: &'a mut Vec<Figure>,
}

impl Pen<'_> {
    fn draw(
        &mut self,
        name: &str,
        caption: &str,
        drawing: &impl Drawing,
        charted: Charted,
    ) -> Result<(), StageError> {
        let base = self.output.join("figures").join(name);
        canvas::write(drawing, &base)?;
        let path = base.with_extension("svg");
        let svg = fs::read_to_string(&path).or_fail("cannot read", &path)?;
        let (name, caption) = (name.to_owned(), caption.to_owned());
        self.done.push(Figure { name, caption, svg, charted: charted == Charted::Yes });
        Ok(())
    }
}

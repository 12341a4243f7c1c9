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
mod tiles;

use std::fs;
use std::path::Path;

use dissim_api::{IoContext, StageError};
use serde_json::Value;

use crate::rivals::Rivals;
use crate::runs::Run;
use canvas::Drawing;
pub(crate) use samples::sample_grid;

/// A figure as it stands in the page.
#[derive(Debug)]
pub(crate) struct Figure {
    /// File name without extension.
    pub name: String,
    pub caption: String,
    pub svg: String,
    /// What the page draws its map from; none where it charts the runs themselves.
    pub data: Option<Value>,
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
        pen.draw(&panel.name, &panel.caption, &panel, None)?;
    }
    if let Some(rivals) = from.rivals {
        pen.draw("rivals", &rivals.caption(), &rivals::Ranking(rivals), None)?;
    }
    if let Some(map) = heat::HeatMap::of(from.all) {
        pen.draw("lambda-tau", &map.caption(), &map, Some(map.data()))?;
    }
    if let Some(curves) = curves::Curves::of(from.runs, from.results)? {
        pen.draw("training-curves", &curves.caption(), &curves, None)?;
    }
    if let Some(matrices) = confusion::Matrices::of(from.runs, from.results)? {
        pen.draw("confusion", &matrices.caption(), &matrices, Some(matrices.data()))?;
    }
    if let Some(planes) = embedding::Planes::of(from.runs, from.results)? {
        pen.draw("embeddings", &planes.caption(), &planes, Some(planes.data()))?;
    }
    Ok(done)
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
        data: Option<Value>,
    ) -> Result<(), StageError> {
        let base = self.output.join("figures").join(name);
        canvas::write(drawing, &base)?;
        let path = base.with_extension("svg");
        let svg = fs::read_to_string(&path).or_fail("cannot read", &path)?;
        let (name, caption) = (name.to_owned(), caption.to_owned());
        self.done.push(Figure { name, caption, svg, data });
        Ok(())
    }
}

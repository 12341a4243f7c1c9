//! Confusion matrices on unseen backgrounds: cross-entropy beside dissimilarity loss.

use std::collections::BTreeSet;
use std::path::Path;

use dissim_api::StageError;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{Drawing, Drawn, ink, shade, text};
use super::pair::Pair;
use crate::runs::{Run, numbers, table, words};

const CLASSES: usize = 10;
const CELL: f64 = 40.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 44.0;
const GAP: f64 = 84.0;

/// Counts of images by true and predicted digit, over the runs of a side.
struct Matrix {
    title: String,
    counts: [[f64; CLASSES]; CLASSES],
}

/// Both sides, at one N.
pub(super) struct Matrices {
    n_bg: i64,
    sides: Vec<Matrix>,
}

impl Matrices {
    /// Of the OOD test.
    ///
    /// # Errors
    /// When the table is damaged.
    pub fn of(runs: &[Run], results: &Path) -> Result<Option<Self>, StageError> {
        let path = results.join("confusion.parquet");
        let Some(pair) = Pair::of(runs).filter(|_| path.is_file()) else { return Ok(None) };
        let confusion = table(&path)?;
        let (tasks, split) = (words(&confusion, "task"), words(&confusion, "split"));
        let [truth, predicted, count] =
            ["truth", "predicted", "count"].map(|name| numbers(&confusion, name));
        let matrix = |title: String, members: &BTreeSet<String>| {
            let mut counts = [[0.0; CLASSES]; CLASSES];
            for row in 0..tasks.len() {
                let wanted = split[row].as_deref() == Some("ood_test")
                    && tasks[row].as_ref().is_some_and(|t| members.contains(t));
                if let (true, Some(t), Some(p), Some(n)) =
                    (wanted, truth[row], predicted[row], count[row])
                    && let Some(cell) =
                        counts.get_mut(t as usize).and_then(|r| r.get_mut(p as usize))
                {
                    *cell += n;
                }
            }
            Matrix { title, counts }
        };
        let all: Vec<Matrix> =
            pair.sides.iter().map(|s| matrix(s.title.clone(), &s.tasks)).collect();
        let sides: Vec<Matrix> =
            all.into_iter().filter(|m| m.counts.as_flattened().iter().any(|c| *c > 0.0)).collect();
        Ok((!sides.is_empty()).then_some(Self { n_bg: pair.n_bg, sides }))
    }

    pub fn caption(&self) -> String {
        format!(
            "What digits are taken for on backgrounds never seen, at N = {}: of each digit, the share of its images in percent, over all runs.",
            self.n_bg
        )
    }
}

impl Drawing for Matrices {
    fn size(&self) -> (u32, u32) {
        let side = CELL * CLASSES as f64;
        let width = LEFT + self.sides.len() as f64 * (side + GAP) - GAP + 24.0;
        (width as u32, (TOP + side + 62.0) as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: f64) -> Drawn<B> {
        area.fill(&WHITE)?;
        for (s, matrix) in self.sides.iter().enumerate() {
            let left = LEFT + s as f64 * (CELL * CLASSES as f64 + GAP);
            matrix.draw(area, scale, left)?;
        }
        Ok(())
    }
}

impl Matrix {
    fn draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        scale: f64,
        left: f64,
    ) -> Drawn<B> {
        let px = |v: f64| (v * scale).round() as i32;
        let label = |size: f64| text(size, scale, HPos::Center, BLACK);
        let side = CELL * CLASSES as f64;
        let middle = px(left + side / 2.0);
        area.draw(&Text::new(self.title.clone(), (middle, px(TOP - 24.0)), label(15.0)))?;
        area.draw(&Text::new("taken for", (middle, px(TOP + side + 42.0)), label(14.0)))?;
        let turned = label(14.0).transform(FontTransform::Rotate270);
        area.draw(&Text::new("digit", (px(left - 42.0), px(TOP + side / 2.0)), turned))?;
        for (t, row) in self.counts.iter().enumerate() {
            let total: f64 = row.iter().sum();
            let y = TOP + CELL * t as f64;
            let at = (px(left - 16.0), px(y + CELL / 2.0));
            area.draw(&Text::new(t.to_string(), at, label(13.0)))?;
            let at = (px(left + CELL * (t as f64 + 0.5)), px(TOP + side + 16.0));
            area.draw(&Text::new(t.to_string(), at, label(13.0)))?;
            for (p, count) in row.iter().enumerate() {
                let share = if total > 0.0 { count / total } else { 0.0 };
                let x = left + CELL * p as f64;
                let corners = [(px(x), px(y)), (px(x + CELL - 1.0), px(y + CELL - 1.0))];
                area.draw(&Rectangle::new(corners, shade(share).filled()))?;
                let style = text(12.0, scale, HPos::Center, ink(share));
                let centre = (px(x + CELL / 2.0), px(y + CELL / 2.0));
                area.draw(&Text::new(format!("{:.0}", share * 100.0), centre, style))?;
            }
        }
        Ok(())
    }
}

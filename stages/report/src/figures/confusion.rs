//! Confusion matrices on unseen backgrounds: cross-entropy beside dissimilarity loss.

use std::collections::BTreeSet;
use std::path::Path;

use dissim_api::StageError;
use plotters::coord::Shift;
use plotters::prelude::*;
use serde_json::{Value, json};

use super::canvas::{Drawing, Drawn};
use super::pair::Pair;
use super::tiles::{BOTTOM, LEFT, TOP, Tile, Tiles};
use crate::runs::{Run, numbers, table, words};

const CLASSES: usize = 10;
const RIGHT: f64 = 16.0;

/// Counts of images by true and predicted digit.
type Counts = [[f64; CLASSES]; CLASSES];

/// Both sides, at one N.
pub(super) struct Matrices {
    n_bg: i64,
    sides: Vec<Tiles>,
    left_out: String,
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
        let counted = |members: &BTreeSet<String>| {
            let mut counts: Counts = [[0.0; CLASSES]; CLASSES];
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
            counts
        };
        let sides = pair.sides.iter().map(|s| (s.title.clone(), counted(&s.tasks)));
        let held = sides.filter(|(_, c)| c.as_flattened().iter().any(|n| *n > 0.0));
        let sides: Vec<Tiles> = held.map(|(title, counts)| matrix(title, &counts)).collect();
        Ok((!sides.is_empty()).then_some(Self { n_bg: pair.n_bg, sides, left_out: pair.left_out }))
    }

    pub fn caption(&self) -> String {
        format!(
            "What digits are taken for on backgrounds never seen, at N = {}: of each digit, the share of its images in percent, over all runs.{}",
            self.n_bg, self.left_out
        )
    }

    /// For the page.
    pub fn data(&self) -> Value {
        json!({ "tiles": self.sides })
    }
}

/// Of each digit the shares of its images.
fn matrix(title: String, counts: &Counts) -> Tiles {
    let digits = || (0..CLASSES).map(|d| d.to_string()).collect();
    let row = |(truth, row): (usize, &[f64; CLASSES])| {
        let total: f64 = row.iter().sum();
        let tile = |(predicted, count): (usize, &f64)| {
            let share = if total > 0.0 { count / total } else { 0.0 };
            let percent = share * 100.0;
            Some(Tile {
                share,
                text: vec![format!("{percent:.0}")],
                about: format!(
                    "{truth} taken for {predicted}\n{percent:.1} %, {count} of {total} images"
                ),
                filter: String::new(),
                best: false,
            })
        };
        row.iter().enumerate().map(tile).collect()
    };
    Tiles {
        title,
        x_title: "taken for".to_owned(),
        y_title: "digit".to_owned(),
        x: digits(),
        y: digits(),
        size: (40.0, 40.0),
        cells: counts.iter().enumerate().map(row).collect(),
    }
}

impl Drawing for Matrices {
    fn size(&self) -> (u32, u32) {
        let width: f64 = self.sides.iter().map(|s| LEFT + s.inner().0 + RIGHT).sum();
        let height = self.sides.iter().map(|s| s.inner().1).fold(0.0, f64::max);
        (width as u32, (TOP + height + BOTTOM) as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: f64) -> Drawn<B> {
        area.fill(&WHITE)?;
        let mut left = 0.0;
        for side in &self.sides {
            side.draw(area, scale, left)?;
            left += LEFT + side.inner().0 + RIGHT;
        }
        Ok(())
    }
}

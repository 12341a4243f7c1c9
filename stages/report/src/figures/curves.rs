//! Training curves: penalty, pairs, OOD accuracy and active units by epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dissim_api::StageError;
use dissim_statistics::student;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{Drawing, Drawn, GREY, LIGHT, PALETTE, text};
use crate::runs::{Run, distinct, left_out, mixture, numbers, sweep, table, words};

/// What is shown: a column of `epochs.parquet`, its title, and the factor to its unit.
const PANELS: [(&str, &str, f64); 4] = [
    ("penalty", "penalty: mean similarity of the pairs", 1.0),
    ("pairs", "pairs a batch, |M|", 1.0),
    ("ood_acc", "OOD accuracy, %", 100.0),
    ("active", "active embedding units, %", 100.0),
];
/// At most so many lines, so that they can be told apart.
const LINES: usize = 5;

/// One group of runs.
struct Line {
    label: String,
    /// By panel: each run's values by epoch.
    runs: [BTreeMap<String, Vec<(f64, f64)>>; 4],
}

/// The figure, at one N.
pub(super) struct Curves {
    n_bg: i64,
    lines: Vec<Line>,
    /// The factors in which runs of one line differ; such a line is not drawn.
    left_out: BTreeSet<String>,
}

impl Curves {
    /// At the N of the sweep over lambda, or the middle N.
    ///
    /// # Errors
    /// When the table is damaged.
    pub fn of(runs: &[Run], results: &Path) -> Result<Option<Self>, StageError> {
        let path = results.join("epochs.parquet");
        let all = distinct(runs.iter().map(|r| r.n_bg));
        let Some(n_bg) = sweep(runs).or_else(|| all.get(all.len() / 2).copied()) else {
            return Ok(None);
        };
        if !path.is_file() {
            return Ok(None);
        }
        let epochs = table(&path)?;
        let tasks = words(&epochs, "task");
        let epoch = numbers(&epochs, "epoch");
        let columns = PANELS.map(|(name, ..)| numbers(&epochs, name));
        let mut lines = Vec::new();
        let (groups, left_out) = groups(runs, n_bg);
        for (label, members) in groups {
            let mut line = Line { label, runs: Default::default() };
            for (row, task) in tasks.iter().enumerate() {
                let Some(task) = task.as_ref().filter(|t| members.contains(*t)) else { continue };
                for (panel, column) in columns.iter().enumerate() {
                    if let (Some(x), Some(y)) = (epoch[row], column[row]) {
                        let y = y * PANELS[panel].2;
                        line.runs[panel].entry(task.clone()).or_default().push((x, y));
                    }
                }
            }
            if line.runs.iter().any(|panel| !panel.is_empty()) {
                lines.push(line);
            }
        }
        Ok((!lines.is_empty()).then_some(Self { n_bg, lines, left_out }))
    }

    pub fn caption(&self) -> String {
        format!(
            "Training at N = {}, epoch by epoch: the penalty before its weight, the pairs it counts in a batch, accuracy on backgrounds never seen, and the share of embedding units above 0. Bold: means over seeds, with 95 % intervals (Student's t); faint: every run.{}",
            self.n_bg,
            left_out(&self.left_out)
        )
    }
}

/// Labels and the tasks behind them.
type Groups = Vec<(String, BTreeSet<String>)>;

/// The tasks of cross-entropy and of each lambda, an even choice if there are many, and the factors in
/// which runs of a group that is left out differ.
fn groups(runs: &[Run], n_bg: i64) -> (Groups, BTreeSet<String>) {
    let here: Vec<&Run> = runs.iter().filter(|r| r.n_bg == n_bg).collect();
    let mut left_out = BTreeSet::new();
    let mut tasks = |wanted: &dyn Fn(&Run) -> bool| -> BTreeSet<String> {
        let of: Vec<&Run> = here.iter().copied().filter(|r| wanted(r)).collect();
        let differ = mixture(of.iter().copied());
        let one = differ.is_empty();
        left_out.extend(differ);
        of.into_iter().filter(|_| one).filter_map(|r| r.task.clone()).collect()
    };
    let ours = here.iter().filter(|r| r.method == "dissimilarity");
    let lambdas = distinct(ours.filter_map(|r| r.lambda));
    let n = lambdas.len().min(LINES);
    let mut found = vec![("cross-entropy".to_owned(), tasks(&|r| r.method == "erm"))];
    for i in 0..n {
        let lambda = lambdas[if n > 1 { i * (lambdas.len() - 1) / (n - 1) } else { 0 }];
        let of = tasks(&|r| r.method == "dissimilarity" && r.lambda == Some(lambda));
        found.push((format!("λ = {lambda}"), of));
    }
    found.retain(|(_, tasks)| !tasks.is_empty());
    (found, left_out)
}

impl Drawing for Curves {
    fn size(&self) -> (u32, u32) {
        (1000, 710)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: f64) -> Drawn<B> {
        area.fill(&WHITE)?;
        let (top, area) = area.split_vertically((30.0 * scale).round() as i32);
        self.key(&top, scale)?;
        for (panel, cell) in area.split_evenly((2, 2)).into_iter().enumerate() {
            self.panel(panel, &cell, scale)?;
        }
        area.present()
    }
}

/// Cross-entropy, the first line, has the second colour, as in every figure.
fn colour(line: usize) -> RGBColor {
    PALETTE[[1, 0, 2, 3, 4, 5, 6][line % 7]]
}

impl Curves {
    /// What each colour is, in a line above the panels.
    fn key<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: f64) -> Drawn<B> {
        let px = |v: f64| (v * scale).round() as i32;
        let mut x = 70.0;
        for (i, line) in self.lines.iter().enumerate() {
            let style = colour(i).stroke_width(px(3.0) as u32);
            let stroke = [(px(x), px(18.0)), (px(x + 24.0), px(18.0))];
            area.draw(&PathElement::new(stroke, style))?;
            let words = text(14.0, scale, HPos::Left, BLACK);
            area.draw(&Text::new(line.label.clone(), (px(x + 31.0), px(17.0)), words))?;
            x += 62.0 + line.label.chars().count() as f64 * 8.2;
        }
        Ok(())
    }

    fn panel<B: DrawingBackend>(
        &self,
        panel: usize,
        area: &DrawingArea<B, Shift>,
        scale: f64,
    ) -> Drawn<B> {
        let px = |v: f64| (v * scale).round() as i32;
        let font = |size: f64| ("sans-serif", size * scale).into_font().color(&BLACK);
        let points = || self.lines.iter().flat_map(|l| l.runs[panel].values().flatten());
        let last = points().map(|p| p.0).fold(1.0, f64::max);
        let (low, high) = points().fold((0.0f64, 1e-9f64), |(a, b), p| (a.min(p.1), b.max(p.1)));
        let high = match panel {
            0 => 1.0,
            _ if PANELS[panel].2 == 100.0 => 100.0,
            _ => high * 1.15,
        };
        let mut chart = ChartBuilder::on(area)
            .margin(px(12.0))
            .caption(PANELS[panel].1, font(14.0))
            .x_label_area_size(px(40.0))
            .y_label_area_size(px(56.0))
            .build_cartesian_2d(0.8..last + 0.2, low..high)?;
        let whole = |v: &f64| {
            let near = v.round();
            if (v - near).abs() < 1e-6 { format!("{near}") } else { String::new() }
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(LIGHT)
            .axis_style(GREY)
            .y_labels(6)
            .y_label_formatter(&|v| format!("{}", (v * 1e3).round() / 1e3))
            .x_labels(last as usize + 1)
            .x_label_formatter(&whole)
            .x_desc("epoch")
            .label_style(font(12.0))
            .axis_desc_style(font(13.0))
            .draw()?;
        for (i, line) in self.lines.iter().enumerate() {
            let colour = colour(i);
            let mut by_epoch: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
            for run in line.runs[panel].values() {
                let faint = colour.mix(0.18).stroke_width(px(1.0) as u32);
                chart.draw_series(LineSeries::new(run.iter().copied(), faint))?;
                run.iter().for_each(|p| by_epoch.entry(p.0 as u64).or_default().push(p.1));
            }
            let means: Vec<(f64, f64)> = by_epoch
                .iter()
                .map(|(epoch, v)| (*epoch as f64, dissim_statistics::mean(v)))
                .collect();
            let bold = colour.stroke_width(px(2.0) as u32);
            chart.draw_series(LineSeries::new(means.iter().copied(), bold))?;
            for (epoch, values) in &by_epoch {
                let x = *epoch as f64 + (i as f64 - self.lines.len() as f64 / 2.0) * 0.03;
                if let Some((_, _, Some(interval))) = student::summary(values, 0.95) {
                    let ends = [(x, interval.low.max(low)), (x, interval.high.min(high))];
                    let style = colour.stroke_width(px(1.2) as u32);
                    chart.draw_series([PathElement::new(ends, style)])?;
                }
            }
        }
        Ok(())
    }
}

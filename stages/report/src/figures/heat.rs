//! OOD accuracy over the weight and the threshold of the penalty: the (lambda, tau) heat map.

use dissim_statistics::{mean, student};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{Drawing, Drawn, GREY, ink, shade, text};
use crate::runs::{Run, VARIANT, distinct};

const CELL: (f64, f64) = (128.0, 62.0);
const LEFT: f64 = 110.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 70.0;
const RIGHT: f64 = 120.0;

/// Mean OOD accuracy by lambda (across) and tau (up), at one N.
pub(super) struct HeatMap {
    n_bg: i64,
    lambdas: Vec<f64>,
    taus: Vec<f64>,
    /// By tau, then lambda: the values of the runs.
    cells: Vec<Vec<Vec<f64>>>,
}

impl HeatMap {
    /// Of the runs whose pairs are chosen by a threshold; none where fewer than two lambdas and two
    /// taus were run.
    pub fn of(runs: &[Run]) -> Option<Self> {
        let with_tau: Vec<&Run> = runs
            .iter()
            .filter(|r| r.tau.is_some() && r.lambda.is_some() && threshold_alone(r))
            .collect();
        let count = |n: &i64| with_tau.iter().filter(|r| r.n_bg == *n).count();
        let n_bg = distinct(with_tau.iter().map(|r| r.n_bg)).into_iter().max_by_key(count)?;
        let here: Vec<&Run> = with_tau.into_iter().filter(|r| r.n_bg == n_bg).collect();
        let lambdas = distinct(here.iter().filter_map(|r| r.lambda));
        let taus = distinct(here.iter().filter_map(|r| r.tau));
        if lambdas.len() < 2 || taus.len() < 2 {
            return None;
        }
        let cell = |tau: f64, lambda: f64| -> Vec<f64> {
            let of = here.iter().filter(|r| r.tau == Some(tau) && r.lambda == Some(lambda));
            of.filter_map(|r| r.ood_acc).collect()
        };
        let row = |tau: &f64| lambdas.iter().map(|lambda| cell(*tau, *lambda)).collect();
        let cells = taus.iter().map(row).collect();
        Some(Self { n_bg, lambdas, taus, cells })
    }

    pub fn caption(&self) -> String {
        format!(
            "OOD accuracy of the threshold variant at N = {}, by the weight λ and the threshold τ of its pairs: mean over all runs ± half of the 95 % interval (Student's t), in percent, and the number of runs. The best mean is framed.",
            self.n_bg
        )
    }

    fn best(&self) -> f64 {
        let means = self.cells.iter().flatten().filter(|c| !c.is_empty()).map(|c| mean(c));
        means.fold(f64::NEG_INFINITY, f64::max)
    }

    fn range(&self) -> (f64, f64) {
        let means = self.cells.iter().flatten().filter(|c| !c.is_empty()).map(|c| mean(c));
        let low = means.fold(f64::INFINITY, f64::min);
        (low, (self.best() - low).max(1e-9))
    }
}

/// Whether a run departs from the plain ones in nothing but its threshold.
fn threshold_alone(run: &Run) -> bool {
    let departs = run.variant.get(VARIANT).map(String::as_str).unwrap_or_default();
    let mut facts = departs.split(", ").filter_map(|part| part.split_once(" = "));
    facts.all(|(fact, _)| ["pairs", "tau"].contains(&fact))
}

impl Drawing for HeatMap {
    fn size(&self) -> (u32, u32) {
        let width = LEFT + CELL.0 * self.lambdas.len() as f64 + RIGHT;
        (width as u32, (TOP + CELL.1 * self.taus.len() as f64 + BOTTOM) as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: f64) -> Drawn<B> {
        area.fill(&WHITE)?;
        let px = |v: f64| (v * scale).round() as i32;
        let (low, span) = self.range();
        let below = TOP + CELL.1 * self.taus.len() as f64;
        for (t, tau) in self.taus.iter().enumerate() {
            let y = below - CELL.1 * (t as f64 + 1.0);
            let style = text(14.0, scale, HPos::Right, BLACK);
            let at = (px(LEFT - 12.0), px(y + CELL.1 / 2.0));
            area.draw(&Text::new(tau.to_string(), at, style))?;
            for (l, values) in self.cells[t].iter().enumerate() {
                self.cell(area, scale, (LEFT + CELL.0 * l as f64, y), values, (low, span))?;
            }
        }
        for (l, lambda) in self.lambdas.iter().enumerate() {
            let at = (px(LEFT + CELL.0 * (l as f64 + 0.5)), px(below + 16.0));
            area.draw(&Text::new(lambda.to_string(), at, text(14.0, scale, HPos::Center, BLACK)))?;
        }
        let middle = px(LEFT + CELL.0 * self.lambdas.len() as f64 / 2.0);
        let style = text(15.0, scale, HPos::Center, BLACK);
        let title = format!("weight of the penalty, λ  (N = {})", self.n_bg);
        area.draw(&Text::new(title, (middle, px(below + 46.0)), style))?;
        let style = text(15.0, scale, HPos::Center, BLACK).transform(FontTransform::Rotate270);
        let at = (px(24.0), px((TOP + below) / 2.0));
        area.draw(&Text::new("threshold, τ", at, style))?;
        self.scale_bar(area, scale, below, (low, span))
    }
}

impl HeatMap {
    fn cell<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        scale: f64,
        (x, y): (f64, f64),
        values: &[f64],
        (low, span): (f64, f64),
    ) -> Drawn<B> {
        let px = |v: f64| (v * scale).round() as i32;
        let corners = [(px(x + 1.0), px(y + 1.0)), (px(x + CELL.0 - 1.0), px(y + CELL.1 - 1.0))];
        let centre = |dy: f64| (px(x + CELL.0 / 2.0), px(y + CELL.1 / 2.0 + dy));
        if values.is_empty() {
            area.draw(&Text::new("-", centre(0.0), text(14.0, scale, HPos::Center, GREY)))?;
            return area.draw(&Rectangle::new(corners, GREY.mix(0.3).stroke_width(1)));
        }
        let value = mean(values);
        let share = (value - low) / span;
        area.draw(&Rectangle::new(corners, shade(share).filled()))?;
        if value == self.best() {
            let width = px(3.0) as u32;
            area.draw(&Rectangle::new(corners, BLACK.stroke_width(width)))?;
        }
        let half = student::summary(values, 0.95).and_then(|(_, _, i)| i);
        let half = half.map(|i| format!(" ± {:.1}", (i.high - i.low) * 50.0)).unwrap_or_default();
        let line = format!("{:.1}{half}", value * 100.0);
        area.draw(&Text::new(line, centre(-8.0), text(15.0, scale, HPos::Center, ink(share))))?;
        let line = format!("n = {}", values.len());
        area.draw(&Text::new(line, centre(13.0), text(11.0, scale, HPos::Center, ink(share))))
    }

    fn scale_bar<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        scale: f64,
        below: f64,
        (low, span): (f64, f64),
    ) -> Drawn<B> {
        let px = |v: f64| (v * scale).round() as i32;
        let x = LEFT + CELL.0 * self.lambdas.len() as f64 + 24.0;
        let height = below - TOP;
        for i in 0..50 {
            let from = below - height * f64::from(i) / 50.0;
            let corners = [(px(x), px(from - height / 50.0)), (px(x + 16.0), px(from))];
            area.draw(&Rectangle::new(corners, shade(f64::from(i) / 49.0).filled()))?;
        }
        for (share, nudge) in [(0.0, -7.0), (0.5, 0.0), (1.0, 7.0)] {
            let at = (px(x + 22.0), px(below - height * share + nudge));
            let label = format!("{:.0} %", (low + span * share) * 100.0);
            area.draw(&Text::new(label, at, text(13.0, scale, HPos::Left, BLACK)))?;
        }
        Ok(())
    }
}

//! OOD accuracy over the weight and the threshold of the penalty: the (lambda, tau) heat map.

use std::collections::BTreeSet;

use dissim_statistics::{mean, student};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use serde_json::{Value, json};

use super::canvas::{Drawing, Drawn, shade, text};
use super::tiles::{BOTTOM, LEFT, TOP, Tile, Tiles};
use crate::runs::{Run, distinct, left_out, mixture};

/// For the bar of shades.
const RIGHT: f64 = 100.0;

/// Mean OOD accuracy by lambda (across) and tau (up), at one N.
pub(super) struct HeatMap {
    n_bg: i64,
    tiles: Tiles,
    /// The smallest and the largest mean.
    range: (f64, f64),
    /// The factors in which runs of one tile differ; such a tile is empty.
    left_out: BTreeSet<String>,
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
        let mut taus = distinct(here.iter().filter_map(|r| r.tau));
        taus.reverse();
        if lambdas.len() < 2 || taus.len() < 2 {
            return None;
        }
        let of = |tau: f64, lambda: f64| {
            let of = here.iter().filter(move |r| r.tau == Some(tau) && r.lambda == Some(lambda));
            of.copied()
        };
        let cell = |tau: f64, lambda: f64| -> Vec<f64> {
            let one = mixture(of(tau, lambda)).is_empty();
            of(tau, lambda).filter(|_| one).filter_map(|r| r.ood_acc).collect()
        };
        let places =
            || taus.iter().flat_map(|tau| lambdas.iter().map(move |lambda| (*tau, *lambda)));
        let left_out = places().flat_map(|(tau, lambda)| mixture(of(tau, lambda))).collect();
        let means = places().map(|(tau, lambda)| cell(tau, lambda));
        let means: Vec<f64> = means.filter(|c| !c.is_empty()).map(|c| mean(&c)).collect();
        if means.is_empty() {
            return None;
        }
        let low = means.iter().copied().fold(f64::INFINITY, f64::min);
        let high = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let tile = |tau: f64, lambda: f64| -> Option<Tile> {
            let values = cell(tau, lambda);
            let value = (!values.is_empty()).then(|| mean(&values))?;
            let half = student::summary(&values, 0.95).and_then(|(_, _, i)| i);
            let half = half.map(|i| format!(" ± {:.1}", (i.high - i.low) * 50.0));
            let shown = format!("{:.1}{}", value * 100.0, half.unwrap_or_default());
            let runs: Vec<_> = values.iter().map(|v| format!("{:.1}", v * 100.0)).collect();
            let n = values.len();
            Some(Tile {
                share: (value - low) / (high - low).max(1e-9),
                about: format!(
                    "λ = {lambda}, τ = {tau}\nmean {shown}, n = {n}\n{}",
                    runs.join("  ")
                ),
                text: vec![shown, format!("n = {n}")],
                filter: format!("n_bg={n_bg} method=dissimilarity lambda={lambda} tau={tau}"),
                best: value == high,
            })
        };
        let row = |tau: &f64| lambdas.iter().map(|lambda| tile(*tau, *lambda)).collect();
        let tiles = Tiles {
            title: format!("OOD accuracy with thresholds at N = {n_bg}"),
            x_title: "weight of the penalty, λ".to_owned(),
            y_title: "threshold, τ".to_owned(),
            x: lambdas.iter().map(f64::to_string).collect(),
            y: taus.iter().map(f64::to_string).collect(),
            size: (128.0, 62.0),
            cells: taus.iter().map(row).collect(),
        };
        Some(Self { n_bg, tiles, range: (low, high), left_out })
    }

    pub fn caption(&self) -> String {
        format!(
            "OOD accuracy of the threshold variant at N = {}, by the weight λ and the threshold τ of its pairs: mean over all runs ± half of the 95 % interval (Student's t), in percent, and the number of runs. The best mean is framed.{}",
            self.n_bg,
            left_out(&self.left_out)
        )
    }

    /// For the page.
    pub fn data(&self) -> Value {
        json!({ "tiles": [self.tiles] })
    }
}

/// Whether a run departs from the plain ones in nothing but its threshold.
fn threshold_alone(run: &Run) -> bool {
    let mut facts = run.variant.split(", ").filter_map(|part| part.split_once(" = "));
    facts.all(|(fact, _)| ["pairs", "tau"].contains(&fact))
}

impl Drawing for HeatMap {
    fn size(&self) -> (u32, u32) {
        let (width, height) = self.tiles.inner();
        ((LEFT + width + RIGHT) as u32, (TOP + height + BOTTOM) as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: f64) -> Drawn<B> {
        area.fill(&WHITE)?;
        self.tiles.draw(area, scale, 0.0)?;
        let px = |v: f64| (v * scale).round() as i32;
        let (width, height) = self.tiles.inner();
        let (x, below) = (LEFT + width + 20.0, TOP + height);
        for i in 0..50 {
            let from = below - height * f64::from(i) / 50.0;
            let corners = [(px(x), px(from - height / 50.0)), (px(x + 16.0), px(from))];
            area.draw(&Rectangle::new(corners, shade(f64::from(i) / 49.0).filled()))?;
        }
        let (low, high) = self.range;
        for (share, nudge) in [(0.0, -7.0), (0.5, 0.0), (1.0, 7.0)] {
            let at = (px(x + 22.0), px(below - height * share + nudge));
            let label = format!("{:.0} %", (low + (high - low) * share) * 100.0);
            area.draw(&Text::new(label, at, text(13.0, scale, HPos::Left, BLACK)))?;
        }
        Ok(())
    }
}

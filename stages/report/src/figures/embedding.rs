//! Embeddings in the plane of their first two principal axes, by digit and by background.

use std::path::Path;

use dissim_api::StageError;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use serde_json::{Value, json};

use super::canvas::{Drawing, Drawn, GREY, LIGHT, TEN, text};
use super::pair::Pair;
use super::tiles::css;
use crate::runs::{Run, distinct, numbers, table, words};

const SIDE: f64 = 380.0;
const LEFT: f64 = 40.0;
const TOP: f64 = 58.0;
const STEP: f64 = SIDE + 44.0;

/// An image of the ID test.
struct Point {
    x: f64,
    y: f64,
    digit: usize,
    /// Which of its label's backgrounds it has, from 0.
    background: usize,
}

/// One network.
struct Plane {
    title: String,
    points: Vec<Point>,
    /// Shares of the variance on both axes.
    shares: (f64, f64),
}

/// Both networks, each coloured twice.
pub(super) struct Planes {
    n_bg: i64,
    planes: Vec<Plane>,
    left_out: String,
}

impl Planes {
    /// Of the first run of each side that is alive.
    ///
    /// # Errors
    /// When the table is damaged.
    pub fn of(runs: &[Run], results: &Path) -> Result<Option<Self>, StageError> {
        let path = results.join("embeddings.parquet");
        let Some(pair) = Pair::of(runs).filter(|_| path.is_file()) else { return Ok(None) };
        let embeddings = table(&path)?;
        let (tasks, split) = (words(&embeddings, "task"), words(&embeddings, "split"));
        let [x, y, label, background, share_x, share_y] =
            ["x", "y", "label", "background", "share_x", "share_y"]
                .map(|name| numbers(&embeddings, name));
        let mut planes = Vec::new();
        for side in &pair.sides {
            let held = |task: &&String| tasks.iter().any(|t| t.as_ref() == Some(task));
            // A dead network has nothing to show, where another is alive.
            let dead =
                |task: &&String| runs.iter().any(|r| r.dead && r.task.as_ref() == Some(task));
            let task = side.tasks.iter().filter(held).min_by_key(dead);
            let Some(task) = task else { continue };
            let rows: Vec<usize> = (0..tasks.len())
                .filter(|&r| tasks[r].as_ref() == Some(task))
                .filter(|&r| split[r].as_deref() == Some("id_test"))
                .collect();
            let own = |digit: f64| {
                let of = rows.iter().filter(|&&r| label[r] == Some(digit));
                distinct(of.filter_map(|&r| background[r]))
            };
            let ranks: Vec<Vec<f64>> = (0..10).map(|d| own(f64::from(d))).collect();
            let point = |&r: &usize| {
                let digit = label[r]? as usize;
                let background = background[r]?;
                let rank = ranks.get(digit)?.iter().position(|b| *b == background)?;
                Some(Point { x: x[r]?, y: y[r]?, digit, background: rank })
            };
            let points: Vec<Point> = rows.iter().filter_map(point).collect();
            let first = rows.first().copied().unwrap_or_default();
            let share = |column: &[Option<f64>]| column.get(first).copied().flatten();
            let shares = (share(&share_x).unwrap_or_default(), share(&share_y).unwrap_or_default());
            if !points.is_empty() {
                planes.push(Plane { title: side.title.clone(), points, shares });
            }
        }
        Ok((!planes.is_empty()).then_some(Self {
            n_bg: pair.n_bg,
            planes,
            left_out: pair.left_out,
        }))
    }

    pub fn caption(&self) -> String {
        format!(
            "Embeddings of the ID test at N = {}, one run of each method, on their first two principal axes (with their share of the variance). Left: coloured by digit. Right: the same points, coloured by which of its label's {} backgrounds an image has; clusters of one colour mean that the network tells backgrounds apart.{}",
            self.n_bg, self.n_bg, self.left_out
        )
    }

    /// For the page: of every network its points as columns, in five digits.
    pub fn data(&self) -> Value {
        let round = |v: f64| format!("{v:.4e}").parse().unwrap_or(v);
        let plane = |plane: &Plane| {
            let column = |value: fn(&Point) -> f64| -> Vec<f64> {
                plane.points.iter().map(|p| round(value(p))).collect()
            };
            json!({
                "title": plane.title,
                "shares": [round(plane.shares.0), round(plane.shares.1)],
                "x": column(|p| p.x),
                "y": column(|p| p.y),
                "digit": column(|p| p.digit as f64),
                "background": column(|p| p.background as f64),
            })
        };
        let (n, left_out) = (self.n_bg, &self.left_out);
        json!({
            "caption": format!("Embeddings of the ID test at N = {n}, of one run of each method that is alive, on their first two principal axes. Coloured by background, by which of its label's {n} an image has, clusters of one colour mean that the network tells backgrounds apart.{left_out}"),
            "planes": self.planes.iter().map(plane).collect::<Vec<_>>(),
            "colours": TEN.map(css),
        })
    }
}

/// What a point is coloured by.
type Class = fn(&Point) -> usize;

impl Drawing for Planes {
    fn size(&self) -> (u32, u32) {
        let height = TOP + self.planes.len() as f64 * (SIDE + 62.0) - 20.0;
        ((LEFT + 2.0 * STEP - 14.0) as u32, height as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: f64) -> Drawn<B> {
        area.fill(&WHITE)?;
        let px = |v: f64| (v * scale).round() as i32;
        let by: [(&str, Class); 2] =
            [("by digit", |p| p.digit), ("by background", |p| p.background)];
        for (row, plane) in self.planes.iter().enumerate() {
            let top = TOP + row as f64 * (SIDE + 62.0);
            for (column, (words, class)) in by.into_iter().enumerate() {
                let left = LEFT + column as f64 * STEP;
                let title = format!("{}: {words}", plane.title);
                let at = (px(left + SIDE / 2.0), px(top - 16.0));
                area.draw(&Text::new(title, at, text(14.0, scale, HPos::Center, BLACK)))?;
                plane.draw(area, scale, (left, top), class)?;
            }
        }
        self.key(area, scale)
    }
}

impl Planes {
    /// The ten colours of digits, above the first column.
    fn key<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: f64) -> Drawn<B> {
        let px = |v: f64| (v * scale).round() as i32;
        for (digit, colour) in TEN.iter().enumerate() {
            let x = LEFT + 20.0 + digit as f64 * 36.0;
            area.draw(&Circle::new((px(x), px(18.0)), px(5.0), colour.filled()))?;
            let style = text(13.0, scale, HPos::Left, BLACK);
            area.draw(&Text::new(digit.to_string(), (px(x + 9.0), px(18.0)), style))?;
        }
        Ok(())
    }
}

impl Plane {
    fn draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        scale: f64,
        (left, top): (f64, f64),
        class: Class,
    ) -> Drawn<B> {
        let px = |v: f64| (v * scale).round() as i32;
        let range = |value: fn(&Point) -> f64| {
            let all = self.points.iter().map(value);
            all.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)))
        };
        // One scale for both axes: distances are distances.
        let (xs, ys) = (range(|p| p.x), range(|p| p.y));
        let span = (xs.1 - xs.0).max(ys.1 - ys.0).max(1e-9);
        let at = |v: f64, (low, high): (f64, f64)| (v - (low + high) / 2.0) / span + 0.5;
        let corners = [(px(left), px(top)), (px(left + SIDE), px(top + SIDE))];
        area.draw(&Rectangle::new(corners, LIGHT.stroke_width(px(1.0) as u32)))?;
        for point in &self.points {
            let x = left + 10.0 + (SIDE - 20.0) * at(point.x, xs);
            let y = top + SIDE - 10.0 - (SIDE - 20.0) * at(point.y, ys);
            let colour = TEN[class(point) % TEN.len()];
            area.draw(&Circle::new((px(x), px(y)), px(3.4), colour.mix(0.8).filled()))?;
        }
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let (first, second) = (percent(self.shares.0), percent(self.shares.1));
        let at = (px(left + SIDE / 2.0), px(top + SIDE + 14.0));
        area.draw(&Text::new(
            format!("axis 1 ({first})"),
            at,
            text(12.0, scale, HPos::Center, GREY),
        ))?;
        let style = text(12.0, scale, HPos::Center, GREY).transform(FontTransform::Rotate270);
        let at = (px(left - 14.0), px(top + SIDE / 2.0));
        area.draw(&Text::new(format!("axis 2 ({second})"), at, style))
    }
}

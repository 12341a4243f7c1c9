//! Accuracy against N, and against lambda with the share of dead runs.

use std::collections::BTreeSet;

use dissim_statistics::{share, student};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::canvas::{BLUE, Drawing, Drawn, GREY, LIGHT, VERMILION};
use crate::runs::{Run, distinct, left_out, main_lambda, mixture, sweep};

const SIZE: (u32, u32) = (900, 520);

/// A figure to draw.
pub(crate) struct Panel {
    /// File name without extension.
    pub name: String,
    pub caption: String,
    x_title: String,
    /// Ticks, one a place on the x axis.
    ticks: Vec<String>,
    series: Vec<Series>,
    /// Dead runs of all runs at each tick, if they are drawn; `None` where runs of several settings met.
    dead: Option<Vec<Option<(usize, usize)>>>,
}

/// A line: at each place it has, the values of its runs in percent.
struct Series {
    label: String,
    colour: RGBColor,
    dashed: bool,
    points: Vec<(usize, Vec<f64>)>,
}

/// The figures that these runs allow.
pub(crate) fn panels(runs: &[Run]) -> Vec<Panel> {
    [against_backgrounds(runs), against_lambda(runs)].into_iter().flatten().collect()
}

/// Runs by place on the x axis, and the factors in which runs that would be averaged differ.
struct Places<'a, T> {
    runs: &'a [Run],
    places: &'a [T],
    left_out: BTreeSet<String>,
}

impl<T: PartialEq> Places<'_, T> {
    /// Values in percent of the runs that `wanted` keeps, at each place where they are of one setting.
    fn points(
        &mut self,
        place: impl Fn(&Run) -> Option<T>,
        wanted: impl Fn(&Run) -> bool,
        value: impl Fn(&Run) -> Option<f64>,
    ) -> Vec<(usize, Vec<f64>)> {
        let mut points = Vec::new();
        for (i, p) in self.places.iter().enumerate() {
            let here = self.runs.iter().filter(|r| wanted(r) && place(r).as_ref() == Some(p));
            let here: Vec<&Run> = here.collect();
            let differ = mixture(here.iter().copied());
            let values: Vec<f64> = here.into_iter().filter_map(&value).map(|v| v * 100.0).collect();
            if !values.is_empty() && differ.is_empty() {
                points.push((i, values));
            }
            self.left_out.extend(differ);
        }
        points
    }
}

fn against_backgrounds(runs: &[Run]) -> Option<Panel> {
    let places = distinct(runs.iter().map(|r| r.n_bg));
    if places.is_empty() {
        return None;
    }
    let lambda = main_lambda(runs);
    let is_ours = |r: &Run| r.method == "dissimilarity" && r.lambda == lambda;
    let is_erm = |r: &Run| r.method == "erm";
    let n = |r: &Run| Some(r.n_bg);
    let ours = format!("dissimilarity, λ = {}", lambda.unwrap_or_default());
    let line = |who: &str, colour, metric: &str, dashed, points| Series {
        label: format!("{who}: {metric}"),
        colour,
        dashed,
        points,
    };
    let erm = "cross-entropy";
    let (ood, id) = (|r: &Run| r.ood_acc, |r: &Run| r.id_acc);
    let mut at = Places { runs, places: &places, left_out: BTreeSet::new() };
    let mut series = vec![
        line(&ours, BLUE, "OOD", false, at.points(n, is_ours, ood)),
        line(erm, VERMILION, "OOD", false, at.points(n, is_erm, ood)),
        line(&ours, BLUE, "ID", true, at.points(n, is_ours, id)),
        line(erm, VERMILION, "ID", true, at.points(n, is_erm, id)),
    ];
    series.retain(|s| !s.points.is_empty());
    if series.is_empty() {
        return None;
    }
    let left_out = left_out(&at.left_out);
    Some(Panel {
        name: "ood-vs-backgrounds".into(),
        caption: format!(
            "Accuracy against the number of backgrounds that each label owns in training. Solid: on backgrounds never seen (OOD). Dashed: on the training backgrounds (ID). Means with 95 % intervals over seeds; each dot is a run.{left_out}"
        ),
        x_title: "backgrounds per label, N".into(),
        ticks: places.iter().map(ToString::to_string).collect(),
        series,
        dead: None,
    })
}

fn against_lambda(runs: &[Run]) -> Option<Panel> {
    let n = sweep(runs)?;
    let swept = |r: &&Run| r.n_bg == n && r.lambda.is_some() && r.method == "dissimilarity";
    let here: Vec<Run> = runs.iter().filter(swept).cloned().collect();
    let places = distinct(here.iter().filter_map(|r| r.lambda));
    let lambda = |r: &Run| r.lambda;
    let dead = |l: &f64| {
        let at = here.iter().filter(|r| r.lambda == Some(*l));
        let one = mixture(at.clone()).is_empty();
        one.then(|| (at.clone().filter(|r| r.dead).count(), at.count()))
    };
    let mut at = Places { runs: &here, places: &places, left_out: BTreeSet::new() };
    let ood = at.points(lambda, |_| true, |r| r.ood_acc);
    let id = at.points(lambda, |_| true, |r| r.id_acc);
    if ood.is_empty() && id.is_empty() {
        return None;
    }
    let left_out = left_out(&at.left_out);
    Some(Panel {
        name: "ood-vs-lambda".into(),
        caption: format!(
            "Accuracy against the weight λ of the penalty at N = {n}, and the share of dead runs (ID accuracy below 20 %) with its Wilson interval. Means over all runs, dead ones too, with 95 % intervals; each dot is a run.{left_out}"
        ),
        x_title: format!("weight of the penalty, λ  (N = {n})"),
        ticks: places.iter().map(ToString::to_string).collect(),
        series: vec![
            Series { label: "OOD".into(), colour: BLUE, dashed: false, points: ood },
            Series { label: "ID".into(), colour: GREY, dashed: true, points: id },
        ],
        dead: Some(places.iter().map(dead).collect()),
    })
}

impl Drawing for Panel {
    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: f64) -> Drawn<B> {
        draw(self, area, scale)
    }
}

/// Draws a panel at `scale` pixels a unit.
fn draw<B: DrawingBackend>(panel: &Panel, area: &DrawingArea<B, Shift>, scale: f64) -> Drawn<B> {
    area.fill(&WHITE)?;
    let px = |v: f64| (v * scale).round() as i32;
    let font = |size: f64| ("sans-serif", size * scale).into_font().color(&BLACK);
    let (upper, lower) = match &panel.dead {
        Some(_) => area.split_vertically(px(375.0)),
        None => area.split_vertically(px(f64::from(SIZE.1))),
    };
    let last = panel.ticks.len() as f64 - 1.0;
    let x = -0.35..last + 0.35;
    let tick = |v: &f64| {
        let near = v.round();
        let whole = (v - near).abs() < 1e-6 && near >= 0.0;
        if whole {
            panel.ticks.get(near as usize).cloned().unwrap_or_default()
        } else {
            String::new()
        }
    };
    let below = panel.dead.is_some();
    let mut chart = ChartBuilder::on(&upper)
        .margin(px(12.0))
        .margin_right(px(24.0))
        .x_label_area_size(px(if below { 8.0 } else { 52.0 }))
        .y_label_area_size(px(64.0))
        .build_cartesian_2d(x.clone(), 0.0..100.0)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(LIGHT)
        .axis_style(GREY)
        .y_labels(6)
        .y_label_formatter(&|v| format!("{v:.0}"))
        .y_desc("accuracy, %")
        .label_style(font(14.0))
        .axis_desc_style(font(15.0));
    if below {
        mesh.x_labels(0);
    } else {
        mesh.x_labels(panel.ticks.len() * 2)
            .x_label_formatter(&tick)
            .x_desc(panel.x_title.as_str());
    }
    mesh.draw()?;
    let count = panel.series.len() as f64;
    for (s, series) in panel.series.iter().enumerate() {
        // Side by side, so that intervals do not hide each other.
        let shift = (s as f64 - (count - 1.0) / 2.0) * 0.05;
        draw_series(&mut chart, series, shift, scale)?;
    }
    chart
        .configure_series_labels()
        .position(emptiest_corner(panel))
        .background_style(WHITE.mix(0.85))
        .border_style(LIGHT)
        .label_font(font(14.0))
        .margin(px(8.0) as u32)
        .legend_area_size(px(30.0) as u32)
        .draw()?;
    if let Some(dead) = &panel.dead {
        let mut chart = ChartBuilder::on(&lower)
            .margin(px(8.0))
            .margin_right(px(24.0))
            .margin_left(px(12.0))
            .x_label_area_size(px(52.0))
            .y_label_area_size(px(64.0))
            .build_cartesian_2d(x, 0.0..100.0)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(LIGHT)
            .axis_style(GREY)
            .x_labels(panel.ticks.len() * 2)
            .x_label_formatter(&tick)
            .y_labels(3)
            .y_label_formatter(&|v| format!("{v:.0}"))
            .y_desc("dead, %")
            .x_desc(panel.x_title.as_str())
            .label_style(font(14.0))
            .axis_desc_style(font(15.0))
            .draw()?;
        // A share is a dot with Wilson's interval as a thin whisker.
        for (i, &dead) in dead.iter().enumerate() {
            let Some((count, n)) = dead else { continue };
            let (at, percent) = (i as f64, 100.0 * count as f64 / n as f64);
            if let Some(interval) = share::wilson(count, n, 0.95) {
                let ends = [(at, interval.low * 100.0), (at, interval.high * 100.0)];
                let style = VERMILION.stroke_width(px(1.0) as u32);
                chart.draw_series([PathElement::new(ends, style)])?;
            }
            chart.draw_series([Circle::new((at, percent), px(4.5), VERMILION.filled())])?;
        }
    }
    area.present()
}

/// The corner of the plot with the fewest runs in it: the legend hides little there.
fn emptiest_corner(panel: &Panel) -> SeriesLabelPosition {
    let last = panel.ticks.len() as f64 - 1.0;
    let (left, right) = (last * 0.3, last * 0.7);
    let runs_in = |corner: &dyn Fn(f64, f64) -> bool| {
        let points = panel.series.iter().flat_map(|series| &series.points);
        points.map(|(i, ys)| ys.iter().filter(|y| corner(*i as f64, **y)).count()).sum::<usize>()
    };
    let corners = [
        (runs_in(&|x, y| x > right && y < 30.0), SeriesLabelPosition::LowerRight),
        (runs_in(&|x, y| x < left && y < 30.0), SeriesLabelPosition::LowerLeft),
        (runs_in(&|x, y| x > right && y > 70.0), SeriesLabelPosition::UpperRight),
        (runs_in(&|x, y| x < left && y > 70.0), SeriesLabelPosition::UpperLeft),
    ];
    let best = corners.into_iter().min_by_key(|(runs, _)| *runs);
    best.map_or(SeriesLabelPosition::LowerRight, |(_, corner)| corner)
}

type Chart<'a, B> = ChartContext<
    'a,
    B,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

fn draw_series<'a, B: DrawingBackend + 'a>(
    chart: &mut Chart<'a, B>,
    series: &Series,
    shift: f64,
    scale: f64,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let px = move |v: f64| (v * scale).round() as i32;
    let width = px(2.0) as u32;
    let (colour, dashed) = (series.colour, series.dashed);
    let line: Vec<(f64, f64)> = series
        .points
        .iter()
        .map(|(i, values)| (*i as f64 + shift, dissim_statistics::mean(values)))
        .collect();
    let label = series.label.clone();
    if dashed {
        chart
            .draw_series(DashedLineSeries::new(
                line.iter().copied(),
                px(6.0),
                px(5.0),
                colour.stroke_width(width),
            ))?
            .label(label)
            .legend(move |at| {
                let dash = |from: f64, to: f64| {
                    PathElement::new([(px(from), 0), (px(to), 0)], colour.stroke_width(width))
                };
                EmptyElement::at(at) + dash(0.0, 7.0) + dash(10.0, 17.0) + dash(20.0, 26.0)
            });
    } else {
        chart
            .draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(width)))?
            .label(label)
            .legend(move |(x, y)| {
                PathElement::new([(x, y), (x + px(26.0), y)], colour.stroke_width(width))
            });
    }
    for ((i, values), &(at, mean)) in series.points.iter().zip(&line) {
        let dots = values
            .iter()
            .map(|v| Circle::new((*i as f64 + shift, *v), px(3.0), colour.mix(0.35).filled()));
        chart.draw_series(dots)?;
        if let Some((_, _, Some(interval))) = student::summary(values, 0.95) {
            let ends = [(at, interval.low.max(0.0)), (at, interval.high.min(100.0))];
            chart.draw_series([PathElement::new(ends, colour.stroke_width(px(1.5) as u32))])?;
        }
        chart.draw_series([Circle::new((at, mean), px(4.5), colour.filled())])?;
    }
    Ok(())
}

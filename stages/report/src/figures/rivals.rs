//! Methods at one N, ranked by OOD accuracy.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{BLUE, Drawing, Drawn, GREEN, GREY, LIGHT, VERMILION, text};
use crate::rivals::{Rival, Rivals};

const LEFT: f64 = 230.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 44.0;
const ROW: f64 = 30.0;
const BOTTOM: f64 = 84.0;
const WIDTH: f64 = 960.0;

/// The figure.
pub(super) struct Ranking<'a>(pub &'a Rivals);

/// Colour by what a method is told; the marker says the same to who sees no colour.
fn colour(rival: &Rival) -> RGBColor {
    match rival.told.as_deref() {
        Some("training_groups") => VERMILION,
        Some("held_out_labels") => GREEN,
        _ => BLUE,
    }
}

impl Drawing for Ranking<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH as u32, (TOP + ROW * self.0.rows.len() as f64 + BOTTOM) as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: f64) -> Drawn<B> {
        area.fill(&WHITE)?;
        let px = |v: f64| (v * scale).round() as i32;
        let x =
            |percent: f64| px(LEFT + (WIDTH - LEFT - RIGHT) * percent.clamp(0.0, 100.0) / 100.0);
        let below = TOP + ROW * self.0.rows.len() as f64;
        let stroke = |c: RGBColor, w: f64| c.stroke_width(px(w) as u32);
        for tick in [0.0, 20.0, 40.0, 60.0, 80.0, 100.0] {
            let line = [(x(tick), px(TOP - 6.0)), (x(tick), px(below))];
            area.draw(&PathElement::new(line, stroke(LIGHT, 1.0)))?;
            let label = text(13.0, scale, HPos::Center, BLACK);
            area.draw(&Text::new(format!("{tick:.0}"), (x(tick), px(below + 13.0)), label))?;
        }
        let style = text(14.0, scale, HPos::Center, BLACK);
        let title = format!("OOD accuracy, %  (N = {})", self.0.n_bg);
        area.draw(&Text::new(title, (x(50.0), px(below + 36.0)), style))?;
        let head = text(13.0, scale, HPos::Left, GREY);
        let gap_x = px(WIDTH - RIGHT + 22.0);
        area.draw(&Text::new("gap recovered", (gap_x, px(TOP - 22.0)), head.clone()))?;
        for (i, rival) in self.0.rows.iter().enumerate() {
            let y = TOP + ROW * (i as f64 + 0.5);
            let colour = colour(rival);
            let name = text(14.0, scale, HPos::Right, BLACK);
            area.draw(&Text::new(rival.label(), (px(LEFT - 14.0), px(y)), name))?;
            for value in &rival.ood {
                let dot =
                    Circle::new((x(value * 100.0), px(y)), px(3.2), colour.mix(0.35).filled());
                area.draw(&dot)?;
            }
            if let Some((low, high)) = rival.interval {
                let ends = [(x(low * 100.0), px(y)), (x(high * 100.0), px(y))];
                area.draw(&PathElement::new(ends, stroke(colour, 2.0)))?;
            }
            marker(area, rival, (x(rival.mean * 100.0), px(y)), px(5.5), colour)?;
            area.draw(&Text::new(rival.gap_text(), (gap_x, px(y)), head.clone()))?;
        }
        legend(self.0, area, scale, below + 64.0)
    }
}

fn marker<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    rival: &Rival,
    at: (i32, i32),
    r: i32,
    colour: RGBColor,
) -> Drawn<B> {
    match rival.told.as_deref() {
        Some("training_groups") => area
            .draw(&Rectangle::new([(at.0 - r, at.1 - r), (at.0 + r, at.1 + r)], colour.filled())),
        Some("held_out_labels") => area.draw(&TriangleMarker::new(at, r + r / 3, colour.filled())),
        _ => area.draw(&Circle::new(at, r, colour.filled())),
    }
}

fn legend<B: DrawingBackend>(
    rivals: &Rivals,
    area: &DrawingArea<B, Shift>,
    scale: f64,
    y: f64,
) -> Drawn<B> {
    let px = |v: f64| (v * scale).round() as i32;
    let mut at = LEFT;
    for (told, words) in [
        ("nothing", "is told nothing"),
        ("training_groups", "is told which images share a background"),
        ("held_out_labels", "is told held-out labels"),
    ] {
        let Some(rival) =
            rivals.rows.iter().find(|r| r.told.as_deref().unwrap_or("nothing") == told)
        else {
            continue;
        };
        marker(area, rival, (px(at), px(y)), px(5.0), colour(rival))?;
        let style = text(13.0, scale, HPos::Left, BLACK);
        area.draw(&Text::new(words, (px(at + 12.0), px(y)), style))?;
        at += 40.0 + words.len() as f64 * 7.2;
    }
    Ok(())
}

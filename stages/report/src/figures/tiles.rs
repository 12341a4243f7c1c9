//! Tiles: a shaded value by row and column, for print and for the page.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use serde::{Serialize, Serializer};

use super::canvas::{Drawn, GREY, ink, shade, text};

/// One value.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Tile {
    /// Where it stands between the smallest shade and the largest, 0 to 1.
    #[serde(rename = "colours", serialize_with = "colours")]
    pub share: f64,
    /// The value, then what is said below it in small print.
    pub text: Vec<String>,
    /// What the page tells of it.
    pub about: String,
    /// Which runs are behind it; empty where that would be all of them.
    pub filter: String,
    /// Whether it is framed.
    pub best: bool,
}

/// Values by row and column; a tile without one is empty.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Tiles {
    pub title: String,
    pub x_title: String,
    pub y_title: String,
    /// The names of columns.
    pub x: Vec<String>,
    /// The names of rows, from the top.
    pub y: Vec<String>,
    /// Width and height of a tile.
    pub size: (f64, f64),
    pub cells: Vec<Vec<Option<Tile>>>,
}

/// Left of the tiles.
pub(super) const LEFT: f64 = 96.0;
/// Above them.
pub(super) const TOP: f64 = 36.0;
/// Below them.
pub(super) const BOTTOM: f64 = 62.0;

/// A tile's colour and that of its text, as CSS has them.
fn colours<S: Serializer>(share: &f64, to: S) -> Result<S::Ok, S::Error> {
    [shade(*share), ink(*share)].map(css).serialize(to)
}

/// `#0072b2`.
pub(super) fn css(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

impl Tiles {
    /// Width and height of the tiles alone.
    pub fn inner(&self) -> (f64, f64) {
        (self.size.0 * self.x.len() as f64, self.size.1 * self.y.len() as f64)
    }

    /// Draws them with their names, from `left` on.
    pub fn draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        scale: f64,
        left: f64,
    ) -> Drawn<B> {
        let px = |v: f64| (v * scale).round() as i32;
        let label = |size: f64| text(size, scale, HPos::Center, BLACK);
        let (x0, (width, height)) = (left + LEFT, self.inner());
        let middle = px(x0 + width / 2.0);
        area.draw(&Text::new(self.title.clone(), (middle, px(TOP - 20.0)), label(15.0)))?;
        let at = (middle, px(TOP + height + 42.0));
        area.draw(&Text::new(self.x_title.clone(), at, label(14.0)))?;
        let turned = label(14.0).transform(FontTransform::Rotate270);
        let at = (px(left + 18.0), px(TOP + height / 2.0));
        area.draw(&Text::new(self.y_title.clone(), at, turned))?;
        for (column, name) in self.x.iter().enumerate() {
            let at = (px(x0 + self.size.0 * (column as f64 + 0.5)), px(TOP + height + 16.0));
            area.draw(&Text::new(name.clone(), at, label(13.0)))?;
        }
        for (row, (name, cells)) in self.y.iter().zip(&self.cells).enumerate() {
            let y = TOP + self.size.1 * row as f64;
            let at = (px(x0 - 10.0), px(y + self.size.1 / 2.0));
            area.draw(&Text::new(name.clone(), at, text(13.0, scale, HPos::Right, BLACK)))?;
            for (column, tile) in cells.iter().enumerate() {
                self.tile(area, scale, (x0 + self.size.0 * column as f64, y), tile.as_ref())?;
            }
        }
        Ok(())
    }

    fn tile<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        scale: f64,
        (x, y): (f64, f64),
        tile: Option<&Tile>,
    ) -> Drawn<B> {
        let px = |v: f64| (v * scale).round() as i32;
        let (width, height) = self.size;
        let corners = [(px(x), px(y)), (px(x + width - 1.0), px(y + height - 1.0))];
        let centre = |dy: f64| (px(x + width / 2.0), px(y + height / 2.0 + dy));
        let Some(tile) = tile else {
            area.draw(&Text::new("-", centre(0.0), text(13.0, scale, HPos::Center, GREY)))?;
            return area.draw(&Rectangle::new(corners, GREY.mix(0.3).stroke_width(1)));
        };
        area.draw(&Rectangle::new(corners, shade(tile.share).filled()))?;
        if tile.best {
            let frame = BLACK.stroke_width(px(3.0) as u32);
            area.draw(&Rectangle::new(corners, frame))?;
        }
        let first = -10.5 * (tile.text.len() as f64 - 1.0);
        for (line, words) in tile.text.iter().enumerate() {
            let size = if line > 0 { 11.0 } else { width.min(60.0) / 4.0 };
            let style = text(size.max(12.0 - line as f64), scale, HPos::Center, ink(tile.share));
            area.draw(&Text::new(words.clone(), centre(first + 21.0 * line as f64), style))?;
        }
        Ok(())
    }
}

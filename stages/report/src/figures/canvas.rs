//! What every figure shares: colours, the font, and writing one drawing as SVG and PNG.
//!
//! One function draws on any plotters backend, so the PNG is the SVG. Colours are Okabe & Ito's, which
//! colour-blind readers tell apart.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Once;

use dissim_api::{IoContext, StageError};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

pub(super) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(super) const VERMILION: RGBColor = RGBColor(213, 94, 0);
pub(super) const GREEN: RGBColor = RGBColor(0, 158, 115);
pub(super) const PURPLE: RGBColor = RGBColor(204, 121, 167);
pub(super) const ORANGE: RGBColor = RGBColor(230, 159, 0);
pub(super) const SKY: RGBColor = RGBColor(86, 180, 233);
pub(super) const GREY: RGBColor = RGBColor(90, 90, 90);
pub(super) const LIGHT: RGBColor = RGBColor(222, 222, 222);

/// Colours of series, in order.
pub(super) const PALETTE: [RGBColor; 7] = [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY];

/// Ten colours for ten classes, Tol's "muted" set with grey.
pub(super) const TEN: [RGBColor; 10] = [
    RGBColor(51, 34, 136),
    RGBColor(136, 204, 238),
    RGBColor(68, 170, 153),
    RGBColor(17, 119, 51),
    RGBColor(153, 153, 51),
    RGBColor(221, 204, 119),
    RGBColor(204, 102, 119),
    RGBColor(136, 34, 85),
    RGBColor(170, 68, 153),
    RGBColor(120, 120, 120),
];

/// What drawing on a backend gives.
pub(super) type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// A figure that can be drawn at any scale.
pub(super) trait Drawing {
    /// Width and height in units; a unit is a pixel of the SVG.
    fn size(&self) -> (u32, u32);

    /// Draws it at `scale` pixels a unit.
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: f64) -> Drawn<B>;
}

/// Writes `base.svg` and, at twice the size, `base.png`.
///
/// # Errors
/// When a file cannot be drawn or written.
pub(super) fn write(drawing: &impl Drawing, base: &Path) -> Result<(), StageError> {
    font_is_there();
    let size = drawing.size();
    let path = base.with_extension("svg");
    drawing
        .draw(&SVGBackend::new(&path, size).into_drawing_area(), 1.0)
        .or_fail("cannot draw", &path)?;
    let path = base.with_extension("png");
    let size = (size.0 * 2, size.1 * 2);
    let mut pixels = vec![0; (size.0 * size.1 * 3) as usize];
    drawing
        .draw(&BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area(), 2.0)
        .or_fail("cannot draw", &path)?;
    write_png(&path, size, &pixels).or_fail("cannot write", &path)
}

/// Registers the crate's own font, so that a figure is the same on every machine.
pub(super) fn font_is_there() {
    static FONT: Once = Once::new();
    FONT.call_once(|| {
        let font = include_bytes!("../assets/DejaVuSans.ttf");
        assert!(
            register_font("sans-serif", FontStyle::Normal, font).is_ok(),
            "the font is in the crate"
        );
    });
}

/// 8-bit RGB as PNG.
pub(super) fn write_png(
    path: &Path,
    (width, height): (u32, u32),
    pixels: &[u8],
) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()
}

/// Text of `size` units, anchored by its middle height.
pub(super) fn text(size: f64, scale: f64, h: HPos, colour: RGBColor) -> TextStyle<'static> {
    let font = ("sans-serif", size * scale).into_font();
    TextStyle { font, color: colour.to_backend_color(), pos: Pos::new(h, VPos::Center) }
}

/// White to dark blue, even in lightness: 0 to 1. Ends as ColorBrewer's "Blues".
pub(super) fn shade(share: f64) -> RGBColor {
    let stops =
        [(247.0, 251.0, 255.0), (158.0, 202.0, 225.0), (49.0, 130.0, 189.0), (8.0, 48.0, 107.0)];
    let at = share.clamp(0.0, 1.0) * 3.0;
    let i = (at as usize).min(2);
    let mix = |a: f64, b: f64| (a + (b - a) * (at - i as f64)).round() as u8;
    let (a, b) = (stops[i], stops[i + 1]);
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// Black or white, whichever reads on that shade.
pub(super) fn ink(share: f64) -> RGBColor {
    if share > 0.55 { WHITE } else { BLACK }
}

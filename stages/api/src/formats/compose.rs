//! How a digit and a background become one image, in whole numbers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GLYPH_SIDE;

/// How a glyph and a background become one image. With `g` the glyph's intensity and `b` the
/// background's, both in 0..=255, and `c` the digit colour of the channel:
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compose {
    /// `(g c + (255 - g) b) / 255`, rounded: alpha blending, the study's choice.
    #[default]
    Alpha,
    /// `max(g c / 255, b)`.
    Max,
    /// `min(g c / 255 + b, 255)`.
    AddClip,
}

impl Compose {
    /// One channel of one pixel.
    #[must_use]
    pub fn blend(self, glyph: u8, background: u8, colour: u8) -> u8 {
        match self {
            Self::Alpha => alpha(glyph, background, colour),
            Self::Max => scale(glyph, colour).max(background),
            Self::AddClip => scale(glyph, colour).saturating_add(background),
        }
    }

    /// Blends a line of glyph pixels into as many pixels of one channel.
    pub(super) fn blend_line(
        self,
        glyph: &[u8; GLYPH_SIDE],
        pixels: &mut [u8; GLYPH_SIDE],
        colour: u8,
    ) {
        // The rule is chosen outside of the loops, so that each is one the compiler vectorises.
        let pairs = pixels.iter_mut().zip(glyph);
        match self {
            Self::Alpha => pairs.for_each(|(p, &g)| *p = alpha(g, *p, colour)),
            Self::Max => pairs.for_each(|(p, &g)| *p = scale(g, colour).max(*p)),
            Self::AddClip => pairs.for_each(|(p, &g)| *p = scale(g, colour).saturating_add(*p)),
        }
    }
}

/// `(g c + (255 - g) b) / 255`, rounded.
fn alpha(glyph: u8, background: u8, colour: u8) -> u8 {
    let (g, b, c) = (u16::from(glyph), u16::from(background), u16::from(colour));
    divide_by_255(g * c + (255 - g) * b)
}

/// `g c / 255`, rounded.
fn scale(glyph: u8, colour: u8) -> u8 {
    divide_by_255(u16::from(glyph) * u16::from(colour))
}

/// `x / 255`, rounded, for x up to 255 * 255: all in 16 bits, which gives twice the vector lanes.
fn divide_by_255(x: u16) -> u8 {
    let x = x + 128;
    ((x + (x >> 8)) >> 8) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dividing_by_255_is_exact_over_its_whole_range() {
        for x in 0..=255 * 255_u16 {
            assert_eq!(f64::from(divide_by_255(x)), (f64::from(x) / 255.0).round(), "{x}");
        }
    }

    #[test]
    fn a_line_blends_as_its_pixels_do() {
        let glyph: [u8; GLYPH_SIDE] = std::array::from_fn(|i| (i * 255 / 27) as u8);
        let before: [u8; GLYPH_SIDE] = std::array::from_fn(|i| (i * 37 % 256) as u8);
        for rule in [Compose::Alpha, Compose::Max, Compose::AddClip] {
            let mut line = before;
            rule.blend_line(&glyph, &mut line, 200);
            assert_eq!(line, std::array::from_fn(|i| rule.blend(glyph[i], before[i], 200)));
        }
    }

    proptest! {
        #[test]
        fn blending_equals_its_formula(g: u8, b: u8, c: u8) {
            let (gf, bf, cf) = (f64::from(g), f64::from(b), f64::from(c));
            let a = gf / 255.0;
            let close = |x: u8, y: f64| (f64::from(x) - y).abs() <= 0.5 + 1e-9;
            prop_assert!(close(Compose::Alpha.blend(g, b, c), a * cf + (1.0 - a) * bf));
            prop_assert!(close(Compose::Max.blend(g, b, c), (a * cf).max(bf)));
            prop_assert!(close(Compose::AddClip.blend(g, b, c), (a * cf + bf).min(255.0)));
        }
    }
}

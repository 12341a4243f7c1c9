//! `samples.png`: a row a split, a column a digit, as the network sees them.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use dissim_api::formats::{Dataset, PIXELS, SIDE, SplitName};
use dissim_api::{IoContext, StageError};

use crate::params::LABELS;

/// Pixels on the page for one of an image, each way.
const ZOOM: usize = 3;
/// Pixels between images.
const GAP: usize = 4;
/// From one image to the next.
const STEP: usize = SIDE * ZOOM + GAP;

/// A picture in red, green, blue.
struct Page {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Page {
    /// An empty page for that many images, white.
    fn new(columns: usize, rows: usize) -> Self {
        let (width, height) = (columns * STEP + GAP, rows * STEP + GAP);
        Self { width, height, pixels: vec![255; width * height * 3] }
    }

    /// Draws a planar image, magnified, at its place in the grid.
    fn put(&mut self, column: usize, row: usize, image: &[u8; PIXELS]) {
        let (left, top) = (GAP + column * STEP, GAP + row * STEP);
        for y in 0..SIDE * ZOOM {
            for x in 0..SIDE * ZOOM {
                let from = (y / ZOOM) * SIDE + x / ZOOM;
                let to = ((top + y) * self.width + left + x) * 3;
                for channel in 0..3 {
                    self.pixels[to + channel] = image[channel * SIDE * SIDE + from];
                }
            }
        }
    }

    fn write(&self, path: &Path) -> Result<(), StageError> {
        let file = BufWriter::new(File::create(path).or_fail("cannot create", path)?);
        let mut encoder = png::Encoder::new(file, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().or_fail("cannot write", path)?;
        writer.write_image_data(&self.pixels).or_fail("cannot write", path)?;
        writer.finish().or_fail("cannot write", path)
    }
}

/// Writes the first image of each digit of every split that is not empty; a digit that a split
/// does not have stays white.
pub(crate) fn write(dataset: &Dataset, path: &Path) -> Result<(), StageError> {
    let shown: Vec<SplitName> =
        SplitName::ALL.into_iter().filter(|&name| !dataset.split(name).is_empty()).collect();
    let mut page = Page::new(LABELS, shown.len());
    let mut image = [0; PIXELS];
    for (row, &name) in shown.iter().enumerate() {
        let labels = &dataset.split(name).label;
        for digit in 0..LABELS {
            if let Some(first) = labels.iter().position(|&l| usize::from(l) == digit) {
                dataset.compose_row(name, first, &mut image);
                page.put(digit, row, &image);
            }
        }
    }
    page.write(path)
}

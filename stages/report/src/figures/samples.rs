//! The sample grid of a data set, with the names of its rows.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use dissim_api::formats::{Dataset, SplitName};
use dissim_api::{IoContext, StageError};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{font_is_there, text, write_png};

/// Pixels for the names.
const MARGIN: u32 = 190;
/// Pixels for the digits.
const HEAD: u32 = 34;

/// `figures/samples.png`: the data set's own grid with its rows named; none where it has none.
///
/// # Errors
/// When a file of the data set is damaged.
pub(crate) fn sample_grid(dataset: &Path, output: &Path) -> Result<Option<Vec<u8>>, StageError> {
    let path = dataset.join("samples.png");
    if !path.is_file() {
        return Ok(None);
    }
    let (size, grid) = read(&path)?;
    let rows = row_names(dataset)?;
    let target = output.join("figures/samples.png");
    if rows.is_empty() || size.1 < 4 || !(size.1 - 4).is_multiple_of(rows.len() as u32) {
        // Another tool's grid: as it is.
        fs::copy(&path, &target).or_fail("cannot copy", &path)?;
    } else {
        let (size, pixels) = named(size, &grid, &rows).or_fail("cannot draw", &target)?;
        write_png(&target, size, &pixels).or_fail("cannot write", &target)?;
    }
    Ok(Some(fs::read(&target).or_fail("cannot read", &target)?))
}

/// The splits that have a row: those that are not empty.
fn row_names(dataset: &Path) -> Result<Vec<&'static str>, StageError> {
    if !dataset.join("dataset.json").is_file() {
        return Ok(Vec::new());
    }
    let dataset = Dataset::read(dataset)?;
    let shown = SplitName::ALL.into_iter().filter(|&name| !dataset.split(name).is_empty());
    Ok(shown.map(words).collect())
}

fn words(name: SplitName) -> &'static str {
    match name {
        SplitName::Train => "training",
        SplitName::IdVal => "validation, seen (ID)",
        SplitName::BgVal => "validation, new",
        SplitName::IdTest => "test, seen (ID)",
        SplitName::OodTest => "test, unseen (OOD)",
        SplitName::Conflict => "another label's",
        SplitName::Black => "black",
        SplitName::BackgroundOnly => "no digit",
    }
}

type Pixels = ((u32, u32), Vec<u8>);

fn read(path: &Path) -> Result<Pixels, StageError> {
    let file = File::open(path).or_fail("cannot read", path)?;
    let mut reader =
        png::Decoder::new(BufReader::new(file)).read_info().or_fail("not a PNG", path)?;
    let (width, height) = reader.info().size();
    let bytes = u64::from(width) * u64::from(height) * 3;
    let rgb8 = reader.output_color_type() == (png::ColorType::Rgb, png::BitDepth::Eight);
    if !rgb8 || bytes > 1 << 28 {
        return Err(StageError::new("the sample grid is no small 8-bit RGB image").at(path));
    }
    let mut pixels = vec![0; bytes as usize];
    reader.next_frame(&mut pixels).or_fail("not a PNG", path)?;
    Ok(((width, height), pixels))
}

fn named(
    (width, height): (u32, u32),
    grid: &[u8],
    rows: &[&str],
) -> Result<Pixels, Box<dyn std::error::Error + Send + Sync>> {
    font_is_there();
    let size = (width + MARGIN, height + HEAD);
    let mut pixels = vec![255; (size.0 * size.1 * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        let step = f64::from(height - 4) / rows.len() as f64;
        for (i, row) in rows.iter().enumerate() {
            let y = f64::from(HEAD) + 2.0 + step * (i as f64 + 0.5);
            let style = text(15.0, 1.0, HPos::Right, BLACK);
            area.draw(&Text::new(*row, (MARGIN as i32 - 12, y as i32), style))?;
        }
        for digit in 0..10u32 {
            let x = MARGIN + width * digit / 10 + width / 20;
            let style = text(15.0, 1.0, HPos::Center, BLACK);
            area.draw(&Text::new(digit.to_string(), (x as i32, HEAD as i32 / 2), style))?;
        }
        area.present()?;
    }
    let line = (width * 3) as usize;
    for (y, from) in grid.chunks_exact(line).enumerate() {
        let start = ((y as u32 + HEAD) * size.0 + MARGIN) as usize * 3;
        pixels[start..start + line].copy_from_slice(from);
    }
    Ok((size, pixels))
}

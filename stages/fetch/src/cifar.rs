//! CIFAR-10's batches: the published binary form, and PNGs with an image a row.

use std::io::{BufRead, Read, Seek};

/// Pixels of one colour plane, 32x32.
const PLANE: usize = 32 * 32;
/// Bytes of one image: red, green and blue plane.
const IMAGE: usize = 3 * PLANE;

/// Reads `n` records of one label and 3,072 planar bytes, and appends them.
///
/// # Errors
/// What is wrong with the file, in words.
pub(crate) fn read_binary(
    file: impl Read,
    n: usize,
    images: &mut Vec<u8>,
    labels: &mut Vec<u8>,
) -> Result<(), String> {
    let length = n * (1 + IMAGE);
    let mut bytes = Vec::new();
    let read = file.take(length as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| format!("cannot read it: {e}"))?;
    if bytes.len() != length {
        let size = if bytes.len() > length { "more".to_owned() } else { bytes.len().to_string() };
        return Err(format!("it has {size} bytes, expected {length}: {n} records of 3073"));
    }
    for (i, record) in bytes.as_chunks::<{ 1 + IMAGE }>().0.iter().enumerate() {
        check_label(record[0], i)?;
        labels.push(record[0]);
        images.extend_from_slice(&record[1..]);
    }
    Ok(())
}

/// Reads a PNG of 1024 x `n` pixels, a row an image, and appends the images as planes.
///
/// # Errors
/// What is wrong with the file, in words.
pub(crate) fn read_png(
    file: impl BufRead + Seek,
    n: usize,
    images: &mut Vec<u8>,
) -> Result<(), String> {
    let decoder = png::Decoder::new(file);
    let mut reader = decoder.read_info().map_err(|e| format!("not a PNG: {e}"))?;
    let size = reader.info().size();
    let (colour, depth) = reader.output_color_type();
    if (size.0 as usize, size.1 as usize) != (PLANE, n)
        || (colour, depth) != (png::ColorType::Rgb, png::BitDepth::Eight)
        || reader.info().interlaced
    {
        return Err(format!(
            "a PNG of {} x {} pixels in {depth:?}-bit {colour:?}, expected {PLANE} x {n} in \
             Eight-bit Rgb, a row an image",
            size.0, size.1
        ));
    }
    for i in 0..n {
        let row = reader
            .next_row()
            .map_err(|e| format!("it is damaged at row {i} of {n}: {e}"))?
            .ok_or_else(|| format!("it ends after row {i} of {n}"))?;
        let pixels = row.data().as_chunks::<3>().0;
        for channel in 0..3 {
            images.extend(pixels.iter().map(|pixel| pixel[channel]));
        }
    }
    Ok(())
}

/// Reads `n` labels from a JSON array.
///
/// # Errors
/// What is wrong with the file, in words.
pub(crate) fn read_labels(file: impl Read, n: usize) -> Result<Vec<u8>, String> {
    // A label takes two characters; a file far above that is not the one expected.
    let mut text = Vec::new();
    let read = file.take(16 * n as u64 + 64).read_to_end(&mut text);
    read.map_err(|e| format!("cannot read it: {e}"))?;
    let labels: Vec<u8> =
        serde_json::from_slice(&text).map_err(|e| format!("not a JSON array of labels: {e}"))?;
    if labels.len() != n {
        return Err(format!("it has {} labels, expected {n}", labels.len()));
    }
    for (i, &label) in labels.iter().enumerate() {
        check_label(label, i)?;
    }
    Ok(labels)
}

fn check_label(label: u8, i: usize) -> Result<(), String> {
    if label < 10 { Ok(()) } else { Err(format!("label {i} is {label}, expected 0 to 9")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// Two images in which every byte tells its channel and place.
    fn planar() -> Vec<u8> {
        (0..2 * IMAGE).map(|i| (i * 7 + i / PLANE) as u8).collect()
    }

    fn png(width: usize, height: usize, colour: png::ColorType, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
        encoder.set_color(colour);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        bytes
    }

    /// The two images as rows of red, green, blue.
    fn interleaved() -> Vec<u8> {
        let planar = planar();
        let byte = |image: usize, pixel: usize, channel: usize| {
            planar[image * IMAGE + channel * PLANE + pixel]
        };
        let pixels = (0..2).flat_map(|i| (0..PLANE).map(move |p| (i, p)));
        pixels
            .flat_map(|(i, p)| (0..3).map(move |c| (i, p, c)))
            .map(|(i, p, c)| byte(i, p, c))
            .collect()
    }

    #[test]
    fn both_forms_give_the_same_planes() {
        let planar = planar();
        let (first, second) = planar.split_at(IMAGE);
        let binary = [&[3], first, &[9], second].concat();
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        read_binary(&binary[..], 2, &mut images, &mut labels).unwrap();
        assert_eq!((&images, &labels[..]), (&planar, &[3, 9][..]));
        let mut images = Vec::new();
        let file = png(PLANE, 2, png::ColorType::Rgb, &interleaved());
        read_png(Cursor::new(file), 2, &mut images).unwrap();
        assert_eq!(images, planar);
    }

    #[test]
    fn a_wrong_binary_batch_is_refused() {
        let error =
            |bytes: &[u8]| read_binary(bytes, 2, &mut Vec::new(), &mut Vec::new()).unwrap_err();
        let mut bytes = vec![0; 2 * 3073];
        insta::assert_snapshot!(error(&bytes[..6000]), @"it has 6000 bytes, expected 6146: 2 records of 3073");
        bytes[3073] = 10;
        insta::assert_snapshot!(error(&bytes), @"label 1 is 10, expected 0 to 9");
        bytes.push(0);
        insta::assert_snapshot!(error(&bytes), @"it has more bytes, expected 6146: 2 records of 3073");
    }

    #[test]
    fn a_wrong_png_is_refused() {
        let error = |bytes: Vec<u8>| read_png(Cursor::new(bytes), 2, &mut Vec::new()).unwrap_err();
        assert!(error(b"GIF89a".to_vec()).starts_with("not a PNG: "));
        let small = png(4, 2, png::ColorType::Rgb, &[0; 24]);
        insta::assert_snapshot!(error(small), @"a PNG of 4 x 2 pixels in Eight-bit Rgb, expected 1024 x 2 in Eight-bit Rgb, a row an image");
        let grey = png(PLANE, 2, png::ColorType::Grayscale, &[0; 2 * PLANE]);
        insta::assert_snapshot!(error(grey), @"a PNG of 1024 x 2 pixels in Eight-bit Grayscale, expected 1024 x 2 in Eight-bit Rgb, a row an image");
        let noise: Vec<u8> =
            (0..2 * IMAGE as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut cut = png(PLANE, 2, png::ColorType::Rgb, &noise);
        cut.truncate(cut.len() / 2);
        assert!(error(cut).starts_with("it is damaged at row "));
        // A header that promises 4 billion rows must not be believed.
        let mut huge = png(PLANE, 2, png::ColorType::Rgb, &interleaved());
        huge[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(!error(huge).is_empty());
    }

    #[test]
    fn labels_are_checked() {
        let error = |text: &str| read_labels(text.as_bytes(), 3).unwrap_err();
        assert_eq!(read_labels(&b"[1,2,9]"[..], 3), Ok(vec![1, 2, 9]));
        insta::assert_snapshot!(error("[1,2]"), @"it has 2 labels, expected 3");
        insta::assert_snapshot!(error("[1,2,10]"), @"label 2 is 10, expected 0 to 9");
        assert!(error("[1,2,-1]").starts_with("not a JSON array of labels"));
        assert!(error(&"[".repeat(10_000)).starts_with("not a JSON array of labels"));
    }
}

//! Labelled u8 images, as `fetch` leaves them.

use std::path::Path;

use super::tensors::{self, Tensor};
use crate::StageError;

/// Side of a glyph (an MNIST or FashionMNIST image) in pixels.
pub const GLYPH_SIDE: usize = 28;
/// Pixels of a glyph.
pub const GLYPH_PIXELS: usize = GLYPH_SIDE * GLYPH_SIDE;

/// One split of an image data set: `images` u8 `[n, ..item]`, `labels` u8 `[n]`.
///
/// Glyphs have item shape `[28, 28]`, colour images `[3, 32, 32]` (planar red, green, blue).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSet {
    /// Shape of one image.
    pub item: Vec<usize>,
    /// Pixels of all images, one after the other, 0 to 255.
    pub images: Vec<u8>,
    /// The class of each image, 0 to 9.
    pub labels: Vec<u8>,
}

impl ImageSet {
    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.item.iter().product()
    }

    /// Pixels of image `i`.
    ///
    /// # Panics
    /// When there is no such image.
    #[must_use]
    pub fn image(&self, i: usize) -> &[u8] {
        &self.images[i * self.stride()..(i + 1) * self.stride()]
    }

    /// Writes `images` and `labels` to a safetensors file.
    ///
    /// # Errors
    /// When the file cannot be written or the sizes do not fit each other.
    pub fn write(&self, path: &Path) -> Result<(), StageError> {
        let mut shape = vec![self.len()];
        shape.extend(&self.item);
        let images = Tensor::u8("images", &shape, &self.images);
        let labels = Tensor::u8("labels", &[self.len()], &self.labels);
        tensors::write(path, &[images, labels])
    }

    /// Reads what [`write`](Self::write) wrote, with images of shape `item`.
    ///
    /// # Errors
    /// When the file is missing, damaged, or holds another shape.
    pub fn read(path: &Path, item: &[usize]) -> Result<Self, StageError> {
        let file = tensors::File::open(path)?;
        let set = Self {
            item: item.to_vec(),
            images: file.u8("images", item)?,
            labels: file.u8("labels", &[])?,
        };
        if set.images.len() != set.len() * set.stride() {
            let what = format!("{} labels for {} bytes of images", set.len(), set.images.len());
            return Err(StageError::new(what).at(path));
        }
        Ok(set)
    }

    /// blake3 over item shape, pixels and labels: the digest that `fetch` pins.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{:?} {}\n", self.item, self.len()).as_bytes());
        hasher.update_rayon(&self.images);
        hasher.update(&self.labels);
        hasher.finalize().to_hex().to_string()
    }
}

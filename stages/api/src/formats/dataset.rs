//! A composed data set, kept as its layers: glyphs, backgrounds, and which lies on which.
//!
//! 60,000 images of 3x32x32 take 184 MB, and a study has a data set for every N and seed. The
//! layers take 50 MB, of which the glyphs are the same bytes in every data set and so are stored
//! once. [`Dataset::compose`] puts them together, all in u8, in a fraction of a second.

use std::path::Path;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tensors::{self, Tensor};
use super::{Compose, GLYPH_PIXELS, GLYPH_SIDE, read_json, write_json};
use crate::{Params, StageError};

/// Side of a composed image in pixels.
pub const SIDE: usize = 32;
/// Bytes of a composed image, `[3, 32, 32]`.
pub const PIXELS: usize = 3 * SIDE * SIDE;
/// In [`Split::glyph`]: no glyph, the background alone. In [`Split::background`]: black.
pub const NONE: u32 = u32::MAX;

/// Which backgrounds a split draws from. The pools share no background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Pool {
    /// The N backgrounds that each label owns in training.
    Train = 0,
    /// Held out for validation.
    Validation = 1,
    /// Never seen before the OOD test.
    Ood = 2,
    /// For the oracle's training alone.
    Fresh = 3,
}

/// The splits of a data set, in the order of the file.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SplitName {
    /// Training digits on their own label's training backgrounds.
    Train,
    /// Held-out training digits on their own label's training backgrounds.
    IdVal,
    /// The same held-out digits on the validation pool.
    BgVal,
    /// Test digits on their own label's training backgrounds.
    IdTest,
    /// The same test digits on backgrounds never seen in training.
    OodTest,
    /// The same test digits on another label's training backgrounds.
    Conflict,
    /// The same test digits on black.
    Black,
    /// Training backgrounds without a digit, labelled with their owner.
    BackgroundOnly,
}

impl SplitName {
    /// All splits.
    pub const ALL: [Self; 8] = [
        Self::Train,
        Self::IdVal,
        Self::BgVal,
        Self::IdTest,
        Self::OodTest,
        Self::Conflict,
        Self::Black,
        Self::BackgroundOnly,
    ];

    /// The name in files and tables, such as `ood_test`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::IdVal => "id_val",
            Self::BgVal => "bg_val",
            Self::IdTest => "id_test",
            Self::OodTest => "ood_test",
            Self::Conflict => "conflict",
            Self::Black => "black",
            Self::BackgroundOnly => "background_only",
        }
    }

    /// Whether its glyphs come from the foreground's test set.
    #[must_use]
    pub fn uses_test_glyphs(self) -> bool {
        matches!(self, Self::IdTest | Self::OodTest | Self::Conflict | Self::Black)
    }
}

/// `dataset.json`: what the data set is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetInfo {
    /// Version of the format.
    pub version: u32,
    /// Resolved parameters of the `dataset` task: `n_bg`, `seed`, `n_train`, ..
    pub params: Params,
    /// The rule that puts glyph and background together.
    pub compose: Compose,
    /// Red, green and blue of a full-intensity glyph.
    pub digit_colour: [u8; 3],
    /// Images a split, by name.
    pub sizes: std::collections::BTreeMap<String, usize>,
}

/// One background image and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Background {
    /// Index in the source data set: train images first, then test images.
    pub source: u32,
    /// The label that owns it, or `None` outside [`Pool::Train`].
    pub owner: Option<u8>,
    /// Its pool.
    pub pool: Pool,
}

/// One half of the foreground data set: `[n, 28, 28]` intensities and `[n]` labels.
pub type Glyphs = super::ImageSet;

/// One split: row `i` is glyph `glyph[i]` at `offset[i]` on background `background[i]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Split {
    /// Index into the split's glyphs, or [`NONE`].
    pub glyph: Vec<u32>,
    /// Index into [`Dataset::backgrounds`], or [`NONE`].
    pub background: Vec<u32>,
    /// Row and column of the glyph's top left corner, each 0 to 4.
    pub offset: Vec<[u8; 2]>,
    /// The class.
    pub label: Vec<u8>,
}

impl Split {
    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.label.len()
    }

    /// Whether there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.label.is_empty()
    }

    /// Appends a row.
    pub fn push(&mut self, glyph: u32, background: u32, offset: [u8; 2], label: u8) {
        self.glyph.push(glyph);
        self.background.push(background);
        self.offset.push(offset);
        self.label.push(label);
    }
}

/// A composed data set as its layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// What it is.
    pub info: DatasetInfo,
    /// Training glyphs (for train, `id_val`, `bg_val`).
    pub train_glyphs: Glyphs,
    /// Test glyphs.
    pub test_glyphs: Glyphs,
    /// Pixels of the backgrounds, `[m, 3, 32, 32]`.
    pub background_pixels: Vec<u8>,
    /// What each background is for, `[m]`.
    pub backgrounds: Vec<Background>,
    /// The splits in the order of [`SplitName::ALL`].
    pub splits: [Split; 8],
}

impl Dataset {
    /// Version of the format.
    pub const VERSION: u32 = 1;

    /// The split of that name.
    #[must_use]
    pub fn split(&self, name: SplitName) -> &Split {
        &self.splits[name as usize]
    }

    /// Composes row `row` of a split into `image`, `[3, 32, 32]`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn compose_row(&self, name: SplitName, row: usize, image: &mut [u8; PIXELS]) {
        let split = self.split(name);
        let (glyph, background) = (split.glyph[row], split.background[row]);
        self.compose_layers(name, glyph, background, split.offset[row], image);
    }

    /// Composes a glyph of `name`'s half of the foreground on any background.
    ///
    /// # Panics
    /// When there is no such glyph or background, or the offset exceeds 4.
    pub fn compose_layers(
        &self,
        name: SplitName,
        glyph: u32,
        background: u32,
        [top, left]: [u8; 2],
        image: &mut [u8; PIXELS],
    ) {
        match background {
            NONE => image.fill(0),
            b => image.copy_from_slice(
                &self.background_pixels[b as usize * PIXELS..(b as usize + 1) * PIXELS],
            ),
        }
        if glyph == NONE {
            return;
        }
        let glyphs = if name.uses_test_glyphs() { &self.test_glyphs } else { &self.train_glyphs };
        let glyph = glyphs.image(glyph as usize);
        let (compose, colours) = (self.info.compose, self.info.digit_colour);
        for (plane, colour) in image.as_chunks_mut::<{ SIDE * SIDE }>().0.iter_mut().zip(colours) {
            for (y, line) in glyph.as_chunks::<GLYPH_SIDE>().0.iter().enumerate() {
                let start = (y + usize::from(top)) * SIDE + usize::from(left);
                let pixels = plane[start..].first_chunk_mut().expect("an offset is at most 4");
                compose.blend_line(line, pixels, colour);
            }
        }
    }

    /// Composes a whole split: u8 `[n, 3, 32, 32]`.
    #[must_use]
    pub fn compose(&self, name: SplitName) -> Vec<u8> {
        let mut images = vec![0; self.split(name).len() * PIXELS];
        let (images_as_arrays, _) = images.as_chunks_mut::<PIXELS>();
        images_as_arrays
            .par_iter_mut()
            .enumerate()
            .for_each(|(row, image)| self.compose_row(name, row, image));
        images
    }

    /// Writes the layers into `folder`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), StageError> {
        write_json(&folder.join("dataset.json"), &self.info)?;
        self.train_glyphs.write(&folder.join("glyphs_train.safetensors"))?;
        self.test_glyphs.write(&folder.join("glyphs_test.safetensors"))?;
        let m = self.backgrounds.len();
        let source: Vec<u32> = self.backgrounds.iter().map(|b| b.source).collect();
        let owner: Vec<u8> = self.backgrounds.iter().map(|b| b.owner.unwrap_or(255)).collect();
        let pool: Vec<u8> = self.backgrounds.iter().map(|b| b.pool as u8).collect();
        tensors::write(
            &folder.join("backgrounds.safetensors"),
            &[
                Tensor::u8("images", &[m, 3, SIDE, SIDE], &self.background_pixels),
                Tensor::u32("source", &source),
                Tensor::u8("owner", &[m], &owner),
                Tensor::u8("pool", &[m], &pool),
            ],
        )?;
        let mut tensors = Vec::new();
        for (name, split) in SplitName::ALL.iter().zip(&self.splits) {
            let (name, n) = (name.as_str(), split.len());
            tensors.push(Tensor::u32(format!("{name}.glyph"), &split.glyph));
            tensors.push(Tensor::u32(format!("{name}.background"), &split.background));
            let offset = split.offset.as_flattened();
            tensors.push(Tensor::u8(format!("{name}.offset"), &[n, 2], offset));
            tensors.push(Tensor::u8(format!("{name}.label"), &[n], &split.label));
        }
        tensors::write(&folder.join("splits.safetensors"), &tensors)
    }

    /// Reads what [`write`](Self::write) wrote, and checks every index in it.
    ///
    /// # Errors
    /// When a file is missing or damaged, or a row points outside the layers.
    pub fn read(folder: &Path) -> Result<Self, StageError> {
        let info: DatasetInfo = read_json(&folder.join("dataset.json"))?;
        let item = [GLYPH_SIDE, GLYPH_SIDE];
        let path = folder.join("backgrounds.safetensors");
        let file = tensors::File::open(&path)?;
        let pools = file.u8("pool", &[])?;
        let backgrounds = file
            .u32("source")?
            .into_iter()
            .zip(file.u8("owner", &[])?)
            .zip(pools)
            .map(|((source, owner), pool)| {
                let pool = match pool {
                    0 => Pool::Train,
                    1 => Pool::Validation,
                    2 => Pool::Ood,
                    3 => Pool::Fresh,
                    other => return Err(StageError::new(format!("no pool {other}")).at(&path)),
                };
                Ok(Background { source, owner: (owner != 255).then_some(owner), pool })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let background_pixels = file.u8("images", &[3, SIDE, SIDE])?;
        let path = folder.join("splits.safetensors");
        let file = tensors::File::open(&path)?;
        let mut splits: [Split; 8] = Default::default();
        for (name, split) in SplitName::ALL.iter().zip(&mut splits) {
            let name = name.as_str();
            *split = Split {
                glyph: file.u32(&format!("{name}.glyph"))?,
                background: file.u32(&format!("{name}.background"))?,
                offset: file.u8(&format!("{name}.offset"), &[2])?.as_chunks::<2>().0.to_vec(),
                label: file.u8(&format!("{name}.label"), &[])?,
            };
        }
        let dataset = Self {
            info,
            train_glyphs: Glyphs::read(&folder.join("glyphs_train.safetensors"), &item)?,
            test_glyphs: Glyphs::read(&folder.join("glyphs_test.safetensors"), &item)?,
            background_pixels,
            backgrounds,
            splits,
        };
        dataset.check().map_err(|what| StageError::new(what).at(path))?;
        Ok(dataset)
    }

    /// Every index within its layer, every column of one length.
    fn check(&self) -> Result<(), String> {
        debug_assert_eq!(GLYPH_PIXELS, self.train_glyphs.stride());
        let backgrounds = self.backgrounds.len();
        if self.background_pixels.len() != backgrounds * PIXELS {
            return Err(format!("{backgrounds} backgrounds, but pixels for another number"));
        }
        for (name, split) in SplitName::ALL.iter().zip(&self.splits) {
            let half = if name.uses_test_glyphs() { &self.test_glyphs } else { &self.train_glyphs };
            let n = split.len();
            let lengths = [split.glyph.len(), split.background.len(), split.offset.len()];
            let inside = |index: u32, len: usize| index == NONE || (index as usize) < len;
            let room = SIDE - GLYPH_SIDE;
            let whole = lengths.iter().all(|&l| l == n)
                && split.glyph.iter().all(|&g| inside(g, half.len()))
                && split.background.iter().all(|&b| inside(b, backgrounds))
                && split.offset.as_flattened().iter().all(|&o| usize::from(o) <= room)
                && split.label.iter().all(|&l| l < 10);
            if !whole {
                return Err(format!("split `{}` points outside the data set", name.as_str()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small data set without structure; what counts is that layers survive and compose.
    fn example() -> Dataset {
        let glyphs = |n: u8| Glyphs {
            item: vec![GLYPH_SIDE, GLYPH_SIDE],
            images: (0..usize::from(n) * GLYPH_PIXELS).map(|i| (i * 31 % 256) as u8).collect(),
            labels: (0..n).collect(),
        };
        let mut splits: [Split; 8] = Default::default();
        splits[SplitName::Train as usize].push(1, 0, [4, 0], 1);
        splits[SplitName::Black as usize].push(2, NONE, [2, 2], 2);
        splits[SplitName::BackgroundOnly as usize].push(NONE, 1, [2, 2], 3);
        Dataset {
            info: DatasetInfo {
                version: Dataset::VERSION,
                params: Params::new(),
                compose: Compose::Alpha,
                digit_colour: [255, 255, 255],
                sizes: Default::default(),
            },
            train_glyphs: glyphs(2),
            test_glyphs: glyphs(3),
            background_pixels: (0..2 * PIXELS).map(|i| (i * 7 % 256) as u8).collect(),
            backgrounds: vec![
                Background { source: 5, owner: Some(1), pool: Pool::Train },
                Background { source: 50_001, owner: None, pool: Pool::Ood },
            ],
            splits,
        }
    }

    #[test]
    fn layers_survive_writing_and_reading() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = example();
        dataset.write(folder.path()).unwrap();
        assert_eq!(Dataset::read(folder.path()).unwrap(), dataset);
    }

    #[test]
    fn an_index_outside_the_layers_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut dataset = example();
        dataset.splits[0].background[0] = 2;
        dataset.write(folder.path()).unwrap();
        let error = Dataset::read(folder.path()).unwrap_err();
        assert_eq!(error.what, "split `train` points outside the data set");
    }

    #[test]
    fn glyph_lands_at_its_offset_and_nowhere_else() {
        let dataset = example();
        let image = dataset.compose(SplitName::Train);
        let (background, glyph) =
            (&dataset.background_pixels[..PIXELS], dataset.train_glyphs.image(1));
        for channel in 0..3 {
            for y in 0..SIDE {
                for x in 0..SIDE {
                    let at = channel * SIDE * SIDE + y * SIDE + x;
                    let b = f64::from(background[at]);
                    let inside = y >= 4 && x < GLYPH_SIDE;
                    let a = if inside {
                        f64::from(glyph[(y - 4) * GLYPH_SIDE + x]) / 255.0
                    } else {
                        0.0
                    };
                    let expected = a * 255.0 + (1.0 - a) * b;
                    assert!((f64::from(image[at]) - expected).abs() <= 0.5 + 1e-9);
                }
            }
        }
        assert_eq!(dataset.compose(SplitName::BackgroundOnly), dataset.background_pixels[PIXELS..]);
        assert_eq!(dataset.compose(SplitName::Black)[0], 0);
    }
}

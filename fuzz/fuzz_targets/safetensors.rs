//! Images and data sets as safetensors: what is read composes, or it is an error. The input is the
//! file that is read; the other files of a data set are good ones.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use dissim_api::formats::{
    Background, Compose, Dataset, DatasetInfo, GLYPH_SIDE, ImageSet, PIXELS, Pool, Split, SplitName,
};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// The smallest data set that has a row.
fn example() -> Dataset {
    let glyphs = ImageSet {
        item: vec![GLYPH_SIDE, GLYPH_SIDE],
        images: vec![9; GLYPH_SIDE * GLYPH_SIDE],
        labels: vec![3],
    };
    let mut splits: [Split; 8] = Default::default();
    splits[SplitName::Train as usize].push(0, 0, [4, 0], 3);
    Dataset {
        info: DatasetInfo {
            version: Dataset::VERSION,
            params: Default::default(),
            compose: Compose::Alpha,
            digit_colour: [255; 3],
            sizes: Default::default(),
        },
        train_glyphs: glyphs.clone(),
        test_glyphs: glyphs,
        background_pixels: vec![7; PIXELS],
        backgrounds: vec![Background { source: 5, owner: Some(3), pool: Pool::Train }],
        splits,
    }
}

/// A folder with the data set, and its files.
static FOLDER: LazyLock<(TempDir, [Vec<u8>; 3])> = LazyLock::new(|| {
    let root = tempfile::tempdir().unwrap();
    example().write(root.path()).unwrap();
    let files = NAMES.map(|name| fs::read(root.path().join(name)).unwrap());
    (root, files)
});

const NAMES: [&str; 3] =
    ["splits.safetensors", "backgrounds.safetensors", "glyphs_train.safetensors"];

fuzz_target!(|bytes: &[u8]| {
    let (root, good) = &*FOLDER;
    // The first byte says which file it is.
    let Some((&which, bytes)) = bytes.split_first() else { return };
    let which = usize::from(which) % NAMES.len();
    let path = root.path().join(NAMES[which]);
    fs::write(&path, bytes).unwrap();
    if let Ok(set) = ImageSet::read(&path, &[GLYPH_SIDE, GLYPH_SIDE]) {
        assert_eq!(set.images.len(), set.len() * set.stride());
    }
    if let Ok(dataset) = Dataset::read(root.path()) {
        for split in SplitName::ALL {
            assert_eq!(dataset.compose(split).len(), dataset.split(split).len() * PIXELS);
        }
    }
    fs::write(&path, &good[which]).unwrap();
});

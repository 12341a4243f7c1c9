//! Images and data sets as safetensors: what is read composes, or it is an error. The input is the
//! file that is read; the other files of a data set are good ones.

#![no_main]

use std::fs;

use dissim_api::formats::{
    Background, Compose, Dataset, DatasetInfo, GLYPH_SIDE, ImageSet, PIXELS, Pool, Split, SplitName,
};
use libfuzzer_sys::fuzz_target;

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

fuzz_target!(|bytes: &[u8]| {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("x.safetensors");
    fs::write(&file, bytes).unwrap();
    if let Ok(set) = ImageSet::read(&file, &[GLYPH_SIDE, GLYPH_SIDE]) {
        assert_eq!(set.images.len(), set.len() * set.stride());
    }
    example().write(root.path()).unwrap();
    for name in ["splits", "backgrounds", "glyphs_train"] {
        let path = root.path().join(format!("{name}.safetensors"));
        let good = fs::read(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        if let Ok(dataset) = Dataset::read(root.path()) {
            for split in SplitName::ALL {
                assert_eq!(dataset.compose(split).len(), dataset.split(split).len() * PIXELS);
            }
        }
        fs::write(&path, good).unwrap();
    }
});

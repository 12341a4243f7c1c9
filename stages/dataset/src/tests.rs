//! The rules of the draw as properties over random seeds and sizes, on small generated sets.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use dissim_api::formats::{GLYPH_PIXELS, NONE, PIXELS, Split};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Glyphs whose first pixels are their index, with labels in an uneven mix.
fn glyphs(n: usize, salt: usize) -> Glyphs {
    let mut images = vec![0; n * GLYPH_PIXELS];
    for (i, image) in images.chunks_exact_mut(GLYPH_PIXELS).enumerate() {
        image[..4].copy_from_slice(&((i + salt) as u32).to_le_bytes());
    }
    let labels = (0..n).map(|i| ((i * i + i / 3 + salt) % 10) as u8).collect();
    Glyphs { item: vec![GLYPH_SIDE, GLYPH_SIDE], images, labels }
}

/// Photographs of which every seventh is a copy of the one before it, and the first of the test half a
/// copy of a training photograph.
fn photographs() -> (ImageSet, ImageSet) {
    let set = |ids: Vec<usize>| {
        let mut images = vec![0; ids.len() * PIXELS];
        for (image, id) in images.chunks_exact_mut(PIXELS).zip(&ids) {
            image[..8].copy_from_slice(&(*id as u64).to_le_bytes());
        }
        ImageSet { item: vec![3, SIDE, SIDE], images, labels: vec![0; ids.len()] }
    };
    let train = (0..300).map(|i| if i % 7 == 6 { i - 1 } else { i });
    let test = (1000..1060).map(|i| if i == 1000 { 12 } else { i });
    (set(train.collect()), set(test.collect()))
}

fn params(value: Value) -> DatasetParams {
    let given = value.as_object().unwrap().clone();
    let resolved = DatasetStage.resolve(&given).unwrap();
    serde_json::from_value(Value::Object(resolved)).unwrap()
}

/// A data set of 200 training, 60 held-out and up to 100 test digits.
fn built(seed: u64, n_bg: u32, more: Value) -> Dataset {
    let mut given = json!({
        "n_bg": n_bg, "seed": seed, "n_train": 200, "n_val": 60, "n_test": 90,
        "n_ood": 40, "n_bg_val": 30,
    });
    given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let digits = (glyphs(300, 0), glyphs(100, 5));
    build(&params(given), Params::new(), digits, &photographs()).unwrap().0
}

/// The source photographs of a pool, by owner.
fn sources(dataset: &Dataset, pool: Pool) -> BTreeMap<Option<u8>, BTreeSet<u32>> {
    let mut sources: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for background in dataset.backgrounds.iter().filter(|b| b.pool == pool) {
        sources.entry(background.owner).or_default().insert(background.source);
    }
    sources
}

/// How often each background is used, those of `of` that are not used included.
fn uses(split: &Split, rows: impl Fn(usize) -> bool, of: impl Iterator<Item = u32>) -> Vec<usize> {
    let mut uses: BTreeMap<u32, usize> = of.map(|b| (b, 0)).collect();
    for row in (0..split.len()).filter(|&row| rows(row)) {
        *uses.entry(split.background[row]).or_default() += 1;
    }
    uses.into_values().collect()
}

fn even(uses: &[usize]) -> bool {
    uses.iter().max().zip(uses.iter().min()).is_none_or(|(most, least)| most - least <= 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn backgrounds_nest_in_n(seed: u64, small in 1..10_u32, more in 0..10_u32) {
        let (a, b) = (built(seed, small, json!({})), built(seed, small + more, json!({})));
        let (of_a, of_b) = (sources(&a, Pool::Train), sources(&b, Pool::Train));
        for label in 0..10 {
            prop_assert_eq!(of_a[&Some(label)].len(), small as usize);
            prop_assert!(of_a[&Some(label)].is_subset(&of_b[&Some(label)]));
        }
        prop_assert_eq!(sources(&a, Pool::Validation), sources(&b, Pool::Validation));
        prop_assert_eq!(sources(&a, Pool::Ood), sources(&b, Pool::Ood));
    }

    #[test]
    fn no_photograph_has_two_places(
        seed: u64,
        n_bg in 1..15_u32,
        n_fresh in 0..48_usize,
        ood_from_train: bool,
    ) {
        let source = if ood_from_train { "train" } else { "test" };
        let more = json!({"ood_source": source, "n_fresh": n_fresh});
        let dataset = built(seed, n_bg, more);
        let pixels = dataset.background_pixels.chunks_exact(PIXELS);
        let distinct: HashSet<&[u8]> = pixels.collect();
        prop_assert_eq!(distinct.len(), dataset.backgrounds.len());
        prop_assert_eq!(dataset.backgrounds.len(), n_bg as usize * 10 + 30 + 40 + n_fresh);
        for b in &dataset.backgrounds {
            prop_assert_eq!(b.owner.is_some(), b.pool == Pool::Train);
            prop_assert_eq!(b.source >= 300, b.pool == Pool::Ood && !ood_from_train);
        }
    }

    #[test]
    fn each_split_keeps_to_its_backgrounds(seed: u64, n_bg in 1..18_u32) {
        let dataset = built(seed, n_bg, json!({}));
        for name in SplitName::ALL {
            let split = dataset.split(name);
            for row in 0..split.len() {
                let label = split.label[row];
                let background = match split.background[row] {
                    NONE => None,
                    b => Some(dataset.backgrounds[b as usize]),
                };
                let fits = match name {
                    SplitName::Train | SplitName::IdVal | SplitName::IdTest
                    | SplitName::BackgroundOnly => background.unwrap().owner == Some(label),
                    SplitName::Conflict => background.unwrap().owner.is_some_and(|o| o != label),
                    SplitName::BgVal => background.unwrap().pool == Pool::Validation,
                    SplitName::OodTest => background.unwrap().pool == Pool::Ood,
                    SplitName::Black => background.is_none(),
                };
                prop_assert!(fits, "{name:?} row {row}");
                let half =
                    if name.uses_test_glyphs() { &dataset.test_glyphs } else { &dataset.train_glyphs };
                let glyph = split.glyph[row];
                prop_assert_eq!(glyph == NONE, name == SplitName::BackgroundOnly);
                prop_assert!(glyph == NONE || half.labels[glyph as usize] == label);
            }
        }
        prop_assert_eq!(dataset.split(SplitName::BackgroundOnly).len(), n_bg as usize * 10);
    }

    #[test]
    fn digits_and_places_do_not_depend_on_n(seed: u64, a in 1..18_u32, b in 1..18_u32) {
        let placement = json!({"placement": "random"});
        let (a, b) = (built(seed, a, placement.clone()), built(seed, b, placement));
        for name in SplitName::ALL.into_iter().filter(|&n| n != SplitName::BackgroundOnly) {
            let (a, b) = (a.split(name), b.split(name));
            prop_assert_eq!((&a.glyph, &a.offset, &a.label), (&b.glyph, &b.offset, &b.label));
        }
        for name in [SplitName::OodTest, SplitName::Conflict, SplitName::Black] {
            let (id, other) = (a.split(SplitName::IdTest), a.split(name));
            prop_assert_eq!((&id.glyph, &id.offset, &id.label),
                (&other.glyph, &other.offset, &other.label));
        }
        let (id, bg) = (a.split(SplitName::IdVal), a.split(SplitName::BgVal));
        prop_assert_eq!((&id.glyph, &id.offset), (&bg.glyph, &bg.offset));
    }

    #[test]
    fn held_out_digits_are_apart_and_stay_put(seed: u64, n_train in 1..240_u32) {
        let dataset = built(seed, 3, json!({"n_train": n_train}));
        let set = |name| dataset.split(name).glyph.iter().copied().collect::<BTreeSet<u32>>();
        let (train, held_out) = (set(SplitName::Train), set(SplitName::IdVal));
        prop_assert_eq!((train.len(), held_out.len()), (n_train as usize, 60));
        prop_assert!(train.is_disjoint(&held_out));
        let other = built(seed, 3, json!({}));
        prop_assert_eq!(&other.split(SplitName::IdVal).glyph, &dataset.split(SplitName::IdVal).glyph);
        prop_assert_eq!(set(SplitName::IdTest).len(), 90);
    }

    #[test]
    fn backgrounds_are_used_evenly(seed: u64, n_bg in 1..18_u32) {
        let dataset = built(seed, n_bg, json!({}));
        for name in [SplitName::Train, SplitName::IdVal, SplitName::IdTest] {
            let split = dataset.split(name);
            for label in 0..10_u8 {
                let own = (0..n_bg).map(|j| j * 10 + u32::from(label));
                prop_assert!(even(&uses(split, |row| split.label[row] == label, own)));
            }
        }
        let first = n_bg * 10;
        let bg_val = dataset.split(SplitName::BgVal);
        prop_assert!(even(&uses(bg_val, |_| true, first..first + 30)));
        let ood = dataset.split(SplitName::OodTest);
        prop_assert!(even(&uses(ood, |_| true, first + 30..first + 70)));
        let conflict = dataset.split(SplitName::Conflict);
        for label in 0..10_u8 {
            let mut owners = [0; 10];
            for row in (0..conflict.len()).filter(|&row| conflict.label[row] == label) {
                owners[(conflict.background[row] % 10) as usize] += 1;
            }
            let others: Vec<usize> =
                (0..10).filter(|&l| l != usize::from(label)).map(|l| owners[l]).collect();
            prop_assert!(even(&others));
        }
    }

    #[test]
    fn a_shared_pool_is_the_same_photographs_without_owners(seed: u64, n_bg in 1..18_u32) {
        let own = built(seed, n_bg, json!({}));
        let shared = built(seed, n_bg, json!({"background_policy": "shared"}));
        prop_assert_eq!(&own.background_pixels, &shared.background_pixels);
        prop_assert!(shared.backgrounds.iter().all(|b| b.owner.is_none()));
        prop_assert!(shared.split(SplitName::Conflict).is_empty());
        prop_assert!(shared.split(SplitName::BackgroundOnly).is_empty());
        let split = shared.split(SplitName::Train);
        for label in 0..10_u8 {
            let uses = uses(split, |row| split.label[row] == label, 0..n_bg * 10);
            prop_assert_eq!(uses.len(), n_bg as usize * 10);
            prop_assert!(even(&uses));
        }
        prop_assert_eq!(&own.split(SplitName::Train).glyph, &split.glyph);
    }
}

#[test]
fn the_seed_matters_and_is_all_that_matters() {
    let draw = |seed| built(seed, 4, json!({"placement": "random"}));
    assert_eq!(draw(3), draw(3));
    let (a, b) = (draw(3), draw(4));
    assert_ne!(a.split(SplitName::Train).glyph, b.split(SplitName::Train).glyph);
    assert_ne!(sources(&a, Pool::Train), sources(&b, Pool::Train));
    assert_ne!(sources(&a, Pool::Ood), sources(&b, Pool::Ood));
}

#[test]
fn the_draw_of_today_is_the_draw_for_good() {
    let dataset = built(1, 2, json!({"placement": "random"}));
    let mut hasher = blake3::Hasher::new();
    for background in &dataset.backgrounds {
        hasher.update(&background.source.to_le_bytes());
    }
    for split in &dataset.splits {
        for value in split.glyph.iter().chain(&split.background) {
            hasher.update(&value.to_le_bytes());
        }
        hasher.update(split.offset.as_flattened());
    }
    insta::assert_snapshot!(hasher.finalize().to_hex(), @"33d8e78e8ac6ecb01ed76bd3536a422383a3f5270e6e403f31cbfcd1bd4ffeaf");
}

#[test]
fn asking_for_more_than_there_is_says_so() {
    let message = |value: Value| {
        let digits = (glyphs(300, 0), glyphs(100, 5));
        let error = build(&params(value), Params::new(), digits, &photographs()).unwrap_err();
        error.to_string()
    };
    insta::assert_snapshot!(message(json!({"n_bg": 25, "n_train": 9, "n_bg_val": 30})), @r"
    280 different backgrounds are asked of the training half of the background set, which has 258
      help: lower n_bg, n_bg_val, n_fresh or n_ood
    ");
    insta::assert_snapshot!(message(json!({"n_bg": 1, "n_train": 9, "n_bg_val": 30})), @r"
    1000 different backgrounds are asked of the test half of the background set, which has 59
      help: lower n_ood
    ");
    let digits = json!({"n_bg": 1, "n_train": 290, "n_val": 11, "n_bg_val": 9, "n_ood": 9});
    insta::assert_snapshot!(message(digits), @r"
    n_train 290 + n_val 11 digits are asked of a set that has 300
      help: lower n_train or n_val
    ");
    let tests = json!({"n_bg": 1, "n_train": 9, "n_val": 9, "n_bg_val": 9, "n_ood": 9});
    insta::assert_snapshot!(message(tests), @r"
    n_test 10000 digits are asked of a set that has 100
      help: lower n_test
    ");
}

#[test]
fn the_stage_reads_inputs_and_leaves_a_data_set_with_samples() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let (digits, backgrounds, output) = (path("digits"), path("backgrounds"), path("output"));
    glyphs(300, 0).write(&digits.join("train.safetensors")).unwrap();
    glyphs(100, 5).write(&digits.join("test.safetensors")).unwrap();
    let (train, test) = photographs();
    train.write(&backgrounds.join("train.safetensors")).unwrap();
    test.write(&backgrounds.join("test.safetensors")).unwrap();
    let given =
        json!({"n_bg": 4, "n_train": 200, "n_val": 50, "n_test": 100, "n_ood": 40, "n_bg_val": 9});
    let resolved = DatasetStage.resolve(given.as_object().unwrap()).unwrap();
    let context = |digits: &Path| {
        Context::for_test("dataset", resolved.clone(), &output, folder.path())
            .with_input("digits", "digits", digits)
            .with_input("backgrounds", "backgrounds", &backgrounds)
    };
    DatasetStage.run(&mut context(&digits)).unwrap();
    let dataset = Dataset::read(&output).unwrap();
    assert_eq!(dataset.info.params, resolved);
    assert_eq!(dataset.info.sizes["train"], 200);
    assert_eq!(dataset.info.sizes["background_only"], 40);
    let samples = std::fs::File::open(output.join("samples.png")).unwrap();
    let reader = png::Decoder::new(std::io::BufReader::new(samples)).read_info().unwrap();
    assert_eq!(reader.info().size(), (1004, 804));
    let wrong = DatasetStage.run(&mut context(&backgrounds)).unwrap_err();
    assert!(wrong.what.starts_with("tensor `images` is U8 [300, 3, 32, 32]"), "{wrong}");
    assert_eq!(wrong.help.unwrap(), "this input must be a data set of glyphs [28, 28]");
}

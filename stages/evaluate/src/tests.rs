//! Evaluation of a network with random weights on a small generated data set, by brute force.

use std::fs::{self, File};
use std::path::Path;

use dissim_api::formats::{
    Background, Compose, DatasetInfo, Glyphs, NONE, PIXELS, Pool, Split, Told, write_json,
};
use dissim_kernel::layout;
use polars::prelude::*;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// 30 test glyphs of noise on four backgrounds; `bg_val` stays empty.
fn dataset() -> Dataset {
    let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
    let glyphs = Glyphs {
        item: vec![28, 28],
        images: (0..30 * 784).map(noise).collect(),
        labels: (0..30).map(|i| i % 10).collect(),
    };
    let mut splits: [Split; 8] = Default::default();
    for row in 0..30 {
        let label = (row % 10) as u8;
        splits[SplitName::Train as usize].push(row, row % 4, [2, 2], label);
        splits[SplitName::IdVal as usize].push(row, row % 4, [2, 2], label);
        splits[SplitName::IdTest as usize].push(row, row % 2, [2, 2], label);
        splits[SplitName::OodTest as usize].push(row, 2, [2, 2], label);
        splits[SplitName::Conflict as usize].push(row, 3, [2, 2], label);
        splits[SplitName::Black as usize].push(row, NONE, [2, 2], label);
        splits[SplitName::BackgroundOnly as usize].push(NONE, row % 4, [2, 2], label);
    }
    let background = |i: u32| Background { source: i, owner: Some(i as u8), pool: Pool::Train };
    Dataset {
        info: DatasetInfo {
            version: Dataset::VERSION,
            params: json!({"n_bg": 2, "seed": 5, "n_train": 30}).as_object().unwrap().clone(),
            compose: Compose::Alpha,
            digit_colour: [255; 3],
            sizes: Default::default(),
        },
        train_glyphs: glyphs.clone(),
        test_glyphs: glyphs,
        background_pixels: (0..4 * PIXELS).map(|i| noise(i + 1)).collect(),
        backgrounds: (0..4).map(background).collect(),
        splits,
    }
}

fn some_weights(scale: f32) -> Vec<f32> {
    let wave = |i: usize| (i.wrapping_mul(7919) % 1009) as f32 / 1009.0 - 0.5;
    (0..layout::WEIGHTS).map(|i| wave(i) * scale).collect()
}

/// Evaluates into `folder/out`.
fn evaluate(folder: &Path, method: &str) -> Result<(), StageError> {
    for name in ["data", "model", "out"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let dataset = dataset();
    dataset.write(&folder.join("data")).unwrap();
    let path = folder.join("model/model.safetensors");
    weights::write(&path, &Architecture::default(), &some_weights(0.2)).unwrap();
    fs::create_dir_all(folder.join("model/epochs")).unwrap();
    for (epoch, scale) in [(1, 0.3), (2, 0.2)] {
        let path = folder.join("model").join(epoch_weights(epoch));
        weights::write(&path, &Architecture::default(), &some_weights(scale)).unwrap();
    }
    let run = RunInfo {
        params: json!({"method": method, "seed": 5, "epochs": 1}).as_object().unwrap().clone(),
        dataset: dataset.info,
        backend: "flex".into(),
        weights: layout::WEIGHTS,
        told: Told::Nothing,
    };
    write_json(&folder.join("model/run.json"), &run).unwrap();
    let epoch = r#"{"epoch":1,"cross_entropy":null,"penalty":0.5,"pairs":3.0,"lambda":0.0,
        "embedding_norm":1.0,"zero_norm":0.0,"active":0.5,"train_acc":0.1,"id_val_acc":0.1,
        "bg_val_acc":null}"#;
    let first = epoch.replace('\n', "");
    // id_val prefers the first epoch.
    let second = first.replace("\"epoch\":1", "\"epoch\":2").replace("0.1", "0.05");
    fs::write(folder.join("model/epochs.jsonl"), format!("{first}\n{second}\n")).unwrap();
    let mut context =
        Context::for_test("evaluate", Params::new(), &folder.join("out"), &folder.join("out"))
            .with_input("model", "train", &folder.join("model"))
            .with_input("data", "dataset", &folder.join("data"));
    Evaluate.run(&mut context)
}

fn table(folder: &Path, name: &str) -> DataFrame {
    ParquetReader::new(File::open(folder.join("out").join(name)).unwrap()).finish().unwrap()
}

fn number(table: &DataFrame, column: &str) -> Option<f64> {
    table.column(column).unwrap().cast(&DataType::Float64).unwrap().f64().unwrap().get(0)
}

#[test]
fn every_number_equals_a_count_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    evaluate(folder.path(), "erm").unwrap();
    let dataset = dataset();
    let mut network = engine::fused(&some_weights(0.2), 1);
    let metrics = table(folder.path(), "metrics.parquet");
    for (name, column) in
        [(SplitName::IdTest, "id_acc"), (SplitName::BackgroundOnly, "background_only_acc")]
    {
        let images = dataset.compose(name);
        let right = (0..30u32).filter(|&i| {
            let logits = network.predict(&images, &[i]).logits(0);
            let best = logits.iter().copied().fold(f32::MIN, f32::max);
            logits[dataset.split(name).label[i as usize] as usize] == best
        });
        assert_eq!(number(&metrics, column), Some(right.count() as f64 / 30.0));
    }
    // Pairs with the same label and background on id_test, one by one.
    let images = dataset.compose(SplitName::IdTest);
    let z: Vec<Vec<f32>> =
        (0..30).map(|i| network.predict(&images, &[i]).embedding(0).to_vec()).collect();
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    let (mut sum, mut pairs) = (0.0, 0.0);
    for i in 0..30 {
        for j in 0..30 {
            if i != j && i % 10 == j % 10 && i % 2 == j % 2 {
                sum += dot(&z[i], &z[j]) / (dot(&z[i], &z[i]) * dot(&z[j], &z[j])).sqrt();
                pairs += 1.0;
            }
        }
    }
    let found = number(&metrics, "same_group_similarity").unwrap();
    assert!((found - sum / pairs).abs() < 1e-6, "{found} {}", sum / pairs);
    let confusion = table(folder.path(), "confusion.parquet");
    assert_eq!(confusion.height(), 6 * 100);
    assert_eq!(confusion.column("count").unwrap().i64().unwrap().sum(), Some(6 * 30));
    let per_class = table(folder.path(), "per_class.parquet");
    assert_eq!(per_class.column("n").unwrap().i64().unwrap().sum(), Some(6 * 30));
    let right = per_class.column("correct").unwrap().i64().unwrap().sum().unwrap();
    let diagonal: i64 = {
        let of = |name: &str| confusion.column(name).unwrap().i64().unwrap().to_vec();
        let rows = of("truth").into_iter().zip(of("predicted")).zip(of("count"));
        rows.filter(|((t, p), _)| t == p).filter_map(|(_, n)| n).sum()
    };
    assert_eq!(right, diagonal);
}

#[test]
fn selectors_measure_the_network_of_their_epoch() {
    let folder = tempfile::tempdir().unwrap();
    evaluate(folder.path(), "erm").unwrap();
    let metrics = table(folder.path(), "metrics.parquet");
    let images = Images::of(&dataset(), SplitName::OodTest);
    let accuracy = |scale| images.accuracy(&mut *engine::fused(&some_weights(scale), BATCH));
    let (first, last) = (accuracy(0.3), accuracy(0.2));
    assert_ne!(first, last);
    assert_eq!(number(&metrics, "ood_acc"), last);
    assert_eq!(number(&metrics, "epoch@id_val"), Some(1.0));
    assert_eq!(number(&metrics, "ood_acc@id_val"), first);
    assert_eq!(
        number(&metrics, "ood_acc@oracle"),
        [first, last].into_iter().flatten().reduce(f64::max)
    );
    assert_eq!(number(&metrics, "ood_acc@bg_val"), None, "bg_val is empty");
    let id = Images::of(&dataset(), SplitName::IdTest);
    let id_acc = id.accuracy(&mut *engine::fused(&some_weights(0.3), BATCH));
    assert_eq!(number(&metrics, "id_acc@id_val"), id_acc);
    let epochs = table(folder.path(), "epochs.parquet");
    assert_eq!(epochs.column("ood_acc").unwrap().f64().unwrap().to_vec(), [first, last]);
}

#[test]
fn facts_stand_beside_metrics() {
    let folder = tempfile::tempdir().unwrap();
    evaluate(folder.path(), "erm").unwrap();
    let metrics = table(folder.path(), "metrics.parquet");
    assert_eq!(metrics.height(), 1);
    assert_eq!(metrics.column("method").unwrap().str().unwrap().get(0), Some("erm"));
    assert_eq!(number(&metrics, "n_bg"), Some(2.0));
    assert_eq!(number(&metrics, "seed"), Some(5.0));
    assert!(metrics.column("data_seed").is_err(), "one seed, one column");
    for absent in ["lambda", "embed", "bg_val_acc", "cross_entropy"] {
        assert_eq!(metrics.column(absent).unwrap().null_count(), 1, "{absent}");
    }
    let dead = metrics.column("dead").unwrap().bool().unwrap().get(0).unwrap();
    assert_eq!(dead, number(&metrics, "id_acc").unwrap() < 0.2);
}

#[test]
fn the_same_network_gives_the_same_bytes() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    evaluate(a.path(), "erm").unwrap();
    evaluate(b.path(), "erm").unwrap();
    for name in [
        "metrics.parquet",
        "per_class.parquet",
        "confusion.parquet",
        "embeddings.parquet",
        "epochs.parquet",
    ] {
        let read = |folder: &Path| fs::read(folder.join("out").join(name)).unwrap();
        assert!(read(a.path()) == read(b.path()), "{name}");
    }
}

#[test]
fn a_model_of_another_data_set_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    evaluate(folder.path(), "erm").unwrap();
    let path = folder.path().join("model/run.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"n_bg\": 2", "\"n_bg\": 4");
    let run: RunInfo = serde_json::from_str(&text).unwrap();
    write_json(&path, &run).unwrap();
    let mut context = Context::for_test("evaluate", Params::new(), folder.path(), folder.path())
        .with_input("model", "train", &folder.path().join("model"))
        .with_input("data", "dataset", &folder.path().join("data"));
    let error = Evaluate.run(&mut context).unwrap_err();
    assert_eq!(error.what, "the model was trained on another data set");
}

proptest! {
    /// A run is dead exactly below 20 % on the ID test.
    #[test]
    fn dead_means_below_a_fifth(right in 0u32..=100) {
        let mut confusion = [[0; 10]; 10];
        confusion[3][3] = right;
        confusion[3][4] = 100 - right;
        let split = Predictions {
            width: 84,
            name: SplitName::IdTest, confusion, loss: None, same_group: None, same_label: None,
            embeddings: Vec::new(),
        };
        let dead = tables::Metrics::of(&[split], &[], Probes::default()).numbers().into_iter().find(|(n, _)| *n == "dead");
        prop_assert_eq!(dead.unwrap().1, Some(if right < 20 { 1.0 } else { 0.0 }));
    }
}

//! Whole runs on a small generated data set: what counts here does not depend on pixels.
//!
//! With the feature `tch` they run on libtorch: see stages/model/libtorch.sh.

use std::fs;
use std::path::Path;

use dissim_api::formats::{
    Background, Compose, Dataset, DatasetInfo, EpochLog, Glyphs, PIXELS, Pool, RunInfo, Split,
    SplitName, Told, epoch_weights,
};
use dissim_api::{Context, Stage};
use dissim_train::Train;
use serde_json::{Value, json};
use tempfile::TempDir;

/// 200 glyphs, a cross at the label's place over noise of their own, on two backgrounds a label;
/// 200 training rows, 20 held out.
fn write_dataset(folder: &Path, params: Value) {
    let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
    let glyph = |g: usize| {
        let inside = move |i: usize| i / 28 / 3 == g % 10 || i % 28 / 3 == g % 10;
        (0..784).map(move |i| if inside(i) { 255 } else { noise(g * 784 + i) / 2 })
    };
    let glyphs = Glyphs {
        item: vec![28, 28],
        images: (0..200).flat_map(glyph).collect(),
        labels: (0..200).map(|g| g % 10).collect(),
    };
    let mut splits: [Split; 8] = Default::default();
    for (name, rows) in [(SplitName::Train, 200), (SplitName::IdVal, 20), (SplitName::BgVal, 20)] {
        for row in 0..rows {
            let label = row % 10;
            splits[name as usize].push(row, label * 2 + row / 10 % 2, [2, 2], label as u8);
        }
    }
    let background =
        |i: u32| Background { source: i, owner: Some((i / 2) as u8), pool: Pool::Train };
    let dataset = Dataset {
        info: DatasetInfo {
            version: Dataset::VERSION,
            params: params.as_object().unwrap().clone(),
            compose: Compose::Alpha,
            digit_colour: [255; 3],
            sizes: Default::default(),
        },
        train_glyphs: glyphs.clone(),
        test_glyphs: glyphs,
        background_pixels: (0..20 * PIXELS).map(|i| noise(i) / 2).collect(),
        backgrounds: (0..20).map(background).collect(),
        splits,
    };
    dataset.write(folder).unwrap();
}

/// What the tests train on: built with the feature `tch`, they are the tests of libtorch.
const BACKEND: &str = if cfg!(feature = "tch") { "tch" } else { "flex" };

/// A folder with a data set, an output and a scratch folder.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["data", "scratch"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        write_dataset(&folder.path().join("data"), json!({"n_bg": 2}));
        Self(folder)
    }

    /// Replaces the data set by one whose parameters say something else.
    fn replace_dataset(&self, params: Value) {
        write_dataset(&self.0.path().join("data"), params);
    }

    /// Trains with these parameters into output folder `name`; returns the epochs.
    fn train(&self, name: &str, with: Value) -> Vec<EpochLog> {
        self.train_on(BACKEND, name, with)
    }

    fn train_on(&self, backend: &str, name: &str, with: Value) -> Vec<EpochLog> {
        let output = self.0.path().join(name);
        fs::create_dir_all(&output).unwrap();
        let params = Train.resolve(with.as_object().unwrap()).unwrap();
        let scratch = self.0.path().join("scratch");
        let mut context = Context::for_test("train", params, &output, &scratch)
            .with_backend(backend)
            .with_input("data", "dataset", &self.0.path().join("data"));
        Train.run(&mut context).unwrap();
        let text = fs::read_to_string(output.join("epochs.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Forgets the checkpoint, as the runner does after a success.
    fn clear(&self) {
        fs::remove_dir_all(self.0.path().join("scratch")).unwrap();
        fs::create_dir(self.0.path().join("scratch")).unwrap();
    }

    fn bytes(&self, name: &str, file: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name).join(file)).unwrap()
    }
}

#[test]
fn it_learns_and_logs() {
    let bench = Bench::new();
    let epochs = bench.train("a", json!({"epochs": 12, "batch_size": 20, "lr": 0.002}));
    assert_eq!(epochs.len(), 12);
    assert!(epochs[11].cross_entropy < 0.5 * epochs[0].cross_entropy);
    assert!(epochs[11].train_acc > 0.9 && epochs[11].id_val_acc.unwrap() > 0.9);
    // 20 rows of 10 labels with 2 backgrounds: a batch of 20 random rows has few pairs.
    assert!(epochs[0].pairs > 0.0 && epochs[0].pairs < 60.0);
    assert!(epochs[0].embedding_norm > 0.0 && epochs[0].active > 0.0 && epochs[0].active < 1.0);
}

#[test]
fn the_penalty_pushes_embeddings_of_a_group_apart() {
    let bench = Bench::new();
    let with = |lambda: Value| json!({"epochs": 60, "batch_size": 50, "method": "dissimilarity", "embed": "pre", "lambda": lambda});
    // A weight of 0 is erm, and logs the similarity of the same embedding.
    let erm = bench.train("erm", with(json!(0)));
    bench.clear();
    // With 0.5 the gap was 0.07: too little to tell from chance.
    let dissimilarity = bench.train("dl", with(json!(2)));
    let (erm, dissimilarity) = (&erm[59], &dissimilarity[59]);
    assert!(dissimilarity.penalty < erm.penalty - 0.1, "{dissimilarity:?}\n{erm:?}");
    // Not by dying: a network that says nothing has scattered embeddings too.
    assert!(dissimilarity.train_acc > 0.9 && erm.train_acc > 0.9, "{dissimilarity:?}\n{erm:?}");
    assert_eq!((erm.lambda, dissimilarity.lambda), (0.0, 2.0));
}

#[test]
fn a_killed_run_ends_in_the_same_bytes() {
    for more in [
        json!({"method": "dissimilarity"}),
        json!({"method": "dissimilarity", "lambda": {"target": 0.3}, "sampler": "groups"}),
        json!({"method": "group_dro", "sampler": "groups", "samples_per_group": 2}),
        json!({"method": "sifer"}),
    ] {
        resumes(&more);
    }
}

/// A run of three epochs with these parameters, killed after its first.
fn resumes(more: &Value) {
    let bench = Bench::new();
    let with = |epochs: u32| {
        let mut with = json!({"epochs": epochs, "batch_size": 32});
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with
    };
    bench.train("whole", with(3));
    bench.clear();
    // A run that was killed after its first epoch leaves that epoch's checkpoint.
    bench.train("first", with(1));
    let header = bench.0.path().join("scratch/checkpoint.json");
    let mut text: Value = serde_json::from_slice(&fs::read(&header).unwrap()).unwrap();
    text["run"]["params"]["epochs"] = json!(3);
    fs::write(&header, text.to_string()).unwrap();
    bench.train("resumed", with(3));
    let weights = [1, 2, 3].map(epoch_weights);
    let files = ["model.safetensors", "epochs.jsonl", "run.json"].map(str::to_owned);
    for file in files.into_iter().chain(weights) {
        assert!(bench.bytes("whole", &file) == bench.bytes("resumed", &file), "{file}");
    }
    // The last epoch's weights are the model: one blob in the store.
    let last = bench.bytes("whole", &epoch_weights(3));
    assert!(last == bench.bytes("whole", "model.safetensors"));
    assert!(bench.bytes("whole", "model.safetensors") != bench.bytes("first", "model.safetensors"));
}

#[test]
fn a_steered_weight_follows_the_similarity() {
    let bench = Bench::new();
    let with = json!({"epochs": 150, "batch_size": 50, "method": "dissimilarity", "embed": "pre",
        "sampler": "groups", "samples_per_group": 5, "lambda": {"target": 0.4}});
    let epochs = bench.train("steered", with);
    // It rises while the similarity is above the target, and falls, if it can, while it is below.
    let (mut rose, mut fell) = (0, 0);
    for pair in epochs.windows(2) {
        let above = |e: &EpochLog| e.penalty - 0.4;
        if pair.iter().all(|e| above(e) > 0.05) {
            assert!(pair[1].lambda > pair[0].lambda, "{pair:?}");
            rose += 1;
        }
        if pair.iter().all(|e| above(e) < -0.05) {
            assert!(pair[1].lambda < pair[0].lambda || pair[1].lambda == 0.0, "{pair:?}");
            fell += 1;
        }
    }
    assert!(rose > 2 && fell > 2, "{rose} {fell}");
    // 10 groups of 5 a batch.
    assert_eq!(epochs[149].pairs, 10.0 * 5.0 * 4.0);
}

#[test]
fn a_schedule_is_in_the_log() {
    let bench = Bench::new();
    let with = json!({"epochs": 4, "batch_size": 50, "method": "similarity", "lambda": 2,
        "lambda_schedule": "warm_up", "lambda_span": 0.5});
    let lambdas: Vec<f64> = bench.train("warm", with).iter().map(|e| e.lambda).collect();
    // Steps 0 to 3 of 8, then 4 to 7, then the whole weight.
    assert_eq!(lambdas, [0.375, 1.375, 2.0, 2.0]);
}

#[test]
fn batches_of_groups_are_for_erm_too_and_are_told() {
    let bench = Bench::new();
    let erm = |sampler: &str| json!({"epochs": 1, "batch_size": 40, "sampler": sampler});
    let plain = bench.train("plain", erm("shuffle"));
    bench.clear();
    let grouped = bench.train("grouped", erm("groups"));
    assert_eq!(grouped[0].pairs, 10.0 * 4.0 * 3.0);
    assert!(plain[0].pairs < 80.0, "{:?}", plain[0]);
    let run: RunInfo = serde_json::from_slice(&bench.bytes("grouped", "run.json")).unwrap();
    assert_eq!(run.told, Told::TrainingGroups);
    let run: RunInfo = serde_json::from_slice(&bench.bytes("plain", "run.json")).unwrap();
    assert_eq!(run.told, Told::Nothing);
}

#[test]
fn a_damaged_or_foreign_checkpoint_is_not_used() {
    let bench = Bench::new();
    let with = json!({"epochs": 2, "batch_size": 64});
    bench.train("whole", with.clone());
    // The checkpoint is of epoch 2; its tensors now lie.
    let tensors = bench.0.path().join("scratch/epoch-2.safetensors");
    let mut bytes = fs::read(&tensors).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&tensors, bytes).unwrap();
    bench.train("again", with.clone());
    assert!(bench.bytes("whole", "model.safetensors") == bench.bytes("again", "model.safetensors"));
    // The weights of its first epoch are gone.
    fs::remove_file(bench.0.path().join("scratch").join(epoch_weights(1))).unwrap();
    bench.train("again", with);
    assert!(bench.bytes("whole", &epoch_weights(1)) == bench.bytes("again", &epoch_weights(1)));
    bench.train("other", json!({"epochs": 2, "batch_size": 64, "seed": 1}));
    assert!(bench.bytes("whole", "model.safetensors") != bench.bytes("other", "model.safetensors"));
}

#[test]
fn a_checkpoint_on_another_data_set_is_not_used() {
    let bench = Bench::new();
    let with = json!({"epochs": 1});
    bench.train("two", with.clone());
    bench.replace_dataset(json!({"n_bg": 2, "resample_each_epoch": true}));
    bench.train("resumed", with.clone());
    bench.clear();
    bench.train("fresh", with);
    assert!(bench.bytes("resumed", "epochs.jsonl") == bench.bytes("fresh", "epochs.jsonl"));
    assert!(bench.bytes("resumed", "epochs.jsonl") != bench.bytes("two", "epochs.jsonl"));
}

#[test]
fn a_weight_of_zero_gives_the_bytes_of_erm() {
    let bench = Bench::new();
    for (engine, method) in [
        ("fused", "dissimilarity"),
        ("plain", "dissimilarity"),
        ("fused", "class_repulsion"),
        ("fused", "sifer"),
        ("plain", "sifer"),
    ] {
        let with = |method: &str| json!({"epochs": 1, "batch_size": 10, "engine": engine, "method": method, "lambda": 0});
        bench.train("erm", with("erm"));
        bench.clear();
        bench.train("zero", with(method));
        bench.clear();
        let bytes = |name: &str| bench.bytes(name, "model.safetensors");
        assert!(bytes("erm") == bytes("zero"), "{engine} {method}");
    }
}

#[test]
fn the_sieve_works_on_both_engines_and_on_alexnet() {
    let bench = Bench::new();
    let with = |more: Value| {
        let mut with = json!({"epochs": 1, "batch_size": 10});
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with
    };
    let erm = bench.train("erm", with(json!({})));
    bench.clear();
    let fused = bench.train("fused", with(json!({"method": "sifer"})));
    bench.clear();
    let plain = bench.train("plain", with(json!({"method": "sifer", "engine": "plain"})));
    bench.clear();
    assert_ne!(erm[0].cross_entropy, fused[0].cross_entropy);
    assert!((fused[0].penalty - plain[0].penalty).abs() < 1e-2, "{fused:?}\n{plain:?}");
    assert!((fused[0].cross_entropy - plain[0].cross_entropy).abs() < 1e-2);
    let alexnet = bench.train("alexnet", with(json!({"method": "sifer", "model": "alexnet"})));
    assert!(alexnet[0].penalty.is_finite() && alexnet[0].penalty > 2.3);
}

#[test]
fn both_engines_learn_the_same() {
    let bench = Bench::new();
    // Adam turns a gradient of almost 0 into a whole step, so rounding shows in the end; what the
    // two compute in one step is compared to 1e-4 in dissim-model.
    let with = |engine: &str| json!({"epochs": 2, "batch_size": 64, "engine": engine});
    let fused = bench.train_on("flex", "fused", with("fused"));
    bench.clear();
    let plain = bench.train("plain", with("plain"));
    for (a, b) in fused.iter().zip(&plain) {
        assert!((a.cross_entropy - b.cross_entropy).abs() < 1e-2, "{a:?}\n{b:?}");
        assert!((a.penalty - b.penalty).abs() < 1e-2, "{a:?}\n{b:?}");
        assert!((a.embedding_norm - b.embedding_norm).abs() < 5e-2, "{a:?}\n{b:?}");
        assert!((a.active - b.active).abs() < 1e-2, "{a:?}\n{b:?}");
        assert_eq!((a.pairs, a.zero_norm), (b.pairs, b.zero_norm));
    }
}

#[test]
fn a_run_that_diverges_is_kept() {
    let bench = Bench::new();
    let epochs = bench.train("dead", json!({"epochs": 2, "lr": 1e30}));
    assert_eq!(epochs.len(), 2);
    // What is not a number is null in the file, and reads back as such.
    let text = String::from_utf8(bench.bytes("dead", "epochs.jsonl")).unwrap();
    assert!(text.contains("null") || epochs[1].cross_entropy > 1e3, "{text}");
}

#[test]
fn parameters_without_effect_are_left_out() {
    let resolve = |with: Value| Train.resolve(with.as_object().unwrap());
    let erm = resolve(json!({"method": "erm", "lambda": 3})).unwrap();
    assert_eq!(erm, resolve(json!({})).unwrap());
    assert!(!erm.contains_key("lambda") && !erm.contains_key("embed"));
    let penalised = resolve(json!({"method": "dissimilarity"})).unwrap();
    assert_eq!((&penalised["lambda"], &penalised["embed"]), (&json!(1.25), &json!("post")));
    let zero = json!({"method": "dissimilarity", "lambda": 0});
    assert_eq!(
        resolve(json!({"method": "dissimilarity", "lambda": -0.0})).unwrap()["lambda"].to_string(),
        resolve(zero).unwrap()["lambda"].to_string(),
    );
    let errors = resolve(json!({"lambda": -1, "lr": 0, "epochs": 0, "batch_size": 0})).unwrap_err();
    let text: Vec<_> = errors.into_iter().map(|e| e.message).collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    `lambda` must be 0 or more, and is -1
    `epochs` must be 1 to 10000, and is 0
    `batch_size` must be 1 to 4096, and is 0
    `lr` must be above 0, and is 0
    ");
    let plain = resolve(json!({"method": "dissimilarity"})).unwrap();
    let named = json!({"method": "dissimilarity", "sampler": "shuffle", "samples_per_group": 8,
        "lambda_schedule": "constant", "lambda_span": 0.5, "tau_space": "input", "tau": 1});
    assert_eq!(resolve(named).unwrap(), plain);
    assert_eq!(resolve(json!({"lambda": {"target": 0.5}})).unwrap(), resolve(json!({})).unwrap());
    let all = [
        json!({"method": "vrex", "lambda": {"target": 0.5}}),
        json!({"method": "dissimilarity", "lambda": {"target": 1.5}, "lambda_span": 0}),
        json!({"method": "dissimilarity", "lambda": {"target": 0.5}, "pairs": "label_above_threshold"}),
        json!({"method": "dissimilarity", "lambda": {"aim": 0.5}}),
        json!({"sampler": "groups", "samples_per_group": 5}),
        json!({"sampler": "groups", "samples_per_group": 1}),
        json!({"pairs": "label_above_threshold", "tau_loss": "hinge", "tau_space": "input"}),
        json!({"offset": 2, "tau": -1, "environments": 0, "momentum": 1, "weight_decay": -1}),
    ];
    let said = all.map(|with| {
        let errors = resolve(with).unwrap_err().into_iter();
        errors.map(|e| e.message).collect::<Vec<_>>().join("\n")
    });
    insta::assert_snapshot!(said.join("\n"));
    let unknown = resolve(json!({"method": "ermm"})).unwrap_err();
    assert!(unknown[0].message.contains("`ermm` is not a choice"), "{}", unknown[0].message);
}

//! What a study's time is made of, part by part: the kernel's passes, the losses, the composition of
//! images, and hashing.
//!
//! `cargo bench --bench parts`

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dissim::digest::Digest;
use dissim_api::formats::{
    Background, Compose, Dataset, DatasetInfo, Glyphs, PIXELS, Pool, Split, SplitName,
};
use dissim_kernel::{Input, Network, Optimiser, OutputGradient, Rule, layout};
use dissim_model::Architecture;
use dissim_train::methods::{self, Batch, Clock, Setting};

/// The study's batch.
const BATCH: usize = 64;
/// Images that are composed.
const IMAGES: u32 = 4096;

/// A number in -0.5..0.5 that looks random.
fn wave(i: usize) -> f32 {
    (i * 7919 % 1009) as f32 / 1009.0 - 0.5
}

/// 4,096 digits on 8 backgrounds a label, as the `dataset` stage leaves them.
fn dataset(compose: Compose) -> Dataset {
    let glyphs = Glyphs {
        item: vec![28, 28],
        images: (0..1000 * 784).map(|i| (i * 31 % 251) as u8).collect(),
        labels: (0..1000).map(|i| (i % 10) as u8).collect(),
    };
    let mut splits: [Split; 8] = Default::default();
    for row in 0..IMAGES {
        let label = row % 10;
        splits[0].push(row % 1000, label * 8 + row / 10 % 8, [2, 2], label as u8);
    }
    let owner = |i: u32| Background { source: i, owner: Some((i / 8) as u8), pool: Pool::Train };
    Dataset {
        info: DatasetInfo {
            version: Dataset::VERSION,
            params: Default::default(),
            compose,
            digit_colour: [255; 3],
            sizes: Default::default(),
        },
        train_glyphs: glyphs.clone(),
        test_glyphs: glyphs,
        background_pixels: (0..80 * PIXELS).map(|i| (i * 17 % 253) as u8).collect(),
        backgrounds: (0..80).map(owner).collect(),
        splits,
    }
}

fn kernel(criterion: &mut Criterion) {
    let images: Vec<u8> = (0..BATCH * PIXELS).map(|i| (i * 31 % 251) as u8).collect();
    let rows: Vec<u32> = (0..BATCH as u32).collect();
    let weights: Vec<f32> = (0..layout::WEIGHTS).map(|i| wave(i) * 0.1).collect();
    let mut gradient = OutputGradient::default();
    gradient.reset(BATCH, 84);
    gradient.logits_mut().iter_mut().enumerate().for_each(|(i, g)| *g = wave(i));
    let mut group = criterion.benchmark_group("kernel");
    group.throughput(Throughput::Elements(BATCH as u64));
    let networks =
        [("simd", Network::new(&weights, BATCH)), ("scalar", Network::scalar(&weights, BATCH))];
    for (name, mut network) in networks {
        let input = Input { images: &images, rows: &rows, mix: None };
        group.bench_function(BenchmarkId::new("forward", name), |bencher| {
            bencher.iter(|| black_box(network.forward(input).logits(0)[0]));
        });
        // A backward pass needs one before it, whatever the command line selects.
        network.forward(input);
        group.bench_function(BenchmarkId::new("backward", name), |bencher| {
            bencher.iter(|| network.backward(&gradient));
        });
        let mut adam = Optimiser::new(Rule::Adam, 0.001, layout::WEIGHTS);
        group.bench_function(BenchmarkId::new("adam", name), |bencher| {
            bencher.iter(|| network.update(&mut adam));
        });
    }
    group.finish();
}

fn losses(criterion: &mut Criterion) {
    let data = dataset(Compose::Alpha);
    let images = data.compose(SplitName::Train);
    let rows: Vec<u32> = (0..BATCH as u32).map(|i| i * 61 % IMAGES).collect();
    let split = data.split(SplitName::Train);
    let labels: Vec<u8> = rows.iter().map(|&r| split.label[r as usize]).collect();
    let backgrounds: Vec<u32> = rows.iter().map(|&r| split.background[r as usize]).collect();
    let groups: Vec<u32> =
        backgrounds.iter().zip(&labels).map(|(b, &l)| b * 10 + u32::from(l)).collect();
    let clock = Clock { epoch: 1, epochs: 1, step: 0, steps: 1 };
    let batch = Batch {
        images: &images,
        rows: &rows,
        labels: &labels,
        backgrounds: &backgrounds,
        groups: &groups,
        mixed: None,
        clock,
    };
    let weights: Vec<f32> = (0..layout::WEIGHTS).map(|i| wave(i) * 0.1).collect();
    let mut network = Network::new(&weights, BATCH);
    let outputs = network.forward(Input { images: &images, rows: &rows, mix: None });
    let mut gradient = OutputGradient::default();
    let mut group = criterion.benchmark_group("loss");
    group.throughput(Throughput::Elements(BATCH as u64));
    let names = [
        "erm",
        "dissimilarity",
        "spectral_decoupling",
        "vicreg_decorrelation",
        "class_repulsion",
        "group_dro",
        "vrex",
        "irm",
        "conditional_coral",
        "similarity",
    ];
    for name in names {
        let params = serde_json::json!({"method": name, "lambda": 1.0, "environments": 2});
        let params = serde_json::from_value(params).expect("parameters of a training run");
        let architecture = Architecture::default();
        let setting = Setting { params: &params, dataset: &data, architecture };
        let mut objective = methods::objective(setting);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                gradient.reset(BATCH, outputs.width);
                black_box(objective.evaluate(&batch, outputs, &mut gradient))
            });
        });
    }
    group.finish();
}

fn composition(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compose");
    group.throughput(Throughput::Elements(IMAGES.into()));
    let rules = [("alpha", Compose::Alpha), ("max", Compose::Max), ("add_clip", Compose::AddClip)];
    for (name, rule) in rules {
        let data = dataset(rule);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(data.compose(SplitName::Train)));
        });
    }
    group.finish();
}

fn hashing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hash");
    // A description, the weights of an epoch, a data set's backgrounds.
    for bytes in [1 << 10, 250_000, 16 << 20] {
        let data: Vec<u8> = (0..bytes).map(|i| (i * 31 % 251) as u8).collect();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| black_box(Digest::of(&data)));
        });
    }
    group.finish();
}

criterion_group!(benches, kernel, losses, composition, hashing);
criterion_main!(benches);

//! Throughput of training on one core: images a second of a step (forward, loss, backward, Adam) and
//! of a prediction, at the study's batch size and around it.
//!
//! `cargo bench --bench training`

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dissim_kernel::{Input, Network, Optimiser, OutputGradient, PIXELS, Rule, layout};
use dissim_train::methods::{Batch, Clock, Dissimilarity, Erm, Objective};

/// Images to draw batches from: more than the caches hold, as in training.
const IMAGES: usize = 20_000;

/// Pixels and weights do not change how long a step takes, so plain patterns will do.
struct Data {
    images: Vec<u8>,
    weights: Vec<f32>,
    rows: Vec<u32>,
    labels: Vec<u8>,
    groups: Vec<u32>,
}

impl Data {
    fn new(batch: u32) -> Self {
        let wave = |i: usize, period: usize| (i * 7919 % period) as f32 / period as f32 - 0.5;
        Self {
            images: (0..IMAGES * PIXELS).map(|i| (i * 31 % 251) as u8).collect(),
            weights: (0..layout::WEIGHTS).map(|i| wave(i, 1009) * 0.1).collect(),
            rows: (0..batch).map(|i| i * 7919 % IMAGES as u32).collect(),
            labels: (0..batch).map(|i| (i % 10) as u8).collect(),
            groups: (0..batch).map(|i| i % 80).collect(),
        }
    }

    fn input(&self) -> Input<'_> {
        Input { images: &self.images, rows: &self.rows, mix: None }
    }

    fn batch(&self) -> Batch<'_> {
        let Self { images, rows, labels, groups, .. } = self;
        let clock = Clock { epoch: 1, epochs: 1, step: 0, steps: 1 };
        Batch { images, rows, labels, backgrounds: groups, groups, mixed: None, clock }
    }
}

fn training(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lenet5");
    let params = serde_json::json!({"method": "dissimilarity", "lambda": 1.25});
    let params = serde_json::from_value(params).expect("parameters of a training run");
    for size in [16, 64, 256] {
        let data = Data::new(size);
        group.throughput(Throughput::Elements(size.into()));
        let methods: [(&str, Box<dyn Objective>); 2] = [
            ("erm", Box::new(Erm::default())),
            ("dissimilarity", Box::new(Dissimilarity::new(&params))),
        ];
        for (name, mut objective) in methods {
            let mut network = Network::new(&data.weights, size as usize);
            let mut adam = Optimiser::new(Rule::Adam, 0.001, layout::WEIGHTS);
            let mut gradient = OutputGradient::default();
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    let outputs = network.forward(data.input());
                    gradient.reset(size as usize, outputs.width);
                    objective.evaluate(&data.batch(), outputs, &mut gradient);
                    network.backward(&gradient);
                    network.update(&mut adam);
                });
            });
        }
        let mut network = Network::new(&data.weights, size as usize);
        group.bench_function(BenchmarkId::new("predict", size), |bencher| {
            bencher.iter(|| black_box(network.forward(data.input()).logits(0)[0]));
        });
    }
    group.finish();
}

criterion_group!(benches, training);
criterion_main!(benches);

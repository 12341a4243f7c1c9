//! Throughput of the training kernel on one core: images a second of a step (forward, backward,
//! Adam) and of a prediction, at the study's batch size and around it.
//!
//! `cargo bench --bench training`

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dissim_kernel::{Adam, Batch, Embedding, Network, PIXELS, Penalty, layout};

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

    fn batch(&self) -> Batch<'_> {
        let Self { images, rows, labels, groups, .. } = self;
        Batch { images, rows, labels, groups }
    }
}

fn training(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lenet5");
    let penalty = Penalty { lambda: 1.25, embedding: Embedding::Post, epsilon: 1e-6 };
    for size in [16, 64, 256] {
        let data = Data::new(size);
        group.throughput(Throughput::Elements(size.into()));
        for (name, penalty) in [("erm", None), ("dissimilarity", Some(penalty))] {
            let mut network = Network::new(&data.weights, size as usize);
            let mut adam = Adam::new(0.001);
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    network.gradient(data.batch(), penalty);
                    network.update(&mut adam);
                });
            });
        }
        let mut network = Network::new(&data.weights, size as usize);
        group.bench_function(BenchmarkId::new("predict", size), |bencher| {
            bencher.iter(|| black_box(network.predict(&data.images, &data.rows).logits(0)));
        });
    }
    group.finish();
}

criterion_group!(benches, training);
criterion_main!(benches);

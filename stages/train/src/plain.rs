//! The engine in plain burn: the oracle, and what runs where the kernel does not cover something.

use burn::tensor::Device;
use dissim_kernel::{Adam, Batch, CLASSES, EMBEDDING, Embedding, Penalty, StepStats};
use dissim_model::LeNet5;

use crate::engine::{Engine, State};

/// LeNet-5 through burn's autodiff, on the flex backend.
pub(crate) struct Plain {
    weights: Vec<f32>,
    adam: Adam,
    penalty: Option<Penalty>,
    device: Device,
}

impl Plain {
    pub fn new(state: &State, penalty: Option<Penalty>) -> Self {
        let State { weights, adam } = state.clone();
        Self { weights, adam, penalty, device: Device::flex() }
    }
}

impl Engine for Plain {
    fn step(&mut self, batch: Batch<'_>) -> StepStats {
        let network = LeNet5::new(&self.weights, &self.device.clone().autodiff());
        let forward = network.forward(network.load(batch.images, batch.rows));
        let loss = network.loss(&forward, batch.labels, batch.groups, self.penalty);
        let gradient = network.flat_gradient(&loss.total.backward());
        let z = match self.penalty.map(|p| p.embedding) {
            Some(Embedding::Pre) => forward.pre,
            _ => forward.embedding,
        };
        let z: Vec<f32> = z.into_data().iter::<f32>().collect();
        let logits: Vec<f32> = forward.logits.into_data().iter::<f32>().collect();
        self.adam.apply(&mut self.weights, &gradient);
        StepStats {
            cross_entropy: f64::from(loss.cross_entropy.into_scalar::<f32>()),
            similarity: f64::from(loss.similarity.into_scalar::<f32>()),
            correct: correct(&logits, batch.labels),
            ..figures(&z, batch.groups)
        }
    }

    fn logits(&mut self, images: &[u8], rows: &[u32]) -> Vec<[f32; CLASSES]> {
        let network = LeNet5::new(&self.weights, &self.device);
        let logits = network.forward(network.load(images, rows)).logits.into_data();
        let logits: Vec<f32> = logits.iter::<f32>().collect();
        logits.as_chunks::<CLASSES>().0.to_vec()
    }

    fn state(&self) -> State {
        State { weights: self.weights.clone(), adam: self.adam.clone() }
    }
}

fn correct(logits: &[f32], labels: &[u8]) -> usize {
    let rows = logits.as_chunks::<CLASSES>().0.iter();
    rows.zip(labels).filter(|(row, label)| crate::training::argmax(*row) == **label).count()
}

/// Pairs, norms and active units of a batch of embeddings.
fn figures(z: &[f32], groups: &[u32]) -> StepStats {
    let n = groups.len() as f64;
    let norms = z.as_chunks::<EMBEDDING>().0.iter().map(|z| z.iter().map(|v| v * v).sum::<f32>());
    let same = |group: &u32| groups.iter().filter(|other| *other == group).count() - 1;
    StepStats {
        pairs: groups.iter().map(same).sum::<usize>() as f64,
        embedding_norm: norms.clone().map(|s| f64::from(s.sqrt())).sum::<f64>() / n,
        zero_norm: norms.filter(|s| *s == 0.0).count() as f64 / n,
        active: z.iter().filter(|v| **v > 0.0).count() as f64 / z.len() as f64,
        ..StepStats::default()
    }
}

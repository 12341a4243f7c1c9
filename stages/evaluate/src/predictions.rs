//! What a network says of one split.

use dissim_api::formats::{Dataset, NONE, SplitName};
use dissim_kernel::CLASSES;
use dissim_model::Engine;
use dissim_model::similarity::mean_similarity_of;

/// Images a forward pass.
pub(crate) const BATCH: usize = 64;

/// A split in memory, composed.
pub(crate) struct Images {
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl Images {
    /// All images of a split.
    pub fn of(dataset: &Dataset, name: SplitName) -> Self {
        Self { pixels: dataset.compose(name), labels: dataset.split(name).label.clone() }
    }

    /// The share that the network classifies right; none of no images.
    pub fn accuracy(&self, network: &mut dyn Engine) -> Option<f64> {
        let rows: Vec<u32> = (0..self.labels.len() as u32).collect();
        let mut correct = 0;
        for (rows, labels) in rows.chunks(BATCH).zip(self.labels.chunks(BATCH)) {
            let outputs = network.predict(&self.pixels, rows);
            let right =
                (0..rows.len()).filter(|&i| largest(outputs.logits(i)) == usize::from(labels[i]));
            correct += right.count();
        }
        (!rows.is_empty()).then(|| correct as f64 / rows.len() as f64)
    }
}

/// Counts and means over one split.
pub(crate) struct Predictions {
    pub name: SplitName,
    /// `confusion[truth][predicted]`.
    pub confusion: [[u32; CLASSES]; CLASSES],
    /// Mean cross-entropy; none of no images.
    pub loss: Option<f64>,
    /// The embeddings, `[n, width]`.
    pub embeddings: Vec<f32>,
    pub width: usize,
    /// Mean cosine similarity of the embeddings of pairs with one label and one background.
    pub same_group: Option<f64>,
    /// The same for pairs with one label, whatever the background.
    pub same_label: Option<f64>,
}

impl Predictions {
    /// Runs the network over a split.
    pub fn of(network: &mut dyn Engine, dataset: &Dataset, name: SplitName) -> Self {
        let split = dataset.split(name);
        let images = dataset.compose(name);
        let rows: Vec<u32> = (0..split.len() as u32).collect();
        let mut confusion = [[0; CLASSES]; CLASSES];
        let mut embeddings = Vec::new();
        let (mut total, mut width) = (0.0, 1);
        for (rows, labels) in rows.chunks(BATCH).zip(split.label.chunks(BATCH)) {
            let outputs = network.predict(&images, rows);
            width = outputs.width;
            for (i, &label) in labels.iter().enumerate() {
                let logits = outputs.logits(i);
                confusion[usize::from(label)][largest(logits)] += 1;
                total += cross_entropy(logits, usize::from(label));
                embeddings.extend(outputs.embedding(i));
            }
        }
        let labels: Vec<u32> = split.label.iter().map(|&l| l.into()).collect();
        let groups: Vec<u32> =
            labels.iter().zip(&split.background).map(|(l, b)| group(*b, *l)).collect();
        Self {
            name,
            confusion,
            loss: (!split.is_empty()).then(|| total / split.len() as f64),
            same_group: mean_similarity_of(&embeddings, width, &groups),
            same_label: mean_similarity_of(&embeddings, width, &labels),
            embeddings,
            width,
        }
    }

    /// Images of class `truth`.
    pub fn count(&self, truth: usize) -> u32 {
        self.confusion[truth].iter().sum()
    }

    /// The share classified right; none of no images.
    pub fn accuracy(&self) -> Option<f64> {
        let n: u32 = (0..CLASSES).map(|class| self.count(class)).sum();
        let correct: u32 = (0..CLASSES).map(|class| self.confusion[class][class]).sum();
        (n > 0).then(|| f64::from(correct) / f64::from(n))
    }
}

/// A number for a label and background together; black is a background too.
fn group(background: u32, label: u32) -> u32 {
    let place = if background == NONE { 0 } else { background + 1 };
    place * CLASSES as u32 + label
}

/// The class with the largest logit; of equals the first.
fn largest(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |best, c| if logits[c] > logits[best] { c } else { best })
}

/// -log softmax, in f64.
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
    sum.ln() - f64::from(logits[label] - max)
}

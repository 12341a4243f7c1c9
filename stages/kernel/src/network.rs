//! LeNet-5 with its weights and room for a batch.

use pulp::{Arch, Simd, WithSimd};

use crate::backward::Backward;
use crate::buffer::Buffer;
use crate::conv::Packed;
use crate::forward::Forward;
use crate::layout::WEIGHTS;
use crate::similarity::Similarity;
use crate::{Adam, CLASSES, EMBEDDING, HIDDEN, PIXELS, POOLED1, POOLED2, Penalty};

/// Where the samples of a batch are.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// All images, u8 `[n, 3, 32, 32]`.
    pub images: &'a [u8],
    /// The batch's images by number, `[batch]`.
    pub rows: &'a [u32],
    /// Their classes, `[batch]`.
    pub labels: &'a [u8],
    /// Their groups, `[batch]`: samples with the same label and the same background share one.
    pub groups: &'a [u32],
}

/// Figures of one step, before its update.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepStats {
    /// Mean cross-entropy.
    pub cross_entropy: f64,
    /// Mean cosine similarity of the ordered pairs; 0 without pairs.
    pub similarity: f64,
    /// Number of ordered pairs, |M|.
    pub pairs: f64,
    /// Mean norm of the embeddings.
    pub embedding_norm: f64,
    /// Share of embeddings whose norm is exactly 0.
    pub zero_norm: f64,
    /// Share of embedding units above 0.
    pub active: f64,
    /// Samples classified right.
    pub correct: usize,
}

/// What the network says of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Outputs<'a> {
    lanes: usize,
    logits: &'a [f32],
    embeddings: &'a [f32],
}

impl Outputs<'_> {
    /// The ten logits of sample `i` of the batch.
    #[must_use]
    pub fn logits(&self, i: usize) -> [f32; CLASSES] {
        let (group, lane) = (i / self.lanes, i % self.lanes);
        std::array::from_fn(|c| self.logits[(group * CLASSES + c) * self.lanes + lane])
    }

    /// The embedding of sample `i`, after its activation.
    #[must_use]
    pub fn embedding(&self, i: usize) -> [f32; EMBEDDING] {
        let (group, lane) = (i / self.lanes, i % self.lanes);
        std::array::from_fn(|f| self.embeddings[(group * EMBEDDING + f) * self.lanes + lane])
    }
}

/// LeNet-5: its weights, their gradient, and room for a batch, allocated once.
pub struct Network {
    arch: Arch,
    batch_size: usize,
    weights: Vec<f32>,
    grad: Vec<f32>,
    work: Work,
}

impl Network {
    /// A network with these weights, in [`layout`](crate::layout)'s order, for batches of at most
    /// `batch_size` samples.
    ///
    /// # Panics
    /// When there are not exactly [`WEIGHTS`] weights, or the batch size is 0.
    #[must_use]
    pub fn new(weights: &[f32], batch_size: usize) -> Self {
        Self::on(Arch::new(), weights, batch_size)
    }

    /// The same without SIMD: what a CPU that has none computes; for tests.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[must_use]
    pub fn scalar(weights: &[f32], batch_size: usize) -> Self {
        Self::on(Arch::Scalar, weights, batch_size)
    }

    fn on(arch: Arch, weights: &[f32], batch_size: usize) -> Self {
        assert_eq!(weights.len(), WEIGHTS, "LeNet-5 has {WEIGHTS} weights");
        assert!(batch_size > 0, "a batch has at least one sample");
        let work = Work::new(batch_size, arch.dispatch(Lanes));
        Self { arch, batch_size, weights: weights.to_vec(), grad: vec![0.0; WEIGHTS], work }
    }

    /// The weights, in [`layout`](crate::layout)'s order.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The gradient that the last [`gradient`](Self::gradient) left, in the same order.
    #[must_use]
    pub fn grad(&self) -> &[f32] {
        &self.grad
    }

    /// Samples that one vector holds.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.work.lanes
    }

    /// Forward and backward pass of mean cross-entropy plus the penalty, if any.
    ///
    /// # Panics
    /// When the batch is empty, larger than the room for it, or points outside its images.
    pub fn gradient(&mut self, batch: Batch<'_>, penalty: Option<Penalty>) -> StepStats {
        self.check(batch.rows);
        assert!(batch.labels.len() == batch.rows.len() && batch.groups.len() == batch.rows.len());
        let Self { arch, weights, grad, work, .. } = self;
        let (images, rows) = (batch.images, batch.rows);
        arch.dispatch(Forward { weights, work, images, rows });
        arch.dispatch(Backward { weights, grad, work, batch, penalty })
    }

    /// One step of Adam along the last gradient.
    pub fn update(&mut self, adam: &mut Adam) {
        adam.update(self.arch, &mut self.weights, &self.grad);
    }

    /// Forward pass only, over rows `rows` of `images`.
    ///
    /// # Panics
    /// As [`gradient`](Self::gradient).
    pub fn predict(&mut self, images: &[u8], rows: &[u32]) -> Outputs<'_> {
        self.check(rows);
        let Self { arch, weights, work, .. } = self;
        arch.dispatch(Forward { weights, work, images, rows });
        Outputs {
            lanes: work.lanes,
            logits: work.logits.floats(),
            embeddings: work.embedding.floats(),
        }
    }

    fn check(&self, rows: &[u32]) {
        let room = self.batch_size;
        assert!((1..=room).contains(&rows.len()), "{} samples for {room} places", rows.len());
    }
}

/// Activations and gradients; the names are those of the layers.
pub(crate) struct Work {
    pub lanes: usize,
    pub input: Buffer,
    pub pooled1: Buffer,
    pub winner1: Buffer,
    pub pooled2: Buffer,
    pub winner2: Buffer,
    pub hidden: Buffer,
    pub pre: Buffer,
    pub embedding: Buffer,
    pub logits: Buffer,
    pub grad_logits: Buffer,
    pub grad_embedding: Buffer,
    pub grad_hidden: Buffer,
    pub grad_pooled2: Buffer,
    /// One group's gradient of conv2's output, with rows of 4 zeros, 10 values, 4 zeros.
    pub grad_conv2: Buffer,
    /// One group's.
    pub grad_pooled1: Buffer,
    /// Two rows of conv1's or conv2's output, or of its gradient.
    pub rows: Buffer,
    /// Lane-wise sums of the convolutions' weight and bias gradients.
    pub acc1: Buffer,
    pub acc2: Buffer,
    /// A layer's input with one row a sample.
    pub by_sample: Buffer,
    pub similarity: Similarity,
    pub conv1: Packed<6>,
    pub conv2: Packed<4>,
    pub conv2_back: Packed<3>,
}

impl Work {
    fn new(batch_size: usize, lanes: usize) -> Self {
        let groups = batch_size.div_ceil(lanes);
        let of = |features: usize| Buffer::new(groups * features * lanes);
        let one = |features: usize| Buffer::new(features * lanes);
        Self {
            lanes,
            input: of(PIXELS),
            pooled1: of(POOLED1),
            winner1: of(POOLED1),
            pooled2: of(POOLED2),
            winner2: of(POOLED2),
            hidden: of(HIDDEN),
            pre: of(EMBEDDING),
            embedding: of(EMBEDDING),
            logits: of(CLASSES),
            grad_logits: of(CLASSES),
            grad_embedding: of(EMBEDDING),
            grad_hidden: of(HIDDEN),
            grad_pooled2: of(POOLED2),
            grad_conv2: one(16 * 10 * 18),
            grad_pooled1: one(POOLED1),
            rows: one(6 * 2 * 28),
            acc1: one(450 + 6),
            acc2: one(2400 + 16),
            by_sample: Buffer::new(batch_size * POOLED2.next_multiple_of(lanes)),
            similarity: Similarity::new(batch_size),
            conv1: Packed::default(),
            conv2: Packed::default(),
            conv2_back: Packed::default(),
        }
    }
}

/// Asks the CPU how many f32 its vectors hold.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

//! LeNet-5 with its weights and room for a batch.

use pulp::{Arch, Simd, WithSimd};

use crate::backward::Backward;
use crate::buffer::Buffer;
use crate::conv::Packed;
use crate::forward::{Forward, Head};
use crate::layout::{self, WEIGHTS};
use crate::outputs::{OutputGradient, Outputs};
use crate::{CLASSES, EMBEDDING, HIDDEN, Optimiser, PIXELS, POOLED1, POOLED2};

/// The images of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// All images, u8 `[n, 3, 32, 32]`.
    pub images: &'a [u8],
    /// The batch's images by number, `[batch]`.
    pub rows: &'a [u32],
    /// Images that are mixed into them.
    pub mix: Option<Mix<'a>>,
}

/// Sample `i` becomes `(1 - share[i]) * image + share[i] * partner`.
#[derive(Debug, Clone, Copy)]
pub struct Mix<'a> {
    /// The partners by number, `[batch]`.
    pub partners: &'a [u32],
    /// Their shares, `[batch]`, in 0..=1.
    pub shares: &'a [f32],
}

/// LeNet-5: its weights, their gradient, and room for a batch, allocated once.
pub struct Network {
    arch: Arch,
    batch_size: usize,
    weights: Vec<f32>,
    grad: Vec<f32>,
    work: Work,
    /// Samples of the last batch.
    samples: usize,
    rows: Rows,
    /// Whether the outputs have features: a copy that only some objectives read.
    features: bool,
}

/// The last outputs with one row a sample.
#[derive(Default)]
struct Rows {
    logits: Vec<f32>,
    embedding: Vec<f32>,
    pre: Vec<f32>,
    features: Vec<f32>,
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
        Self {
            arch,
            batch_size,
            weights: weights.to_vec(),
            grad: vec![0.0; WEIGHTS],
            work,
            samples: 0,
            rows: Rows::default(),
            features: false,
        }
    }

    /// From now on the outputs have [`features`](Outputs::features).
    pub fn keep_features(&mut self) {
        self.features = true;
    }

    /// The weights, in [`layout`](crate::layout)'s order.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The gradient that the last [`backward`](Self::backward) left, in the same order.
    #[must_use]
    pub fn grad(&self) -> &[f32] {
        &self.grad
    }

    /// Samples that one vector holds.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.work.lanes
    }

    /// Forward pass over a batch.
    ///
    /// # Panics
    /// When the batch is empty, larger than the room for it, or points outside its images.
    pub fn forward(&mut self, input: Input<'_>) -> Outputs<'_> {
        self.check(input);
        let Self { arch, weights, work, .. } = self;
        arch.dispatch(Forward { weights, work, input });
        self.samples = input.rows.len();
        self.outputs()
    }

    /// Drops units of the embedding of the last [`forward`](Self::forward), and computes the logits
    /// again; `keep` is `[batch, 84]`. A dropped unit is 0 and has no gradient.
    ///
    /// # Panics
    /// When `keep` has another length.
    pub fn drop_units(&mut self, keep: &[bool]) -> Outputs<'_> {
        assert_eq!(keep.len(), self.samples * EMBEDDING);
        let lanes = self.work.lanes;
        let embedding = self.work.embedding.floats_mut();
        for (i, keep) in keep.chunks_exact(EMBEDDING).enumerate() {
            for (f, _) in keep.iter().enumerate().filter(|(_, keep)| !**keep) {
                embedding[layout::lane(i, f, EMBEDDING, lanes)] = 0.0;
            }
        }
        let Self { arch, weights, work, samples, .. } = self;
        arch.dispatch(Head { weights, work, samples: *samples });
        self.outputs()
    }

    /// Backward pass: from the gradient of the last outputs to that of the weights.
    ///
    /// # Panics
    /// When `gradient` is of another batch.
    pub fn backward(&mut self, gradient: &OutputGradient) {
        assert_eq!(gradient.samples(), self.samples);
        let Self { arch, weights, grad, work, .. } = self;
        arch.dispatch(Backward { weights, grad, work, gradient });
    }

    /// One step of the optimiser along the last gradient.
    pub fn update(&mut self, optimiser: &mut Optimiser) {
        optimiser.update(self.arch, &mut self.weights, &self.grad);
    }

    /// The weights, to be replaced from outside.
    pub fn weights_mut(&mut self) -> &mut [f32] {
        &mut self.weights
    }

    /// The last outputs, copied from lanes to rows.
    fn outputs(&mut self) -> Outputs<'_> {
        let Self { work, rows, samples, features: asked, .. } = self;
        let (lanes, n) = (work.lanes, *samples);
        layout::to_rows(work.logits.floats(), CLASSES, lanes, n, &mut rows.logits);
        layout::to_rows(work.embedding.floats(), EMBEDDING, lanes, n, &mut rows.embedding);
        layout::to_rows(work.pre.floats(), EMBEDDING, lanes, n, &mut rows.pre);
        if *asked {
            layout::to_rows(work.pooled2.floats(), POOLED2, lanes, n, &mut rows.features);
        }
        let Rows { logits, embedding, pre, features } = rows;
        Outputs { logits, embedding, pre, width: EMBEDDING, features }
    }

    fn check(&self, Input { rows, mix, .. }: Input<'_>) {
        let room = self.batch_size;
        assert!((1..=room).contains(&rows.len()), "{} samples for {room} places", rows.len());
        if let Some(Mix { partners, shares }) = mix {
            assert!(partners.len() == rows.len() && shares.len() == rows.len());
        }
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

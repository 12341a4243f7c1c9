//! The forward pass: pixels to logits.

use pulp::{Simd, WithSimd};

use crate::input::{PLANE, standardise};
use crate::layout::{
    CONV1_BIAS, CONV1_WEIGHT, CONV2_BIAS, CONV2_WEIGHT, FC1_BIAS, FC1_WEIGHT, FC2_BIAS, FC2_WEIGHT,
    FC3_BIAS, FC3_WEIGHT,
};
use crate::network::{Input, Mix, Work};
use crate::{CLASSES, EMBEDDING, HIDDEN, PIXELS, POOLED1, POOLED2, conv, dense, pool};

/// Computes every activation of the batch into `work`.
pub(crate) struct Forward<'a> {
    pub weights: &'a [f32],
    pub work: &'a mut Work,
    pub input: Input<'a>,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, work, input } = self;
        load::<S>(work.input.floats_mut(), input);
        conv::pack(&weights[CONV1_WEIGHT], 3, &mut work.conv1);
        conv::pack(&weights[CONV2_WEIGHT], 6, &mut work.conv2);
        let groups = input.rows.len().div_ceil(S::F32_LANES);
        for group in 0..groups {
            simd.vectorize(Conv1 { simd, bias: &weights[CONV1_BIAS], work, group });
            simd.vectorize(Conv2 { simd, bias: &weights[CONV2_BIAS], work, group });
        }
        simd.vectorize(Dense { simd, weights, work, groups });
    }
}

/// The last layer alone, from the embedding in `work`.
pub(crate) struct Head<'a> {
    pub weights: &'a [f32],
    pub work: &'a mut Work,
    pub samples: usize,
}

impl WithSimd for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, work, samples } = self;
        let groups = samples.div_ceil(S::F32_LANES);
        let embedding = &work.embedding.vectors::<S>()[..groups * EMBEDDING];
        let logits = &mut work.logits.vectors_mut::<S>()[..groups * CLASSES];
        dense::forward::<S, 5>(simd, embedding, &weights[FC3_WEIGHT], &weights[FC3_BIAS], logits);
    }
}

/// u8 rows to standardised f32 lanes, mixed with their partners; lanes without a sample are 0.
#[inline(always)]
fn load<S: Simd>(out: &mut [f32], input: Input<'_>) {
    let lanes = S::F32_LANES;
    let Input { images, rows, mix } = input;
    for (rows, out) in rows.chunks(lanes).zip(out.chunks_exact_mut(PIXELS * lanes)) {
        if rows.len() < lanes {
            out.fill(0.0);
        }
        for (lane, &row) in rows.iter().enumerate() {
            load_lane(out, (lane, lanes), image(images, row), |out, value| *out = value);
        }
    }
    let Some(Mix { partners, shares }) = mix else { return };
    for (i, (&partner, &share)) in partners.iter().zip(shares).enumerate() {
        let out = &mut out[i / lanes * PIXELS * lanes..][..PIXELS * lanes];
        let blend = |out: &mut f32, value: f32| *out += share * (value - *out);
        load_lane(out, (i % lanes, lanes), image(images, partner), blend);
    }
}

fn image(images: &[u8], row: u32) -> &[u8] {
    &images[row as usize * PIXELS..][..PIXELS]
}

/// Hands each standardised value of an image to `put`, with its place in the lane.
#[inline(always)]
fn load_lane(
    out: &mut [f32],
    (lane, lanes): (usize, usize),
    image: &[u8],
    put: impl Fn(&mut f32, f32),
) {
    let planes = out.chunks_exact_mut(PLANE * lanes).zip(image.chunks_exact(PLANE));
    for (channel, (out, plane)) in planes.enumerate() {
        for (out, &byte) in out[lane..].iter_mut().step_by(lanes).zip(plane) {
            put(out, standardise(channel, byte));
        }
    }
}

/// Convolution 6@5, ReLU and pooling of one group.
struct Conv1<'a, S> {
    simd: S,
    bias: &'a [f32],
    work: &'a mut Work,
    group: usize,
}

impl<S: Simd> WithSimd for Conv1<'_, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<T: Simd>(self, _: T) {
        let Self { simd, bias, work, group } = self;
        let of = |features: usize| group * features..(group + 1) * features;
        let input = &work.input.vectors::<S>()[of(PIXELS)];
        let out = &mut work.pooled1.vectors_mut::<S>()[of(POOLED1)];
        let winner = &mut work.winner1.vectors_mut::<S>()[of(POOLED1)];
        let (upper, lower) = work.rows.vectors_mut::<S>()[..12 * 28].split_at_mut(6 * 28);
        for y in 0..14 {
            for (y, row) in [(2 * y, &mut *upper), (2 * y + 1, &mut *lower)] {
                // As many accumulators as the registers hold beside weights and inputs.
                if S::REGISTER_COUNT >= 32 {
                    conv::forward_row::<S, 6, 4>(simd, input, (32, 32), y, &work.conv1, bias, row);
                } else {
                    conv::forward_row::<S, 6, 2>(simd, input, (32, 32), y, &work.conv1, bias, row);
                }
            }
            for c in 0..6 {
                let at = (c * 14 + y) * 14..(c * 14 + y + 1) * 14;
                let pair = [&upper[c * 28..(c + 1) * 28], &lower[c * 28..(c + 1) * 28]];
                pool::forward(simd, pair, &mut out[at.clone()], &mut winner[at]);
            }
        }
    }
}

/// Convolution 16@5, ReLU and pooling of one group, four channels at a time.
struct Conv2<'a, S> {
    simd: S,
    bias: &'a [f32],
    work: &'a mut Work,
    group: usize,
}

impl<S: Simd> WithSimd for Conv2<'_, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<T: Simd>(self, _: T) {
        let Self { simd, bias, work, group } = self;
        let of = |features: usize| group * features..(group + 1) * features;
        let input = &work.pooled1.vectors::<S>()[of(POOLED1)];
        let out = &mut work.pooled2.vectors_mut::<S>()[of(POOLED2)];
        let winner = &mut work.winner2.vectors_mut::<S>()[of(POOLED2)];
        let (upper, lower) = work.rows.vectors_mut::<S>()[..80].split_at_mut(40);
        let blocks = work.conv2.chunks_exact(6 * conv::K).zip(bias.chunks_exact(4));
        for (block, (taps, bias)) in blocks.enumerate() {
            for y in 0..5 {
                for (y, row) in [(2 * y, &mut *upper), (2 * y + 1, &mut *lower)] {
                    if S::REGISTER_COUNT >= 32 {
                        conv::forward_row::<S, 4, 5>(simd, input, (14, 14), y, taps, bias, row);
                    } else {
                        conv::forward_row::<S, 4, 2>(simd, input, (14, 14), y, taps, bias, row);
                    }
                }
                for m in 0..4 {
                    let at = ((block * 4 + m) * 5 + y) * 5;
                    let pair = [&upper[m * 10..(m + 1) * 10], &lower[m * 10..(m + 1) * 10]];
                    pool::forward(simd, pair, &mut out[at..at + 5], &mut winner[at..at + 5]);
                }
            }
        }
    }
}

/// The three fully connected layers of all groups.
struct Dense<'a, S> {
    simd: S,
    weights: &'a [f32],
    work: &'a mut Work,
    groups: usize,
}

impl<S: Simd> WithSimd for Dense<'_, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<T: Simd>(self, _: T) {
        let Self { simd, weights, work, groups } = self;
        let zero = simd.splat_f32s(0.0);
        let pooled = &work.pooled2.vectors::<S>()[..groups * POOLED2];
        let hidden = &mut work.hidden.vectors_mut::<S>()[..groups * HIDDEN];
        dense::forward::<S, 6>(simd, pooled, &weights[FC1_WEIGHT], &weights[FC1_BIAS], hidden);
        hidden.iter_mut().for_each(|h| *h = simd.max_f32s(*h, zero));
        let pre = &mut work.pre.vectors_mut::<S>()[..groups * EMBEDDING];
        dense::forward::<S, 6>(simd, hidden, &weights[FC2_WEIGHT], &weights[FC2_BIAS], pre);
        let post = &mut work.embedding.vectors_mut::<S>()[..groups * EMBEDDING];
        post.iter_mut().zip(&*pre).for_each(|(z, &p)| *z = simd.max_f32s(p, zero));
        let logits = &mut work.logits.vectors_mut::<S>()[..groups * CLASSES];
        dense::forward::<S, 5>(simd, post, &weights[FC3_WEIGHT], &weights[FC3_BIAS], logits);
    }
}

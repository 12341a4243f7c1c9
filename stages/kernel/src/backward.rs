//! The backward pass: the gradient of every weight from that of the outputs.

use bytemuck::Pod;
use pulp::{Simd, WithSimd};

use crate::conv::{self, Walk};
use crate::layout::{
    CONV1_BIAS, CONV1_WEIGHT, CONV2_BIAS, CONV2_WEIGHT, FC1_BIAS, FC1_WEIGHT, FC2_BIAS, FC2_WEIGHT,
    FC3_BIAS, FC3_WEIGHT,
};
use crate::network::Work;
use crate::outputs::OutputGradient;
use crate::{CLASSES, EMBEDDING, HIDDEN, PIXELS, POOLED1, POOLED2, dense, layout, pool};

/// From the activations in `work` and the gradient of the outputs to that of the weights.
pub(crate) struct Backward<'a> {
    pub weights: &'a [f32],
    pub grad: &'a mut [f32],
    pub work: &'a mut Work,
    pub gradient: &'a OutputGradient,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, grad, work, gradient } = self;
        let lanes = S::F32_LANES;
        // Lanes without a sample get no gradient.
        work.grad_logits.floats_mut().fill(0.0);
        layout::add_rows(gradient.logits(), CLASSES, lanes, work.grad_logits.floats_mut());
        simd.vectorize(Dense { simd, weights, grad, work, gradient });
        conv::pack_transposed(&weights[CONV2_WEIGHT], 6, &mut work.conv2_back);
        let zero = simd.splat_f32s(0.0);
        work.acc1.vectors_mut::<S>().fill(zero);
        work.acc2.vectors_mut::<S>().fill(zero);
        for group in 0..gradient.samples().div_ceil(lanes) {
            simd.vectorize(Conv2 { simd, work, group });
            simd.vectorize(Conv1 { simd, work, group });
        }
        let layers =
            [(&work.acc1, CONV1_WEIGHT, CONV1_BIAS), (&work.acc2, CONV2_WEIGHT, CONV2_BIAS)];
        for (sums, weight, bias) in layers {
            for (g, &sum) in grad[weight.start..bias.end].iter_mut().zip(sums.vectors::<S>()) {
                *g = simd.reduce_sum_f32s(sum);
            }
        }
    }
}

/// The fully connected layers of all groups, and what the objective says of the embedding.
struct Dense<'a, S> {
    simd: S,
    weights: &'a [f32],
    grad: &'a mut [f32],
    work: &'a mut Work,
    gradient: &'a OutputGradient,
}

impl<S: Simd> WithSimd for Dense<'_, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<T: Simd>(self, _: T) {
        let Self { simd, weights, grad, work, gradient } = self;
        let lanes = S::F32_LANES;
        let n = gradient.samples();
        let groups = n.div_ceil(lanes);
        let by_sample = work.by_sample.floats_mut();

        let post = &work.embedding.vectors::<S>()[..groups * EMBEDDING];
        let above = &work.grad_logits;
        let rows = transpose(post, EMBEDDING, n, lanes, by_sample);
        dense::weight_gradient::<S, 5>(
            simd,
            rows,
            (above.floats(), CLASSES),
            &mut grad[FC3_WEIGHT],
        );
        let above = &above.vectors::<S>()[..groups * CLASSES];
        bias_gradient(simd, above, &mut grad[FC3_BIAS]);
        let below = &mut work.grad_embedding.vectors_mut::<S>()[..groups * EMBEDDING];
        dense::backward::<S, 6>(simd, above, &weights[FC3_WEIGHT], CLASSES, below);

        if let Some(rows) = gradient.embedding() {
            layout::add_rows(rows, EMBEDDING, lanes, work.grad_embedding.floats_mut());
        }
        mask(simd, post, &mut work.grad_embedding.vectors_mut::<S>()[..groups * EMBEDDING]);
        if let Some(rows) = gradient.pre() {
            layout::add_rows(rows, EMBEDDING, lanes, work.grad_embedding.floats_mut());
        }

        let hidden = &work.hidden.vectors::<S>()[..groups * HIDDEN];
        let above = &work.grad_embedding;
        let rows = transpose(hidden, HIDDEN, n, lanes, by_sample);
        let out = &mut grad[FC2_WEIGHT];
        dense::weight_gradient::<S, 6>(simd, rows, (above.floats(), EMBEDDING), out);
        let above = &above.vectors::<S>()[..groups * EMBEDDING];
        bias_gradient(simd, above, &mut grad[FC2_BIAS]);
        let below = &mut work.grad_hidden.vectors_mut::<S>()[..groups * HIDDEN];
        dense::backward::<S, 6>(simd, above, &weights[FC2_WEIGHT], EMBEDDING, below);
        mask(simd, hidden, below);

        let pooled = &work.pooled2.vectors::<S>()[..groups * POOLED2];
        let above = &work.grad_hidden;
        let rows = transpose(pooled, POOLED2, n, lanes, by_sample);
        dense::weight_gradient::<S, 4>(simd, rows, (above.floats(), HIDDEN), &mut grad[FC1_WEIGHT]);
        let above = &above.vectors::<S>()[..groups * HIDDEN];
        bias_gradient(simd, above, &mut grad[FC1_BIAS]);
        let below = &mut work.grad_pooled2.vectors_mut::<S>()[..groups * POOLED2];
        dense::backward::<S, 5>(simd, above, &weights[FC1_WEIGHT], HIDDEN, below);
        if let Some(rows) = gradient.features() {
            layout::add_rows(rows, POOLED2, lanes, work.grad_pooled2.floats_mut());
        }
    }
}

/// conv2 of one group: its weights, and the gradient of the first pooling.
struct Conv2<'a, S> {
    simd: S,
    work: &'a mut Work,
    group: usize,
}

impl<S: Simd> WithSimd for Conv2<'_, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<T: Simd>(self, _: T) {
        let Self { simd, work, group } = self;
        let of = |features: usize| group * features..(group + 1) * features;
        let above = &work.grad_pooled2.vectors::<S>()[of(POOLED2)];
        let winner = &work.winner2.vectors::<S>()[of(POOLED2)];
        let padded = work.grad_conv2.vectors_mut::<S>();
        let sums = work.acc2.vectors_mut::<S>();
        for c in 0..16 {
            for y in 0..5 {
                let at = (c * 5 + y) * 5..(c * 5 + y + 1) * 5;
                let pair = &mut padded[(c * 10 + 2 * y) * 18..][..36];
                let (upper, lower) = pair.split_at_mut(18);
                let rows = [&mut upper[4..14], &mut lower[4..14]];
                let sum = pool::backward(simd, &above[at.clone()], &winner[at], rows);
                sums[2400 + c] = simd.add_f32s(sums[2400 + c], sum);
            }
        }
        let padded = &padded[..16 * 180];
        let input = &work.pooled1.vectors::<S>()[of(POOLED1)];
        let walk =
            Walk { inputs: 6, input: (14, 14), rows: (0, 10), width: 10, strides: (18, 180) };
        if S::REGISTER_COUNT >= 32 {
            conv::weight_gradient::<S, 4>(simd, input, &padded[4..], 16, walk, sums);
        } else {
            conv::weight_gradient::<S, 2>(simd, input, &padded[4..], 16, walk, sums);
        }
        let below = work.grad_pooled1.vectors_mut::<S>();
        for (block, taps) in work.conv2_back.chunks_exact(16 * conv::K).enumerate() {
            for y in 0..14 {
                let mut rows = [simd.splat_f32s(0.0); 3 * 14];
                if S::REGISTER_COUNT >= 32 {
                    conv::backward_row::<S, 3, 7>(simd, padded, (10, 14), y, taps, &mut rows);
                } else {
                    conv::backward_row::<S, 3, 2>(simd, padded, (10, 14), y, taps, &mut rows);
                }
                for (m, row) in rows.chunks_exact(14).enumerate() {
                    below[((block * 3 + m) * 14 + y) * 14..][..14].copy_from_slice(row);
                }
            }
        }
    }
}

/// conv1 of one group: its weights, two output rows at a time so that they stay in the L1 cache.
struct Conv1<'a, S> {
    simd: S,
    work: &'a mut Work,
    group: usize,
}

impl<S: Simd> WithSimd for Conv1<'_, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<T: Simd>(self, _: T) {
        let Self { simd, work, group } = self;
        let above = &work.grad_pooled1.vectors::<S>()[..POOLED1];
        let winner = &work.winner1.vectors::<S>()[group * POOLED1..(group + 1) * POOLED1];
        let input = &work.input.vectors::<S>()[group * PIXELS..(group + 1) * PIXELS];
        let sums = work.acc1.vectors_mut::<S>();
        let rows = &mut work.rows.vectors_mut::<S>()[..6 * 56];
        for y in 0..14 {
            for (c, pair) in rows.chunks_exact_mut(56).enumerate() {
                let at = (c * 14 + y) * 14..(c * 14 + y + 1) * 14;
                let (upper, lower) = pair.split_at_mut(28);
                let sum = pool::backward(simd, &above[at.clone()], &winner[at], [upper, lower]);
                sums[450 + c] = simd.add_f32s(sums[450 + c], sum);
            }
            let walk =
                Walk { inputs: 3, input: (32, 32), rows: (2 * y, 2), width: 28, strides: (28, 56) };
            if S::REGISTER_COUNT >= 32 {
                conv::weight_gradient::<S, 3>(simd, input, rows, 6, walk, sums);
            } else {
                conv::weight_gradient::<S, 2>(simd, input, rows, 6, walk, sums);
            }
        }
    }
}

/// No gradient where the activation is 0.
#[inline(always)]
fn mask<S: Simd>(simd: S, activation: &[S::f32s], grad: &mut [S::f32s]) {
    let zero = simd.splat_f32s(0.0);
    for (g, &a) in grad.iter_mut().zip(activation) {
        *g = simd.select_f32s(simd.greater_than_f32s(a, zero), *g, zero);
    }
}

/// The gradient of a bias: the sum over samples of the gradient of its output.
#[inline(always)]
fn bias_gradient<S: Simd>(simd: S, grad: &[S::f32s], out: &mut [f32]) {
    let features = out.len();
    for (f, out) in out.iter_mut().enumerate() {
        let column = grad.iter().skip(f).step_by(features);
        let sum = column.fold(simd.splat_f32s(0.0), |sum, &g| simd.add_f32s(sum, g));
        *out = simd.reduce_sum_f32s(sum);
    }
}

/// `[groups][features][lanes]` to one row a sample, padded with zeros to whole vectors; returns
/// the rows and their length.
#[inline(always)]
fn transpose<'a, V: Pod>(
    from: &[V],
    features: usize,
    samples: usize,
    lanes: usize,
    to: &'a mut [f32],
) -> (&'a [f32], usize) {
    let stride = features.next_multiple_of(lanes);
    let from: &[f32] = bytemuck::cast_slice(from);
    let rows = &mut to[..samples * stride];
    let groups = from.chunks_exact(features * lanes);
    for (group, rows) in groups.zip(rows.chunks_mut(lanes * stride)) {
        for (lane, row) in rows.chunks_exact_mut(stride).enumerate() {
            for (out, &value) in row.iter_mut().zip(group[lane..].iter().step_by(lanes)) {
                *out = value;
            }
            row[features..].fill(0.0);
        }
    }
    (rows, stride)
}

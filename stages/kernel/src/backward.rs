//! The backward pass: loss, and the gradient of every weight.

use bytemuck::Pod;
use pulp::{Simd, WithSimd};

use crate::conv::{self, Walk};
use crate::layout::{
    CONV1_BIAS, CONV1_WEIGHT, CONV2_BIAS, CONV2_WEIGHT, FC1_BIAS, FC1_WEIGHT, FC2_BIAS, FC2_WEIGHT,
    FC3_BIAS, FC3_WEIGHT,
};
use crate::network::Work;
use crate::{
    Batch, CLASSES, EMBEDDING, Embedding, HIDDEN, PIXELS, POOLED1, POOLED2, Penalty, StepStats,
    dense, pool,
};

/// From the activations in `work` to the gradient of the objective in `grad`.
pub(crate) struct Backward<'a> {
    pub weights: &'a [f32],
    pub grad: &'a mut [f32],
    pub work: &'a mut Work,
    pub batch: Batch<'a>,
    pub penalty: Option<Penalty>,
}

/// Without a penalty the similarity is measured all the same, on the embedding as the study has it.
const MEASURE: Penalty = Penalty { lambda: 0.0, embedding: Embedding::Post, epsilon: 1e-6 };

impl WithSimd for Backward<'_> {
    type Output = StepStats;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> StepStats {
        let Self { weights, grad, work, batch, penalty } = self;
        let mut stats = cross_entropy::<S>(work, batch.labels);
        let penalty = penalty.unwrap_or(MEASURE);
        let z = match penalty.embedding {
            Embedding::Post => &work.embedding,
            Embedding::Pre => &work.pre,
        };
        let (lanes, groups) = (S::F32_LANES, batch.groups);
        work.similarity.measure(z.floats(), lanes, groups, penalty.epsilon, &mut stats);
        simd.vectorize(Dense { simd, weights, grad, work, batch, penalty, stats: &stats });
        conv::pack_transposed(&weights[CONV2_WEIGHT], 6, &mut work.conv2_back);
        let zero = simd.splat_f32s(0.0);
        work.acc1.vectors_mut::<S>().fill(zero);
        work.acc2.vectors_mut::<S>().fill(zero);
        for group in 0..groups.len().div_ceil(lanes) {
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
        stats
    }
}

/// Mean softmax cross-entropy and the gradient of the logits; lanes without a sample get none.
#[inline(always)]
fn cross_entropy<S: Simd>(work: &mut Work, labels: &[u8]) -> StepStats {
    let lanes = S::F32_LANES;
    let n = labels.len();
    let logits = work.logits.floats();
    let grad = work.grad_logits.floats_mut();
    grad.fill(0.0);
    let (mut total, mut correct) = (0.0, 0);
    for (i, &label) in labels.iter().enumerate() {
        let label = usize::from(label);
        let at = |class: usize| ((i / lanes) * CLASSES + class) * lanes + i % lanes;
        let row: [f32; CLASSES] = std::array::from_fn(|c| logits[at(c)]);
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp = row.map(|l| (l - max).exp());
        let sum: f32 = exp.iter().sum();
        total += f64::from(sum.ln() - (row[label] - max));
        let best = (1..CLASSES).fold(0, |best, c| if row[c] > row[best] { c } else { best });
        correct += usize::from(best == label);
        for c in 0..CLASSES {
            let target = if c == label { 1.0 } else { 0.0 };
            grad[at(c)] = (exp[c] / sum - target) / n as f32;
        }
    }
    StepStats { cross_entropy: total / n as f64, correct, ..StepStats::default() }
}

/// The fully connected layers of all groups, and the penalty on the embedding between them.
struct Dense<'a, S> {
    simd: S,
    weights: &'a [f32],
    grad: &'a mut [f32],
    work: &'a mut Work,
    batch: Batch<'a>,
    penalty: Penalty,
    stats: &'a StepStats,
}

impl<S: Simd> WithSimd for Dense<'_, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<T: Simd>(self, _: T) {
        let Self { simd, weights, grad, work, batch, penalty, stats } = self;
        let lanes = S::F32_LANES;
        let n = batch.rows.len();
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

        let add =
            |grad: &mut [f32]| work.similarity.add_gradient(grad, lanes, penalty.lambda, stats);
        if penalty.embedding == Embedding::Post {
            add(work.grad_embedding.floats_mut());
        }
        mask(simd, post, &mut work.grad_embedding.vectors_mut::<S>()[..groups * EMBEDDING]);
        if penalty.embedding == Embedding::Pre {
            add(work.grad_embedding.floats_mut());
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

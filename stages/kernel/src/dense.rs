//! Fully connected layers: forward, gradient of the input, gradient of the weights.

use pulp::Simd;

/// `out[g][o] = bias[o] + sum over i of weight[o][i] * input[g][i]` for `NR` groups at once.
#[inline(always)]
fn block<S: Simd, const MR: usize, const NR: usize>(
    simd: S,
    (input, inputs): (&[S::f32s], usize),
    weight: impl Fn(usize, usize) -> f32,
    bias: impl Fn(usize) -> f32,
    (out, outputs): (&mut [S::f32s], usize),
) {
    let groups: [&[S::f32s]; NR] = std::array::from_fn(|n| &input[n * inputs..(n + 1) * inputs]);
    for o in (0..outputs).step_by(MR) {
        let mut acc: [[S::f32s; NR]; MR] =
            std::array::from_fn(|m| [simd.splat_f32s(bias(o + m)); NR]);
        for i in 0..inputs {
            for m in 0..MR {
                let w = simd.splat_f32s(weight(o + m, i));
                for n in 0..NR {
                    acc[m][n] = simd.mul_add_e_f32s(w, groups[n][i], acc[m][n]);
                }
            }
        }
        for m in 0..MR {
            for n in 0..NR {
                out[n * outputs + o + m] = acc[m][n];
            }
        }
    }
}

/// The same for any number of groups, four, two or one at a time.
#[inline(always)]
fn groups<S: Simd, const MR: usize>(
    simd: S,
    (mut input, inputs): (&[S::f32s], usize),
    weight: impl Fn(usize, usize) -> f32 + Copy,
    bias: impl Fn(usize) -> f32 + Copy,
    (mut out, outputs): (&mut [S::f32s], usize),
) {
    while !input.is_empty() {
        let n = input.len() / inputs;
        let wide = S::REGISTER_COUNT >= 32;
        let take = if n >= 4 && wide { 4 } else { n.min(2) };
        let (now, rest) = input.split_at(take * inputs);
        let (out_now, out_rest) = out.split_at_mut(take * outputs);
        match take {
            4 => block::<S, MR, 4>(simd, (now, inputs), weight, bias, (out_now, outputs)),
            2 => block::<S, MR, 2>(simd, (now, inputs), weight, bias, (out_now, outputs)),
            _ => block::<S, MR, 1>(simd, (now, inputs), weight, bias, (out_now, outputs)),
        }
        (input, out) = (rest, out_rest);
    }
}

/// Forward pass; `MR` divides the number of outputs.
#[inline(always)]
pub(crate) fn forward<S: Simd, const MR: usize>(
    simd: S,
    input: &[S::f32s],
    weight: &[f32],
    bias: &[f32],
    out: &mut [S::f32s],
) {
    let outputs = bias.len();
    let inputs = weight.len() / outputs;
    let weight = |o: usize, i: usize| weight[o * inputs + i];
    groups::<S, MR>(simd, (input, inputs), weight, |o| bias[o], (out, outputs));
}

/// Gradient of the input from `grad`, the gradient of the output; `MR` divides the inputs.
#[inline(always)]
pub(crate) fn backward<S: Simd, const MR: usize>(
    simd: S,
    grad: &[S::f32s],
    weight: &[f32],
    outputs: usize,
    out: &mut [S::f32s],
) {
    let inputs = weight.len() / outputs;
    let weight = |i: usize, o: usize| weight[o * inputs + i];
    groups::<S, MR>(simd, (grad, outputs), weight, |_| 0.0, (out, inputs));
}

/// Gradient of the weights `[outputs][inputs]`: `sum over samples of grad[o] * input[i]`.
///
/// `by_sample` is the input with one row of `stride` floats a sample; a dot product over lanes
/// would end in a horizontal sum for each weight, an outer product needs none.
#[inline(always)]
pub(crate) fn weight_gradient<S: Simd, const MR: usize>(
    simd: S,
    (by_sample, stride): (&[f32], usize),
    (grad, outputs): (&[f32], usize),
    out: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let inputs = out.len() / outputs;
    for o in (0..outputs).step_by(MR) {
        let mut v = 0;
        while v * lanes < inputs {
            let wide = (v + 4) * lanes <= stride;
            let out = &mut out[o * inputs..];
            if wide {
                outer::<S, MR, 4>(simd, (by_sample, stride), (grad, outputs, o), v, (out, inputs));
                v += 4;
            } else {
                outer::<S, MR, 1>(simd, (by_sample, stride), (grad, outputs, o), v, (out, inputs));
                v += 1;
            }
        }
    }
}

/// `MR` rows and `NV` vectors of columns of the outer product's sum.
#[inline(always)]
fn outer<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    (by_sample, stride): (&[f32], usize),
    (grad, outputs, o): (&[f32], usize, usize),
    v: usize,
    (out, inputs): (&mut [f32], usize),
) {
    let lanes = S::F32_LANES;
    let mut acc = [[simd.splat_f32s(0.0); NV]; MR];
    for (sample, row) in by_sample.chunks_exact(stride).enumerate() {
        let (group, lane) = (sample / lanes, sample % lanes);
        let columns = &S::as_simd_f32s(row).0[v..v + NV];
        let grads = &grad[(group * outputs + o) * lanes + lane..];
        for m in 0..MR {
            let g = simd.splat_f32s(grads[m * lanes]);
            for n in 0..NV {
                acc[m][n] = simd.mul_add_e_f32s(g, columns[n], acc[m][n]);
            }
        }
    }
    for m in 0..MR {
        for n in 0..NV {
            let from = (v + n) * lanes;
            if from < inputs {
                let to = inputs.min(from + lanes);
                simd.partial_store_f32s(&mut out[m * inputs + from..m * inputs + to], acc[m][n]);
            }
        }
    }
}

//! 5x5 convolutions without padding, forward and backward, a register block at a time.

use pulp::Simd;

/// Side of the kernel.
pub(crate) const K: usize = 5;

/// Weights of `MR` channels that are computed together: `[input channel][ky][kx][MR]`.
pub(crate) type Packed<const MR: usize> = Vec<[[f32; MR]; K]>;

/// Packs `weight` `[out, in, 5, 5]` for the forward pass: one block for every `MR` outputs.
pub(crate) fn pack<const MR: usize>(weight: &[f32], inputs: usize, packed: &mut Packed<MR>) {
    let outputs = weight.len() / (inputs * K * K);
    packed.clear();
    for block in (0..outputs).step_by(MR) {
        for row in 0..inputs * K {
            packed.push(std::array::from_fn(|kx| {
                std::array::from_fn(|m| weight[((block + m) * inputs * K + row) * K + kx])
            }));
        }
    }
}

/// Packs the same weights for the gradient of the input: channels swap roles, and kx is flipped.
pub(crate) fn pack_transposed<const MR: usize>(
    weight: &[f32],
    inputs: usize,
    packed: &mut Packed<MR>,
) {
    let outputs = weight.len() / (inputs * K * K);
    packed.clear();
    for block in (0..inputs).step_by(MR) {
        for output in 0..outputs {
            for ky in 0..K {
                packed.push(std::array::from_fn(|kx| {
                    std::array::from_fn(|m| {
                        weight[((output * inputs + block + m) * K + ky) * K + (K - 1 - kx)]
                    })
                }));
            }
        }
    }
}

/// Adds one row of taps: `acc[m][n] += sum over kx of weights[kx][m] * row[n + kx]`.
#[inline(always)]
fn add_taps<S: Simd, const MR: usize, const NR: usize>(
    simd: S,
    acc: &mut [[S::f32s; NR]; MR],
    row: &[S::f32s],
    weights: &[[f32; MR]; K],
) {
    let row = &row[..NR + K - 1];
    for kx in 0..K {
        for m in 0..MR {
            let w = simd.splat_f32s(weights[kx][m]);
            for n in 0..NR {
                acc[m][n] = simd.mul_add_e_f32s(w, row[n + kx], acc[m][n]);
            }
        }
    }
}

/// One output row of `MR` channels: `out[m * width + x]`, from `input` `[inputs][height][in_width]`.
#[inline(always)]
pub(crate) fn forward_row<S: Simd, const MR: usize, const NR: usize>(
    simd: S,
    input: &[S::f32s],
    (height, in_width): (usize, usize),
    y: usize,
    weights: &[[[f32; MR]; K]],
    bias: &[f32],
    out: &mut [S::f32s],
) {
    let width = in_width - K + 1;
    let start: [S::f32s; MR] = std::array::from_fn(|m| simd.splat_f32s(bias[m]));
    for x in (0..width).step_by(NR) {
        let mut acc: [[S::f32s; NR]; MR] = std::array::from_fn(|m| [start[m]; NR]);
        for (channel, rows) in weights.chunks_exact(K).enumerate() {
            for (ky, taps) in rows.iter().enumerate() {
                let row = &input[(channel * height + y + ky) * in_width + x..];
                add_taps::<S, MR, NR>(simd, &mut acc, row, taps);
            }
        }
        for m in 0..MR {
            for n in 0..NR {
                out[m * width + x + n] = acc[m][n];
            }
        }
    }
}

/// One row of the input's gradient for `MR` input channels: `out[m * width + x]` for input row
/// `y`, from `grad` `[outputs][height][width + K - 1]`, whose rows have `K - 1` zeros at each end.
#[inline(always)]
pub(crate) fn backward_row<S: Simd, const MR: usize, const NR: usize>(
    simd: S,
    grad: &[S::f32s],
    (height, width): (usize, usize),
    y: usize,
    weights: &[[[f32; MR]; K]],
    out: &mut [S::f32s],
) {
    let padded = width + K - 1;
    let taps = y.saturating_sub(height - 1)..K.min(y + 1);
    for x in (0..width).step_by(NR) {
        let mut acc = [[simd.splat_f32s(0.0); NR]; MR];
        for (channel, rows) in weights.chunks_exact(K).enumerate() {
            for ky in taps.clone() {
                let row = &grad[(channel * height + y - ky) * padded + x..];
                add_taps::<S, MR, NR>(simd, &mut acc, row, &rows[ky]);
            }
        }
        for m in 0..MR {
            for n in 0..NR {
                out[m * width + x + n] = acc[m][n];
            }
        }
    }
}

/// Shape of what [`weight_gradient`] walks over.
#[derive(Clone, Copy)]
pub(crate) struct Walk {
    /// Input channels.
    pub inputs: usize,
    /// Height and width of an input channel.
    pub input: (usize, usize),
    /// The first output row, and how many.
    pub rows: (usize, usize),
    /// Output columns.
    pub width: usize,
    /// Vectors from one row of the gradient to the next, and from one channel to the next.
    pub strides: (usize, usize),
}

/// Adds to `acc` `[outputs][inputs][5][5]` what the rows of `walk` bring to the weights' gradient,
/// `OB` output channels at a time. `grad` starts at the first row's first column.
#[inline(always)]
pub(crate) fn weight_gradient<S: Simd, const OB: usize>(
    simd: S,
    input: &[S::f32s],
    grad: &[S::f32s],
    outputs: usize,
    walk: Walk,
    acc: &mut [S::f32s],
) {
    let Walk { inputs, input: (height, in_width), rows: (y0, rows), width, strides } = walk;
    let (row_stride, channel_stride) = strides;
    for block in (0..outputs).step_by(OB) {
        for channel in 0..inputs {
            for ky in 0..K {
                let at = |m: usize| ((block + m) * inputs + channel) * K * K + ky * K;
                let mut sums: [[S::f32s; K]; OB] =
                    std::array::from_fn(|m| std::array::from_fn(|kx| acc[at(m) + kx]));
                for r in 0..rows {
                    let start = (channel * height + y0 + r + ky) * in_width;
                    let row = &input[start..start + width + K - 1];
                    let grads: [&[S::f32s]; OB] = std::array::from_fn(|m| {
                        let start = (block + m) * channel_stride + r * row_stride;
                        &grad[start..start + width]
                    });
                    for x in 0..width {
                        for m in 0..OB {
                            let g = grads[m][x];
                            for kx in 0..K {
                                sums[m][kx] = simd.mul_add_e_f32s(g, row[x + kx], sums[m][kx]);
                            }
                        }
                    }
                }
                for m in 0..OB {
                    acc[at(m)..at(m) + K].copy_from_slice(&sums[m]);
                }
            }
        }
    }
}

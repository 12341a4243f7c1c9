//! Where each weight of LeNet-5 lies in the flat buffer, in PyTorch's order and layout, and where
//! each sample's values lie among the lanes.

use std::ops::Range;

/// Number of weights.
pub const WEIGHTS: usize = FC3_BIAS.end;

/// `conv1.weight` `[6, 3, 5, 5]`.
pub const CONV1_WEIGHT: Range<usize> = 0..450;
/// `conv1.bias` `[6]`.
pub const CONV1_BIAS: Range<usize> = after(&CONV1_WEIGHT, 6);
/// `conv2.weight` `[16, 6, 5, 5]`.
pub const CONV2_WEIGHT: Range<usize> = after(&CONV1_BIAS, 2400);
/// `conv2.bias` `[16]`.
pub const CONV2_BIAS: Range<usize> = after(&CONV2_WEIGHT, 16);
/// `fc1.weight` `[120, 400]`.
pub const FC1_WEIGHT: Range<usize> = after(&CONV2_BIAS, 48_000);
/// `fc1.bias` `[120]`.
pub const FC1_BIAS: Range<usize> = after(&FC1_WEIGHT, 120);
/// `fc2.weight` `[84, 120]`.
pub const FC2_WEIGHT: Range<usize> = after(&FC1_BIAS, 10_080);
/// `fc2.bias` `[84]`.
pub const FC2_BIAS: Range<usize> = after(&FC2_WEIGHT, 84);
/// `fc3.weight` `[10, 84]`.
pub const FC3_WEIGHT: Range<usize> = after(&FC2_BIAS, 840);
/// `fc3.bias` `[10]`.
pub const FC3_BIAS: Range<usize> = after(&FC3_WEIGHT, 10);

const fn after(previous: &Range<usize>, len: usize) -> Range<usize> {
    previous.end..previous.end + len
}

/// Where value `f` of sample `i` lies in `[groups][features][lanes]`.
pub(crate) fn lane(i: usize, f: usize, features: usize, lanes: usize) -> usize {
    ((i / lanes) * features + f) * lanes + i % lanes
}

/// The first `n` samples of `[groups][features][lanes]` with one row a sample.
pub(crate) fn to_rows(from: &[f32], features: usize, lanes: usize, n: usize, rows: &mut Vec<f32>) {
    rows.clear();
    for i in 0..n {
        let from = &from[lane(i, 0, features, lanes)..];
        rows.extend((0..features).map(|f| from[f * lanes]));
    }
}

/// Adds rows to the first samples of `[groups][features][lanes]`.
pub(crate) fn add_rows(rows: &[f32], features: usize, lanes: usize, to: &mut [f32]) {
    for (i, row) in rows.chunks_exact(features).enumerate() {
        let to = &mut to[lane(i, 0, features, lanes)..];
        row.iter().enumerate().for_each(|(f, value)| to[f * lanes] += value);
    }
}

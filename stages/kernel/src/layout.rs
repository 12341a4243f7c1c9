//! Where each weight of LeNet-5 lies in the flat buffer, in PyTorch's order and layout.

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

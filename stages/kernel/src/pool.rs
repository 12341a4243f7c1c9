//! ReLU and 2x2 max-pooling in one, and back.
//!
//! Where the largest of four is not above 0, no gradient flows. Of equal values the first in
//! reading order takes it, as in PyTorch.

use pulp::Simd;

/// In place of the winner's number: nothing was above 0.
const DEAD: f32 = 4.0;

/// Pools two rows of `2 * out.len()` values; `winner` keeps which of the four won.
#[inline(always)]
pub(crate) fn forward<S: Simd>(
    simd: S,
    [upper, lower]: [&[S::f32s]; 2],
    out: &mut [S::f32s],
    winner: &mut [S::f32s],
) {
    let zero = simd.splat_f32s(0.0);
    for (x, (out, winner)) in out.iter_mut().zip(winner).enumerate() {
        let values = [upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1]];
        let (mut best, mut index) = (zero, simd.splat_f32s(DEAD));
        for (q, value) in values.into_iter().enumerate() {
            let above = simd.greater_than_f32s(value, best);
            best = simd.select_f32s(above, value, best);
            index = simd.select_f32s(above, simd.splat_f32s(q as f32), index);
        }
        (*out, *winner) = (best, index);
    }
}

/// The gradient before pooling and ReLU: two rows from one row of gradients. Returns the sum.
#[inline(always)]
pub(crate) fn backward<S: Simd>(
    simd: S,
    grad: &[S::f32s],
    winner: &[S::f32s],
    [upper, lower]: [&mut [S::f32s]; 2],
) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    let mut sum = zero;
    for (x, (&g, &w)) in grad.iter().zip(winner).enumerate() {
        let part = |q: f32| simd.select_f32s(simd.equal_f32s(w, simd.splat_f32s(q)), g, zero);
        (upper[2 * x], upper[2 * x + 1]) = (part(0.0), part(1.0));
        (lower[2 * x], lower[2 * x + 1]) = (part(2.0), part(3.0));
        let alive = simd.select_f32s(simd.equal_f32s(w, simd.splat_f32s(DEAD)), zero, g);
        sum = simd.add_f32s(sum, alive);
    }
    sum
}

//! Mean cosine similarity over pairs of the same group, as burn tensors and as plain numbers.

use burn::tensor::{Device, Tensor, TensorData};

/// Mean similarity over the ordered pairs that share a group, of embeddings `z` `[batch, d]`:
/// differentiable, and a constant 0 where there are no pairs.
///
/// By group sums, O(batch d): with u = z (|z|^2 + eps^2)^(-1/2), the sum over pairs is
/// sum_g |sum of u over g|^2 - sum_i |u_i|^2.
#[must_use]
pub fn mean_similarity(z: Tensor<2>, groups: &[u32], epsilon: f32) -> Tensor<1> {
    let device = z.device();
    let (slots, pairs) = slots(groups);
    if pairs == 0 {
        return Tensor::zeros([1], &device);
    }
    let norm = (z.clone() * z.clone()).sum_dim(1).add_scalar(epsilon * epsilon).sqrt();
    let units = z / norm;
    let sums = membership(&slots, &device).matmul(units.clone());
    let total = (sums.clone() * sums).sum() - (units.clone() * units).sum();
    total.div_scalar(pairs as f32)
}

/// The same as a plain number, in f64, over all pairs of `groups`; `embeddings` has `d` values a
/// sample. None where there are no pairs.
#[must_use]
pub fn mean_similarity_of(embeddings: &[f32], d: usize, groups: &[u32]) -> Option<f64> {
    let (slots, pairs) = slots(groups);
    if pairs == 0 {
        return None;
    }
    let count = slots.iter().max().map_or(0, |m| m + 1);
    let mut sums = vec![0.0f64; count * d];
    let mut squares = 0.0;
    for (z, &slot) in embeddings.chunks_exact(d).zip(&slots) {
        let norm = z.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        // An embedding of 0 has no direction: its similarity to anything is 0.
        if norm == 0.0 {
            continue;
        }
        for (sum, &v) in sums[slot * d..(slot + 1) * d].iter_mut().zip(z) {
            let unit = f64::from(v) / norm;
            *sum += unit;
            squares += unit * unit;
        }
    }
    let total = sums.iter().map(|s| s * s).sum::<f64>() - squares;
    Some(total / pairs as f64)
}

/// Groups as consecutive numbers in the order they appear, and the number of ordered pairs.
fn slots(groups: &[u32]) -> (Vec<usize>, usize) {
    let mut numbers = std::collections::HashMap::new();
    let mut sizes = Vec::new();
    let slots = groups
        .iter()
        .map(|group| {
            let slot = *numbers.entry(*group).or_insert_with(|| {
                sizes.push(0usize);
                sizes.len() - 1
            });
            sizes[slot] += 1;
            slot
        })
        .collect();
    (slots, sizes.iter().map(|s| s * (s - 1)).sum())
}

/// `[groups, batch]`, 1 where a sample belongs to the group.
fn membership(slots: &[usize], device: &Device) -> Tensor<2> {
    let count = slots.iter().max().map_or(0, |m| m + 1);
    let mut ones = vec![0.0f32; count * slots.len()];
    for (i, slot) in slots.iter().enumerate() {
        ones[slot * slots.len() + i] = 1.0;
    }
    Tensor::from_data(TensorData::new(ones, [count, slots.len()]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The plain Gram form in f64: every ordered pair by itself.
    fn gram(z: &[f64], d: usize, groups: &[u32], epsilon: f64) -> f64 {
        let row = |i: usize| &z[i * d..(i + 1) * d];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let norm = |i: usize| (dot(row(i), row(i)) + epsilon * epsilon).sqrt();
        let (mut sum, mut pairs) = (0.0, 0.0);
        for i in 0..groups.len() {
            for j in 0..groups.len() {
                if i != j && groups[i] == groups[j] {
                    sum += dot(row(i), row(j)) / (norm(i) * norm(j));
                    pairs += 1.0;
                }
            }
        }
        if pairs == 0.0 { 0.0 } else { sum / pairs }
    }

    fn batches() -> impl Strategy<Value = (usize, Vec<f32>, Vec<u32>)> {
        (1usize..7, 1usize..24, 1u32..8).prop_flat_map(|(d, n, groups)| {
            // One embedding in five is 0, as dead units leave it.
            let value = prop_oneof![4 => -2.0f32..2.0, 1 => Just(0.0f32)];
            let z = prop::collection::vec(value, n * d);
            (Just(d), z, prop::collection::vec(0..groups, n))
        })
    }

    proptest! {
        #[test]
        fn group_sums_equal_the_gram_form((d, z, groups) in batches()) {
            let wide: Vec<f64> = z.iter().map(|&v| f64::from(v)).collect();
            let expected = gram(&wide, d, &groups, 1e-6);
            let plain = mean_similarity_of(&z, d, &groups).unwrap_or(0.0);
            prop_assert!((plain - expected).abs() < 1e-6, "{plain} {expected}");
            let device = Device::flex();
            let tensor = Tensor::from_data(TensorData::new(z, [groups.len(), d]), &device);
            let found = f64::from(mean_similarity(tensor, &groups, 1e-6).into_scalar::<f32>());
            prop_assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }

        /// Central differences of the Gram form in f64, with an eps that keeps them smooth.
        #[test]
        fn gradient_equals_finite_differences((d, z, groups) in batches()) {
            let epsilon = 0.5f32;
            let wide: Vec<f64> = z.iter().map(|&v| f64::from(v)).collect();
            let device = Device::flex().autodiff();
            let leaf = Tensor::<2>::from_data(TensorData::new(z.clone(), [groups.len(), d]), &device)
                .require_grad();
            let loss = mean_similarity(leaf.clone(), &groups, epsilon);
            let grad = if slots(&groups).1 == 0 {
                vec![0.0; z.len()]
            } else {
                leaf.grad(&loss.backward()).unwrap().into_data().try_to_vec::<f32>().unwrap()
            };
            for i in 0..z.len() {
                let value = |delta: f64| {
                    let mut moved = wide.clone();
                    moved[i] += delta;
                    gram(&moved, d, &groups, f64::from(epsilon))
                };
                let expected = (value(1e-5) - value(-1e-5)) / 2e-5;
                prop_assert!((f64::from(grad[i]) - expected).abs() < 1e-5, "{} {expected}", grad[i]);
            }
        }
    }
}

//! Mean cosine similarity over pairs of the same group.

/// Mean similarity, in f64, over the ordered pairs that share a group; `embeddings` has `d` values
/// a sample. None where there are no pairs. By group sums, O(n d): with unit embeddings u, the sum
/// over pairs is sum_g |sum of u over g|^2 - sum_i |u_i|^2.
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
        }
    }
}

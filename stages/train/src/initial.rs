//! Weights before the first step.

use dissim_kernel::layout;

use crate::batches::Stream;

/// PyTorch's default for convolutions and linear layers: weights and biases uniform within
/// 1/sqrt(fan_in) of 0 (Kaiming uniform with a = sqrt(5)). From the seed alone, by a generator of
/// our own: the same for every method and backend.
pub(crate) fn weights(seed: u64) -> Vec<f32> {
    let mut stream = Stream::new("dissim train weights v1", seed, 0);
    let layers = [
        (layout::CONV1_WEIGHT.start..layout::CONV1_BIAS.end, 3 * 25),
        (layout::CONV2_WEIGHT.start..layout::CONV2_BIAS.end, 6 * 25),
        (layout::FC1_WEIGHT.start..layout::FC1_BIAS.end, 400),
        (layout::FC2_WEIGHT.start..layout::FC2_BIAS.end, 120),
        (layout::FC3_WEIGHT.start..layout::FC3_BIAS.end, 84),
    ];
    let mut weights = vec![0.0; layout::WEIGHTS];
    for (range, fan_in) in layers {
        let bound = f64::from(fan_in).sqrt().recip();
        weights[range].iter_mut().for_each(|w| *w = (stream.symmetric() * bound) as f32);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_fill_their_bounds() {
        let weights = weights(7);
        assert_eq!(weights.len(), 62_006);
        let fc1 = &weights[layout::FC1_WEIGHT];
        let largest = fc1.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        assert!(largest <= 0.05 && largest > 0.0499);
        let mean = fc1.iter().map(|&w| f64::from(w)).sum::<f64>() / fc1.len() as f64;
        assert!(mean.abs() < 1e-3);
        assert_ne!(weights, super::weights(8));
    }
}

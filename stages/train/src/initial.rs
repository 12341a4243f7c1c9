//! Weights before the first step.

use dissim_model::Architecture;

use crate::batches::Stream;

/// PyTorch's default for convolutions and linear layers: weights and biases uniform within
/// 1/sqrt(fan_in) of 0 (Kaiming uniform with a = sqrt(5)). From the seed alone, by a generator of
/// our own: the same for every method and backend.
pub(crate) fn weights(network: &Architecture, seed: u64) -> Vec<f32> {
    let mut stream = Stream::new("dissim train weights v1", seed, 0);
    let mut weights = vec![0.0; network.weights()];
    for parameter in network.parameters() {
        let bound = (parameter.fan_in as f64).sqrt().recip();
        let range = &mut weights[parameter.range];
        range.iter_mut().for_each(|w| *w = (stream.symmetric() * bound) as f32);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use dissim_kernel::layout;

    #[test]
    fn weights_fill_their_bounds() {
        let network = Architecture::default();
        let weights = weights(&network, 7);
        assert_eq!(weights.len(), 62_006);
        let fc1 = &weights[layout::FC1_WEIGHT];
        let largest = fc1.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        assert!(largest <= 0.05 && largest > 0.0499);
        let mean = fc1.iter().map(|&w| f64::from(w)).sum::<f64>() / fc1.len() as f64;
        assert!(mean.abs() < 1e-3);
        assert_ne!(weights, super::weights(&network, 8));
    }
}

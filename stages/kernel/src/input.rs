//! From bytes to what the network sees.
//!
//! A channel is standardised by the mean and standard deviation of CIFAR-10's training images, the
//! backgrounds of the study, as usual for networks on CIFAR-10.

use crate::PIXELS;

/// Mean of each channel over CIFAR-10's 50,000 training images, as a fraction of 255.
const MEAN: [f32; 3] = [0.4914, 0.4822, 0.4465];
/// Standard deviation of each channel, over pixels.
const DEVIATION: [f32; 3] = [0.2470, 0.2435, 0.2616];

/// Bytes of a channel, `[32, 32]`.
pub(crate) const PLANE: usize = PIXELS / 3;

/// The value of `byte` in `channel` 0, 1 or 2: `(byte / 255 - mean) / deviation`.
#[inline(always)]
#[must_use]
pub fn standardise(channel: usize, byte: u8) -> f32 {
    let scale = 1.0 / (255.0 * DEVIATION[channel]);
    f32::from(byte) * scale - MEAN[channel] / DEVIATION[channel]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_standardised_by_channel() {
        for channel in 0..3 {
            let (mean, deviation) = (f64::from(MEAN[channel]), f64::from(DEVIATION[channel]));
            for byte in 0..=255 {
                let expected = (f64::from(byte) / 255.0 - mean) / deviation;
                assert!((f64::from(standardise(channel, byte)) - expected).abs() < 1e-6);
            }
        }
    }
}

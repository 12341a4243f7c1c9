//! Bias-corrected and accelerated bootstrap intervals: of a mean, and of any statistic.

use crate::{Interval, Random, mean, normal};

/// Resamples drawn.
const DRAWS: usize = 10_000;

/// BCa interval (Efron 1987) of the mean of `values` at `confidence`, from 10,000 resamples.
///
/// None with fewer than two values. Where all values are equal the interval is that value.
#[must_use]
pub fn bca(values: &[f64], confidence: f64) -> Option<Interval> {
    let n = values.len();
    if n < 2 || values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let observed = mean(values);
    if values.iter().all(|v| *v == values[0]) {
        return Some(Interval { low: observed, high: observed });
    }
    let mut random = Random(0x000B_00B5);
    let mut means: Vec<f64> = (0..DRAWS)
        .map(|_| (0..n).map(|_| values[random.below(n)]).sum::<f64>() / n as f64)
        .collect();
    // The same values added in another order are a tie, whatever the last bit says.
    let slack = 1e-12 * values.iter().map(|v| v.abs()).sum::<f64>();
    // Leaving value v out moves the mean by (observed - v) / (n - 1); the factor cancels.
    let influence: Vec<f64> = values.iter().map(|v| v - observed).collect();
    Some(interval(&mut means, observed, slack, &influence, confidence))
}

/// The same of any `statistic` of `n` things, such as a ratio of means over pairs: it is given which
/// things were drawn.
///
/// None with fewer than two, or where the statistic of some resample is no number.
#[must_use]
pub fn bca_of(n: usize, confidence: f64, statistic: impl Fn(&[usize]) -> f64) -> Option<Interval> {
    if n < 2 {
        return None;
    }
    let all: Vec<usize> = (0..n).collect();
    let observed = statistic(&all);
    let mut random = Random(0x000B_00B5);
    let mut drawn = vec![0; n];
    let mut values: Vec<f64> = (0..DRAWS)
        .map(|_| {
            drawn.iter_mut().for_each(|d| *d = random.below(n));
            statistic(&drawn)
        })
        .collect();
    let left_out = |i: &usize| {
        let rest: Vec<usize> = all.iter().copied().filter(|j| j != i).collect();
        statistic(&rest)
    };
    let jackknife: Vec<f64> = all.iter().map(left_out).collect();
    if values.iter().chain(&jackknife).any(|v| !v.is_finite()) {
        return None;
    }
    let centre = mean(&jackknife);
    let influence: Vec<f64> = jackknife.iter().map(|v| centre - v).collect();
    if influence.iter().all(|u| *u == 0.0) {
        return Some(Interval { low: observed, high: observed });
    }
    Some(interval(&mut values, observed, 1e-12 * observed.abs(), &influence, confidence))
}

/// The interval from the statistic's resamples. Ties with what was observed count half, as resamples
/// of few values often tie.
fn interval(
    resampled: &mut [f64],
    observed: f64,
    slack: f64,
    influence: &[f64],
    confidence: f64,
) -> Interval {
    resampled.sort_unstable_by(f64::total_cmp);
    let below = resampled.partition_point(|m| *m < observed - slack) as f64;
    let ties = resampled.partition_point(|m| *m <= observed + slack) as f64 - below;
    let bias = normal::quantile((below + 0.5 * ties) / DRAWS as f64);
    let acceleration = acceleration(influence);
    let end = |tail: f64| {
        let z = bias + normal::quantile(tail);
        let p = normal::cdf(bias + z / (1.0 - acceleration * z));
        percentile(resampled, p)
    };
    let tail = (1.0 - confidence) / 2.0;
    Interval { low: end(tail), high: end(1.0 - tail) }
}

/// Acceleration from the jackknife: a sixth of the skewness of the influences, in effect.
fn acceleration(influence: &[f64]) -> f64 {
    let squares: f64 = influence.iter().map(|u| u * u).sum();
    let cubes: f64 = influence.iter().map(|u| u * u * u).sum();
    cubes / (6.0 * squares.powf(1.5))
}

/// Linear interpolation between order statistics, numpy's default.
fn percentile(sorted: &[f64], p: f64) -> f64 {
    let at = p.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (low, share) = (at.floor() as usize, at.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (sorted[high] - sorted[low]) * share
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// scipy 1.17.1: `bootstrap((x,), np.mean, method="BCa", n_resamples=200_000, rng=0)` gives
    /// (0.249, 0.364); the tolerance is what 10,000 resamples may differ by.
    #[test]
    fn close_to_scipy() {
        let x = [0.31, 0.22, 0.45, 0.28, 0.39, 0.12, 0.33, 0.27, 0.41, 0.36];
        let interval = bca(&x, 0.95).unwrap();
        assert!((interval.low - 0.2490).abs() < 0.004, "{interval:?}");
        assert!((interval.high - 0.3640).abs() < 0.004, "{interval:?}");
    }

    #[test]
    fn too_few_and_all_equal() {
        assert_eq!(bca(&[1.0], 0.95), None);
        assert_eq!(bca(&[1.0, f64::NAN], 0.95), None);
        assert_eq!(bca(&[0.2, 0.2], 0.95), Some(Interval { low: 0.2, high: 0.2 }));
    }

    /// Fractions and percent must give the same interval, also where most resamples tie.
    #[test]
    fn the_unit_does_not_matter() {
        let fractions = [0.167_3, 0.259_1, 0.357_2];
        let points = fractions.map(|v| v * 100.0);
        let (a, b) = (bca(&fractions, 0.95).unwrap(), bca(&points, 0.95).unwrap());
        assert!((a.low * 100.0 - b.low).abs() < 1e-9, "{a:?} and {b:?}");
        assert!((a.high * 100.0 - b.high).abs() < 1e-9, "{a:?} and {b:?}");
    }

    proptest! {
        #[test]
        fn scales_with_its_values(
            x in prop::collection::vec(-1.0f64..1.0, 2..8),
            scale in 0.01f64..100.0,
        ) {
            let scaled: Vec<f64> = x.iter().map(|v| v * scale).collect();
            let (a, b) = (bca(&x, 0.95).unwrap(), bca(&scaled, 0.95).unwrap());
            prop_assert!((a.low * scale - b.low).abs() <= 1e-9 * scale);
            prop_assert!((a.high * scale - b.high).abs() <= 1e-9 * scale);
        }

        /// The mean as any other statistic: the same draws, the same interval.
        #[test]
        fn a_mean_is_a_statistic(x in prop::collection::vec(-1.0f64..1.0, 2..8)) {
            let of = |drawn: &[usize]| drawn.iter().map(|&i| x[i]).sum::<f64>() / drawn.len() as f64;
            let (a, b) = (bca(&x, 0.95).unwrap(), bca_of(x.len(), 0.95, of).unwrap());
            prop_assert!((a.low - b.low).abs() < 1e-3 && (a.high - b.high).abs() < 1e-3, "{a:?} {b:?}");
        }

        #[test]
        fn holds_the_mean_and_grows_with_confidence(x in prop::collection::vec(-1.0f64..1.0, 3..12)) {
            let (wide, narrow) = (bca(&x, 0.99).unwrap(), bca(&x, 0.8).unwrap());
            prop_assert!(wide.low <= narrow.low + 1e-12 && narrow.high <= wide.high + 1e-12);
            let (least, most) = x.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
            prop_assert!(wide.low >= least - 1e-12 && wide.high <= most + 1e-12);
        }
    }
}

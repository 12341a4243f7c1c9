//! The standard normal distribution.

/// Distribution function, to about 1e-15: a power series in the middle, a continued fraction in
/// the tails (Abramowitz & Stegun 26.2.11 and 26.2.14).
#[must_use]
pub fn cdf(x: f64) -> f64 {
    if x.is_nan() {
        return f64::NAN;
    }
    let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    if x.abs() < 3.0 {
        let (mut term, mut sum, mut k) = (x, x, 1.0);
        while term.abs() > sum.abs() * 1e-17 {
            k += 2.0;
            term *= x * x / k;
            sum += term;
        }
        return 0.5 + density * sum;
    }
    let t = x.abs();
    let fraction = (1..=120).rev().fold(t, |f, k| t + f64::from(k) / f);
    let tail = density / fraction;
    if x > 0.0 { 1.0 - tail } else { tail }
}

/// Quantile function: the `x` with `cdf(x) = p`. Starts from Abramowitz & Stegun 26.2.23 and
/// polishes with Halley's method.
#[must_use]
pub fn quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p == 0.0 || p == 1.0 {
        return if p == 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    let t = (-2.0 * p.ln()).sqrt();
    let start = t
        - (2.515_517 + 0.802_853 * t + 0.010_328 * t * t)
            / (1.0 + 1.432_788 * t + 0.189_269 * t * t + 0.001_308 * t * t * t);
    let mut x = -start;
    for _ in 0..4 {
        let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        let error = (cdf(x) - p) / density;
        x -= error / (1.0 + 0.5 * x * error);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Values of scipy 1.17.1, `scipy.stats.norm.cdf` and `.ppf`.
    #[test]
    fn published_values() {
        for (x, p) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (1.959_963_984_540_054, 0.975),
            (-2.999, 0.001_354_336_533_727_105_7),
            (-3.5, 0.000_232_629_079_035_525_02),
            (-8.0, 6.220_960_574_271_74e-16),
        ] {
            assert!((cdf(x) - p).abs() <= 1e-13 * p.max(1e-4), "cdf({x}) = {}", cdf(x));
        }
        assert!((quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-12);
        assert!((quantile(1e-6) + 4.753_424_308_822_899).abs() < 1e-10);
        assert_eq!(quantile(1.0), f64::INFINITY);
        assert!(quantile(1.5).is_nan() && cdf(f64::NAN).is_nan());
    }

    proptest! {
        #[test]
        fn quantile_inverts_cdf(p in 1e-9f64..1.0) {
            prop_assert!((cdf(quantile(p)) - p).abs() < 1e-12);
        }
    }
}

//! Student's t distribution: intervals of a mean from few values.

use crate::Interval;

/// Distribution function at `t` with `df` degrees of freedom, by the regularised incomplete beta
/// function (Abramowitz & Stegun 26.7.1 and 26.5.8).
#[must_use]
pub fn cdf(t: f64, df: f64) -> f64 {
    // Both x and 1 - x from t: a difference would leave few digits of a small t.
    let (x, complement) = (df / (df + t * t), t * t / (df + t * t));
    let tail = 0.5 * incomplete_beta(df / 2.0, 0.5, x, complement);
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// The `t` with `cdf(t, df) = p`, by bisection; `NaN` outside 0 < p < 1.
#[must_use]
pub fn quantile(p: f64, df: f64) -> f64 {
    if p.is_nan() || p <= 0.0 || p >= 1.0 {
        return f64::NAN;
    }
    let (mut low, mut high) = (-1.0, 1.0);
    while cdf(low, df) > p {
        low *= 2.0;
    }
    while cdf(high, df) < p {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if cdf(middle, df) < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Mean, standard deviation (n - 1) and interval of the mean at `confidence`; the last two are none
/// of fewer than two values, all are none of nothing.
#[must_use]
pub fn summary(values: &[f64], confidence: f64) -> Option<(f64, Option<f64>, Option<Interval>)> {
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let mean = crate::mean(values);
    if values.len() == 1 {
        return Some((mean, None, None));
    }
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    let deviation = (squares / (n - 1.0)).sqrt();
    let half = quantile(0.5 + confidence / 2.0, n - 1.0) * deviation / n.sqrt();
    Some((mean, Some(deviation), Some(Interval { low: mean - half, high: mean + half })))
}

/// Regularised incomplete beta function at `x` = 1 - `complement`, by its continued fraction
/// (Lentz' method).
fn incomplete_beta(a: f64, b: f64, x: f64, complement: f64) -> f64 {
    if x <= 0.0 || complement <= 0.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    // The fraction converges fast on one side only; the other follows by symmetry.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, complement, x);
    }
    let front =
        (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * complement.ln()).exp();
    let safe = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let (mut c, mut d) = (1.0, 1.0 / safe(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / safe(1.0 + even * d);
        c = safe(1.0 + even / c);
        fraction *= c * d;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / safe(1.0 + odd * d);
        c = safe(1.0 + odd / c);
        let step = c * d;
        fraction *= step;
        if (step - 1.0).abs() < 1e-16 {
            break;
        }
    }
    front * fraction / a
}

/// Logarithm of the gamma function: Stirling's series (Abramowitz & Stegun 6.1.41) after shifting
/// the argument up to where it is exact to 1e-15.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 10.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = (1.0 / 12.0
        - inverse
            * (1.0 / 360.0
                - inverse * (1.0 / 1260.0 - inverse * (1.0 / 1680.0 - inverse / 1188.0))))
        / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// scipy 1.17.1: `scipy.stats.t.ppf(p, df)`.
    #[test]
    fn equals_scipy() {
        for (df, p, t) in [
            (1.0, 0.975, 12.706_204_736_174_694),
            (2.0, 0.975, 4.302_652_729_749_462),
            (4.0, 0.975, 2.776_445_105_197_793_4),
            (9.0, 0.975, 2.262_157_162_798_205),
            (19.0, 0.995, 2.860_934_606_464_979_4),
            (99.0, 0.975, 1.984_216_951_586_417_4),
        ] {
            assert!((quantile(p, df) - t).abs() < 1e-9 * t, "{df}: {}", quantile(p, df));
        }
        assert!(quantile(1.0, 3.0).is_nan());
    }

    #[test]
    fn few_values() {
        assert_eq!(summary(&[], 0.95), None);
        assert_eq!(summary(&[0.4], 0.95), Some((0.4, None, None)));
        let (mean, deviation, interval) = summary(&[1.0, 2.0, 3.0], 0.95).unwrap();
        assert_eq!((mean, deviation), (2.0, Some(1.0)));
        assert!(
            (interval.unwrap().high - (2.0 + 4.302_652_729_749_462 / 3f64.sqrt())).abs() < 1e-9
        );
    }

    proptest! {
        #[test]
        fn quantile_inverts_cdf(p in 0.001f64..0.999, df in 1.0f64..200.0) {
            prop_assert!((cdf(quantile(p, df), df) - p).abs() < 1e-12);
        }

        /// Close to zero the distribution is a straight line through 1/2, as steep as its density
        /// there (df = 2: 1 / (2 sqrt 2)).
        #[test]
        fn small_t_keeps_its_digits(t in 1e-9f64..1e-5) {
            let slope = (cdf(t, 2.0) - 0.5) / t;
            prop_assert!((slope - 8f64.sqrt().recip()).abs() < 1e-16 / t + 1e-9, "{slope}");
        }
    }
}

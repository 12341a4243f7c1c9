//! Ages and sizes, as people write and read them.

use std::time::Duration;

/// `30d`, `12h`, `45m`, `20s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let seconds = units.iter().find_map(|(unit, seconds)| {
        text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(*seconds)
    });
    seconds.map(Duration::from_secs).ok_or_else(|| "write it as 30d, 12h, 45m or 20s".to_owned())
}

/// `20GB`, `1.5GB`, `500MB`, `64kB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let text = text.trim().to_ascii_lowercase();
    let units = [("tb", 1e12), ("gb", 1e9), ("mb", 1e6), ("kb", 1e3), ("b", 1.0)];
    let number = units.iter().find_map(|(unit, scale)| {
        let number = text.strip_suffix(unit)?.trim().parse::<f64>().ok()?;
        (number.is_finite() && number >= 0.0).then_some(number * scale)
    });
    number.map(|n| n as u64).ok_or_else(|| "write it as 20GB, 500MB or 64kB".to_owned())
}

/// Bytes in decimal units.
pub(super) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

/// Seconds as an age: `3d`, `5h`, `12m`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for bad in ["", "d", "-1d", "3", "1w", "99999999999999999999d", "999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(size("1.5GB"), Ok(1_500_000_000));
        assert_eq!(size("64 kB"), Ok(64_000));
        for bad in ["", "GB", "-1GB", "3", "NaNGB", "infGB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!([bytes(999), bytes(1_500), bytes(2_000_000_000)], ["999 B", "1.5 kB", "2.0 GB"]);
        assert_eq!([age(59), age(7_200), age(200_000)], ["59s", "2h", "2d"]);
    }
}

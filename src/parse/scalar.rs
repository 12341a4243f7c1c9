//! The type of a plain scalar by the core schema of YAML 1.2: `no` and `on` are text, `1_000` and `017`
//! are nothing that may be guessed.

use super::yaml::Data;

/// Text that might be meant as a number and is none that every reader would read alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ambiguous {
    pub message: String,
    pub help: String,
}

/// Reads a plain scalar: nothing, a boolean, a number, or text.
///
/// # Errors
/// Returns an error for a number that YAML 1.2 does not have or that cannot be represented.
pub(super) fn read(text: &str) -> Result<Data, Ambiguous> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Ok(Data::Null),
        "true" | "True" | "TRUE" => Ok(Data::Bool(true)),
        "false" | "False" | "FALSE" => Ok(Data::Bool(false)),
        _ => number(text),
    }
}

fn number(text: &str) -> Result<Data, Ambiguous> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned.to_ascii_lowercase().as_str(), ".inf" | ".nan") {
        return ambiguous(text, format!("`{text}` is not finite, and a number must be"));
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|c| c.is_digit(radix))
        {
            return i64::from_str_radix(digits, radix).map(Data::Int).or_else(|_| too_large(text));
        }
    }
    match Decimal::of(unsigned) {
        Some(decimal) if decimal.whole.len() > 1 && decimal.whole.starts_with('0') => ambiguous(
            text,
            format!("`{text}` begins with a zero, so that it could be text or a number"),
        ),
        Some(decimal) if decimal.is_whole => {
            text.parse().map(Data::Int).or_else(|_| too_large(text))
        }
        Some(decimal) => match text.parse::<f64>() {
            Ok(value) if value.is_infinite() => {
                ambiguous(text, format!("`{text}` is too large for a number"))
            }
            Ok(value) if value == 0.0 && !decimal.is_zero() => {
                ambiguous(text, format!("`{text}` is too small for a number: it would become 0"))
            }
            Ok(value) => Ok(Data::Float(value)),
            Err(_) => Ok(Data::Text(text.to_owned())),
        },
        None if is_number_elsewhere(unsigned) => ambiguous(
            text,
            format!("`{text}` is not a number in YAML 1.2, but other programs read it as one"),
        ),
        None => Ok(Data::Text(text.to_owned())),
    }
}

fn too_large(text: &str) -> Result<Data, Ambiguous> {
    ambiguous(text, format!("the whole number `{text}` is beyond {} to {}", i64::MIN, i64::MAX))
}

fn ambiguous(text: &str, message: String) -> Result<Data, Ambiguous> {
    Err(Ambiguous { message, help: format!("write it in quotes if it is text: \"{text}\"") })
}

/// The parts of `12.5e-3` without its sign.
struct Decimal<'a> {
    whole: &'a str,
    fraction: &'a str,
    /// Whether there is neither a point nor an exponent.
    is_whole: bool,
}

impl<'a> Decimal<'a> {
    fn of(unsigned: &'a str) -> Option<Self> {
        let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (unsigned, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let exponent_digits = exponent.map(|e| e.strip_prefix(['+', '-']).unwrap_or(e));
        let good = is_digits(whole)
            && fraction.is_none_or(is_digits)
            && !(whole.is_empty() && fraction.is_none_or(str::is_empty))
            && exponent_digits.is_none_or(|digits| !digits.is_empty() && is_digits(digits));
        good.then(|| Self {
            whole,
            fraction: fraction.unwrap_or_default(),
            is_whole: fraction.is_none() && exponent.is_none(),
        })
    }

    fn is_zero(&self) -> bool {
        self.whole.bytes().chain(self.fraction.bytes()).all(|b| b == b'0')
    }
}

/// Whether YAML 1.1, or the programming languages that a study is written in, read a number: `1_000`,
/// `0b11`, `0X1F`.
fn is_number_elsewhere(unsigned: &str) -> bool {
    let plain = unsigned.replace('_', "").to_ascii_lowercase();
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    let prefixed = [("0x", 16), ("0o", 8), ("0b", 2)].iter().any(|(prefix, radix)| {
        let digits = plain.strip_prefix(prefix);
        digits.is_some_and(|d| !d.is_empty() && d.chars().all(|c| c.is_digit(*radix)))
    });
    prefixed || Decimal::of(&plain).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_core_schema_is_typed() {
        for text in [
            "no",
            "on",
            "y",
            "yes",
            "off",
            "N",
            "NO",
            "tRUE",
            "nil",
            "none",
            "1.2.3",
            "1:30",
            "12:30:45",
            "2024-01-01",
            ".5e3x",
            "e5",
            "1e",
            "0x",
            "0xg",
            "-",
            ".",
            "+",
            "_1",
            "nan",
            "inf",
            "Infinity",
            "1,000",
            "0.0.1",
            "3rd",
        ] {
            assert_eq!(read(text), Ok(Data::Text(text.to_owned())), "{text}");
        }
        for (text, whole) in [
            ("0", 0),
            ("-0", 0),
            ("+5", 5),
            ("0o17", 15),
            ("0x1F", 31),
            ("-9223372036854775808", i64::MIN),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(read(text), Ok(Data::Int(whole)), "{text}");
        }
        for (text, number) in [
            ("3.10", 3.1),
            ("1e2", 100.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1.e3", 1000.0),
            ("-1E-3", -0.001),
            ("0.0", 0.0),
            ("0e9", 0.0),
            ("1234567e8", 1234567e8),
        ] {
            assert_eq!(read(text), Ok(Data::Float(number)), "{text}");
        }
    }

    #[test]
    fn ambiguous_numbers_are_errors() {
        let told = [
            "017",
            "08",
            "-01",
            "00.5",
            "1_000",
            "0b11",
            "0X1F",
            "-0x1F",
            "0x1_F",
            "9223372036854775808",
            "0xFFFFFFFFFFFFFFFFFF",
            "12e4567",
            "1e-400",
            "-.inf",
            ".NaN",
        ]
        .map(|text| read(text).unwrap_err().message);
        insta::assert_snapshot!(told.join("\n"), @r"
        `017` begins with a zero, so that it could be text or a number
        `08` begins with a zero, so that it could be text or a number
        `-01` begins with a zero, so that it could be text or a number
        `00.5` begins with a zero, so that it could be text or a number
        `1_000` is not a number in YAML 1.2, but other programs read it as one
        `0b11` is not a number in YAML 1.2, but other programs read it as one
        `0X1F` is not a number in YAML 1.2, but other programs read it as one
        `-0x1F` is not a number in YAML 1.2, but other programs read it as one
        `0x1_F` is not a number in YAML 1.2, but other programs read it as one
        the whole number `9223372036854775808` is beyond -9223372036854775808 to 9223372036854775807
        the whole number `0xFFFFFFFFFFFFFFFFFF` is beyond -9223372036854775808 to 9223372036854775807
        `12e4567` is too large for a number
        `1e-400` is too small for a number: it would become 0
        `-.inf` is not finite, and a number must be
        `.NaN` is not finite, and a number must be
        ");
        assert_eq!(read("08").unwrap_err().help, "write it in quotes if it is text: \"08\"");
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,12}|[-+0-9a-fxobenE._~]{0,10}") {
            let _ = read(&text);
        }

        #[test]
        fn what_is_text_is_unchanged(text in "[-+0-9a-fxobenE._]{1,10}") {
            if let Ok(Data::Text(read)) = read(&text) {
                prop_assert_eq!(read, text);
            }
        }
    }
}

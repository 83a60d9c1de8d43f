//! Text forms shared by the parser and the printers: Go-style quoting, number and time formats.

use std::fmt::Write as _;

/// A byte of a string literal that is not part of valid UTF-8 is kept as one of these private characters,
/// so that literals stay `String` and the offending byte can still be named in an error.
const STRAY_BYTE: u32 = 0x10_FF00;

/// Makes a string of bytes that a literal's escapes may have made invalid UTF-8.
pub(crate) fn string_from_bytes(mut bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    loop {
        match std::str::from_utf8(bytes) {
            Ok(rest) => {
                out.push_str(rest);
                return out;
            }
            Err(error) => {
                let (valid, rest) = bytes.split_at(error.valid_up_to());
                out.push_str(&String::from_utf8_lossy(valid));
                if let Some((&stray, rest)) = rest.split_first() {
                    out.extend(char::from_u32(STRAY_BYTE + u32::from(stray)));
                    bytes = rest;
                }
            }
        }
    }
}

fn stray_byte(c: char) -> Option<u8> {
    u8::try_from(u32::from(c).checked_sub(STRAY_BYTE)?).ok()
}

/// Whether a label or metric name is acceptable under Prometheus 3's UTF-8 rule: not empty, valid UTF-8.
pub(crate) fn is_valid_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| stray_byte(c).is_some())
}

/// Whether a label name needs no quotes: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub(crate) fn is_plain_label_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Double-quotes `text` as Go's `%q` does.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            c if c.is_ascii_control() => _ = write!(out, "\\x{:02x}", u32::from(c)),
            c => match stray_byte(c) {
                Some(byte) => _ = write!(out, "\\x{byte:02x}"),
                None => out.push(c),
            },
        }
    }
    out.push('"');
    out
}

/// A sample value as the HTTP API and label values show it: the shortest digits that read back the same,
/// never an exponent (`NaN`, `+Inf`, `-Inf` for the rest).
pub fn format_float(value: f64) -> String {
    let mut out = String::new();
    write_float(&mut out, value);
    out
}

/// A sample value as the JSON of the HTTP API shows it: like [`format_float`], but with an exponent of at
/// least two digits below 1e-6 and from 1e21 on.
pub fn format_json_float(value: f64) -> String {
    let mut out = String::new();
    write_json_float(&mut out, value);
    out
}

/// Whole numbers up to here are exact.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

fn write_float(out: &mut String, value: f64) {
    let magnitude = value.abs();
    if magnitude < MAX_WHOLE && value == value.trunc() && !(value == 0.0 && value.is_sign_negative()) {
        out.push_str(itoa::Buffer::new().format(value as i64));
    } else if (1e-4..MAX_WHOLE).contains(&magnitude) {
        // Of two shortest forms that are as near, the even one, as in Go; `Display` gives the other.
        out.push_str(zmij::Buffer::new().format_finite(value));
    } else if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        let _ = write!(out, "{value}");
    }
}

/// Appends what [`format_json_float`] gives.
pub fn write_json_float(out: &mut String, value: f64) {
    let magnitude = value.abs();
    if magnitude == 0.0 || !magnitude.is_finite() || (1e-6..1e21).contains(&magnitude) {
        write_float(out, value);
    } else {
        out.push_str(&with_exponent(value));
    }
}

/// A number in the shortest form, with an exponent where that is below -4 or above 5: Go's `%g` and `%v`.
pub(crate) fn format_general(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 || !magnitude.is_finite() || (1e-4..1e6).contains(&magnitude) {
        return format_float(value);
    }
    with_exponent(value)
}

/// `1.5e-07`: at least two digits of exponent, always signed.
fn with_exponent(value: f64) -> String {
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(rest) => ('-', rest),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Two significant digits: Go's `%.2g`.
pub(crate) fn format_two_digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format_float(value);
    }
    let rounded: f64 = format!("{value:.1e}").parse().unwrap_or(value);
    if (1e-4..100.0).contains(&rounded.abs()) { format_float(rounded) } else { with_exponent(rounded) }
}

/// A time in milliseconds since 1970 as RFC 3339 has it, in UTC: `2026-11-21T08:00:00Z`.
pub(crate) fn format_time(time_ms: i64) -> String {
    let seconds = time_ms.div_euclid(1000) as f64;
    let crate::date::Date { year, month, day } = crate::date::Date::of(seconds);
    let second = crate::date::second_of_day(seconds);
    let fraction = match time_ms.rem_euclid(1000) {
        0 => String::new(),
        ms => format!(".{ms:03}").trim_end_matches('0').to_owned(),
    };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_go_prints_them() {
        for (value, plain, json) in [
            (0.0, "0", "0"),
            (-0.0, "-0", "-0"),
            (1.5, "1.5", "1.5"),
            (1e-7, "0.0000001", "1e-07"),
            (1e21, "1000000000000000000000", "1e+21"),
            (123_456_789.0, "123456789", "123456789"),
            (0.000_012_3, "0.0000123", "0.0000123"),
            (-0.000_001_23, "-0.00000123", "-0.00000123"),
            (9_007_199_254_740_991.0, "9007199254740991", "9007199254740991"),
            (-4e15 - 0.5, "-4000000000000000.5", "-4000000000000000.5"),
            (1e16, "10000000000000000", "10000000000000000"),
            (-27_606_911_456_938.312, "-27606911456938.312", "-27606911456938.312"),
            (27_606_911_456_938.438, "27606911456938.438", "27606911456938.438"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NAN, "NaN", "NaN"),
        ] {
            assert_eq!(format_float(value), plain);
            assert_eq!(format_json_float(value), json);
        }
    }

    proptest::proptest! {
        #[test]
        fn floats_of_any_size_print_as_their_shortest_decimal(bits in proptest::prelude::any::<u64>(), scale in -8i32..22) {
            let value = f64::from_bits(bits);
            let near_one = (bits % 1_000_000) as f64 * 10f64.powi(scale - 6);
            for value in [value, near_one, near_one.trunc(), -near_one] {
                if value.is_nan() {
                    continue;
                }
                // As many digits as the standard library needs, and the same number.
                let digits = |text: &str| {
                    let mantissa = text.split('e').next().unwrap_or_default();
                    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
                    digits.trim_start_matches('0').trim_end_matches('0').len()
                };
                for text in [format_float(value), format_json_float(value)] {
                    proptest::prop_assert_eq!(text.parse::<f64>(), Ok(value));
                    proptest::prop_assert_eq!(digits(&text), digits(&format!("{value:e}")), "{}", text);
                }
            }
        }
    }

    #[test]
    fn times_and_rough_numbers_print_as_go_prints_them() {
        assert_eq!(format_time(1_795_248_000_250), "2026-11-21T08:00:00.25Z");
        assert_eq!(format_time(-1), "1969-12-31T23:59:59.999Z");
        for (value, text) in [(0.0, "0"), (1.0, "1"), (12.34, "12"), (0.0123, "0.012"), (123.4, "1.2e+02")] {
            assert_eq!(format_two_digits(value), text);
        }
    }

    #[test]
    fn stray_bytes_survive_into_the_quoted_form() {
        assert_eq!(quote(&string_from_bytes(b"a\xc5z\n")), r#""a\xc5z\n""#);
        assert!(!is_valid_name(&string_from_bytes(b"\xff")));
        assert!(is_valid_name("http.status"));
    }
}

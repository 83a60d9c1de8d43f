//! Durations as Prometheus writes them: in queries, configuration files, API parameters and Pharos' own settings.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Units in falling order with their lengths in milliseconds; a year has 365 days.
const UNITS: [(&str, i64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Go keeps durations in nanoseconds; what does not fit there is out of range.
const MAX_MS: i64 = i64::MAX / 1_000_000;

/// A text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDurationError {
    #[error("empty duration string")]
    Empty,
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    #[error("duration out of range")]
    OutOfRange,
}

/// Reads `1h30m` or `0` into milliseconds: units `y w d h m s ms`, each at most once, in falling order.
pub fn parse_duration_ms(text: &str) -> Result<i64, ParseDurationError> {
    let invalid = || ParseDurationError::Invalid(text.to_owned());
    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err(ParseDurationError::Empty);
    }
    let mut units = UNITS.iter();
    let mut rest = text;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (count, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        if count.is_empty() {
            return Err(invalid());
        }
        let &(_, length_ms) = units.by_ref().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        total = count
            .parse::<i64>()
            .ok()
            .and_then(|count| count.checked_mul(length_ms))
            .and_then(|part| total.checked_add(part))
            .filter(|sum| *sum <= MAX_MS)
            .ok_or(ParseDurationError::OutOfRange)?;
        rest = tail;
    }
    Ok(total)
}

/// Milliseconds as Prometheus prints them: `1h30m`, `0s`, `-5m`.
pub fn format_duration_ms(duration_ms: i64) -> String {
    if duration_ms == 0 {
        return "0s".into();
    }
    let mut out = String::from(if duration_ms < 0 { "-" } else { "" });
    let mut rest = duration_ms.unsigned_abs();
    for (unit, length_ms) in UNITS {
        let length_ms = length_ms.unsigned_abs();
        // Years and weeks appear only when they divide what is left.
        if matches!(unit, "y" | "w") && !rest.is_multiple_of(length_ms) {
            continue;
        }
        let count = rest / length_ms;
        if count > 0 {
            out.push_str(&format!("{count}{unit}"));
            rest -= count * length_ms;
        }
    }
    out
}

/// A duration that YAML, JSON or a command line gives in Prometheus' form: whole milliseconds, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromDuration(pub Duration);

impl PromDuration {
    pub fn millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl FromStr for PromDuration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<PromDuration, ParseDurationError> {
        parse_duration_ms(text).map(|ms| PromDuration(Duration::from_millis(ms.unsigned_abs())))
    }
}

impl fmt::Display for PromDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_duration_ms(self.millis()))
    }
}

impl<'de> Deserialize<'de> for PromDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PromDuration, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error| D::Error::custom(format!("{error}; a duration is such as 15s or 1h30m")))
    }
}

impl Serialize for PromDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_in_prometheus() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("1ms", 1),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("2w", 1_209_600_000),
            ("8d", 691_200_000),
            ("1y2w3d4h5m6s7ms", 33_019_506_007),
        ] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (90_000, "1m30s"),
            (1_209_600_000, "2w"),
            (691_200_000, "8d"),
            (-300_000, "-5m"),
        ] {
            assert_eq!(format_duration_ms(ms), text);
        }
        for bad in ["", "5", "m", "5m5h", "5m5m", "1.5h", "5 m", "-5m", "9999999999y", "3 fortnights"] {
            assert!(parse_duration_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_configured_duration_names_what_it_cannot_read() {
        let read: PromDuration = "1m30s".parse().expect("valid");
        assert_eq!((read.0, read.to_string()), (Duration::from_secs(90), "1m30s".into()));
        let error = "5 m".parse::<PromDuration>().expect_err("a blank").to_string();
        assert!(error.contains("\"5 m\""), "{error}");
    }
}

//! The small values that recur: durations and string matches.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::time::Duration;

/// A duration in Go's notation, which protobuf's `1.5s` is a part of: `500ms`, `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationText(pub Duration);

/// A hundred years: no sum of times that people write overflows a clock.
const MAX_SECONDS: f64 = 100.0 * 365.25 * 86_400.0;

impl DurationText {
    fn parse(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self(Duration::ZERO));
        }
        let mut rest = text;
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
            let number: f64 = rest.get(..digits)?.parse().ok()?;
            rest = rest.get(digits..)?;
            let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            let (unit, tail) = rest.split_at_checked(unit_len)?;
            seconds += number
                * match unit {
                    "h" => 3600.0,
                    "m" => 60.0,
                    "s" => 1.0,
                    "ms" => 1e-3,
                    "us" | "µs" => 1e-6,
                    "ns" => 1e-9,
                    _ => return None,
                };
            rest = tail;
        }
        let in_range = !text.is_empty() && seconds <= MAX_SECONDS;
        if in_range { Duration::try_from_secs_f64(seconds).ok().map(Self) } else { None }
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a duration such as 500ms or 1.5s")))
    }
}

/// How a header, path or parameter is compared. `{}` asks for presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringMatch {
    Exact(String),
    Prefix(String),
    Regex(String),
    Present,
}

impl<'de> Deserialize<'de> for StringMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            exact: Option<String>,
            prefix: Option<String>,
            regex: Option<String>,
        }
        let fields = Fields::deserialize(deserializer)?;
        match (fields.exact, fields.prefix, fields.regex) {
            (Some(text), None, None) => Ok(Self::Exact(text)),
            (None, Some(text), None) => Ok(Self::Prefix(text)),
            // The bare star is not a valid expression; Istio reads it as presence.
            (None, None, Some(text)) if text == "*" => Ok(Self::Present),
            (None, None, Some(text)) => Ok(Self::Regex(text)),
            (None, None, None) => Ok(Self::Present),
            _ => Err(D::Error::custom("only one of exact, prefix and regex may be set")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_gos_notation() {
        for (text, expected) in [
            ("500ms", Some(500_000)),
            ("1.5s", Some(1_500_000)),
            ("1h30m", Some(5_400_000_000)),
            ("0s", Some(0)),
            ("0", Some(0)),
            ("10us", Some(10)),
            ("5", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("1 s", None),
            ("99999999h", None),
        ] {
            let got = DurationText::parse(text).map(|d| d.0.as_micros());
            assert_eq!(got, expected, "{text}");
        }
    }
}

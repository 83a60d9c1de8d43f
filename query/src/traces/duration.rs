//! Durations as Go writes them: `1.5s`, `300us`, `1h2m`.

/// Nanoseconds, or `None` for text that is no duration; a unit is needed unless the number is 0.
pub(crate) fn parse_go_duration_ns(text: &str) -> Option<i64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|ch: char| !ch.is_ascii_digit() && ch != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        let after = rest.get(digits..)?;
        let (unit, unit_ns) = [
            ("ns", 1.0),
            ("us", 1e3),
            ("µs", 1e3),
            ("μs", 1e3),
            ("ms", 1e6),
            ("s", 1e9),
            ("m", 6e10),
            ("h", 3.6e12),
        ]
        .into_iter()
        .find(|(unit, _)| after.starts_with(unit))?;
        total += number * unit_ns;
        rest = after.get(unit.len()..)?;
    }
    (total < 9.2e18).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, ns) in [
            ("1.5s", Some(1_500_000_000)),
            ("300us", Some(300_000)),
            ("1h2m", Some(3_720_000_000_000)),
            ("5ms", Some(5_000_000)),
            ("12000ns", Some(12_000)),
            ("0", Some(0)),
            ("5", None),
            ("", None),
            ("ms", None),
            ("-1s", None),
            ("1e9s", None),
        ] {
            assert_eq!(parse_go_duration_ns(text), ns, "{text}");
        }
    }
}

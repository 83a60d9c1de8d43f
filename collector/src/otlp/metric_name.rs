//! Names as Prometheus gives them to OTLP data: its default translation, underscores with suffixes.
//! Rules: prometheus/otlptranslator; the unit table is OpenTelemetry's "Prometheus and OpenMetrics compatibility".

use super::config::Strategy;

/// What of a metric decides its suffixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suffix {
    /// `_total`
    MonotonicSum,
    /// `_ratio` for the unit `1`
    Gauge,
    Other,
}

/// `http.server.duration` with unit `s` becomes `http_server_duration_seconds`, if names are escaped and get suffixes.
pub(super) fn metric_name(name: &str, unit: &str, suffix: Suffix, strategy: Strategy) -> String {
    match (strategy.escapes(), strategy.adds_suffixes()) {
        (true, true) => escaped_with_suffixes(name, unit, suffix),
        (true, false) => {
            let words = name.split(|ch: char| !ch.is_ascii_alphanumeric() && ch != ':');
            not_a_number(words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_"))
        }
        (false, true) => with_suffixes(name, unit, suffix),
        (false, false) => name.to_string(),
    }
}

/// Suffixes that are there already are not said twice.
fn with_suffixes(name: &str, unit: &str, suffix: Suffix) -> String {
    let without = |name: &str, suffix: &str| match name.strip_suffix(suffix) {
        Some(rest) if rest.len() > 1 => rest.get(..rest.len() - 1).unwrap_or(name).to_string(),
        _ => name.to_string(),
    };
    let words = unit_words(unit);
    let (main, per): (Vec<&String>, Vec<&String>) = words.iter().partition(|word| !word.starts_with("per_"));
    let last = match suffix {
        Suffix::MonotonicSum => "total",
        Suffix::Gauge if unit == "1" => "ratio",
        _ => "",
    };
    let suffixes: Vec<&str> =
        per.into_iter().map(String::as_str).chain([last]).filter(|word| !word.is_empty()).collect();
    let mut out = suffixes.iter().rev().fold(name.to_string(), |name, suffix| without(&name, suffix));
    if let Some(main) = main.first().filter(|main| !out.ends_with(main.as_str())) {
        out = format!("{out}_{main}");
    }
    suffixes.iter().fold(out, |name, suffix| format!("{name}_{suffix}"))
}

fn not_a_number(name: String) -> String {
    if name.starts_with(|ch: char| ch.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn escaped_with_suffixes(name: &str, unit: &str, suffix: Suffix) -> String {
    let mut tokens: Vec<String> = name
        .split(|ch: char| !ch.is_ascii_alphanumeric() && ch != ':')
        .filter(|t| !t.is_empty())
        .map(Into::into)
        .collect();
    for word in unit_words(unit) {
        if !tokens.contains(&word) {
            tokens.push(word);
        }
    }
    let mut move_last = |word: &str| {
        tokens.retain(|token| token != word);
        tokens.push(word.to_string());
    };
    match suffix {
        Suffix::MonotonicSum => move_last("total"),
        Suffix::Gauge if unit == "1" => move_last("ratio"),
        _ => {}
    }
    not_a_number(tokens.join("_"))
}

/// The unit as words of the metric's name: `By/s` is `bytes`, `per_second`. Annotations in braces tell nothing.
fn unit_words(unit: &str) -> Vec<String> {
    let (main, per) = unit.split_once('/').map_or((unit, ""), |(main, per)| (main, per));
    let mut words = Vec::new();
    let main = main.trim();
    if !main.is_empty() && !main.contains(['{', '}']) {
        words.push(clean(unit_name(main)));
    }
    let per = per.trim();
    if !per.is_empty() && !per.contains(['{', '}']) {
        words.push(format!("per_{}", clean(per_unit_name(per))));
    }
    words.retain(|word| !word.is_empty() && word != "per_");
    words
}

pub(super) fn unit_text(unit: &str) -> String {
    unit_words(unit).join("_")
}

fn clean(unit: &str) -> String {
    let words: Vec<&str> = unit
        .split(|ch: char| !ch.is_ascii_alphanumeric() && ch != ':')
        .filter(|word| !word.is_empty())
        .collect();
    words.join("_")
}

fn unit_name(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    }
}

fn per_unit_name(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}

/// `http.method` becomes `http_method`; a name that would start with a digit gets `key_`, and one that would start with
/// a lone underscore `key` where underscores are `sanitized`.
pub(super) fn label_name(key: &str, sanitized: bool, keep_underscores: bool) -> String {
    let mut name: String =
        key.chars().map(|ch| if ch.is_ascii_alphanumeric() || ch == '_' { ch } else { '_' }).collect();
    let reserved = name.starts_with("__") && name.ends_with("__") && name.len() > 4;
    if !keep_underscores && !reserved {
        while name.contains("__") {
            name = name.replace("__", "_");
        }
    }
    match name.as_bytes() {
        [b'0'..=b'9', ..] => format!("key_{name}"),
        [b'_', b'_', ..] | [] => name,
        [b'_', ..] if sanitized => format!("key{name}"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names() {
        let check = |name: &str, unit: &str, suffix, expected: &str| {
            let strategy = Strategy::UnderscoreEscapingWithSuffixes;
            assert_eq!(metric_name(name, unit, suffix, strategy), expected, "{name} {unit} {suffix:?}");
        };
        check("http.server.duration", "s", Suffix::Other, "http_server_duration_seconds");
        check("http.server.duration.seconds", "s", Suffix::Other, "http_server_duration_seconds");
        check("system.io", "By", Suffix::MonotonicSum, "system_io_bytes_total");
        check("requests.total.count", "{request}", Suffix::MonotonicSum, "requests_count_total");
        check("requests", "1", Suffix::MonotonicSum, "requests_total");
        check("memory.utilization", "1", Suffix::Gauge, "memory_utilization_ratio");
        check("memory.utilization", "1", Suffix::Other, "memory_utilization");
        check("network.rate", "By/s", Suffix::Gauge, "network_rate_bytes_per_second");
        check("packets", "{packet}/s", Suffix::Gauge, "packets_per_second");
        check("cpu.load", "%", Suffix::Gauge, "cpu_load_percent");
        check("__odd..name__", "", Suffix::Gauge, "odd_name");
        check("3xx.count", "", Suffix::Gauge, "_3xx_count");
        check("rule:already_here", "foo-bar", Suffix::Gauge, "rule:already_here_foo_bar");
    }

    #[test]
    fn other_strategies() {
        use Strategy::{NoTranslation, NoUtf8EscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes};
        for (name, unit, suffix, without, utf8) in [
            ("http.duration", "s", Suffix::Other, "http_duration", "http.duration_seconds"),
            ("http.seconds", "s", Suffix::Other, "http_seconds", "http.seconds"),
            ("io.total", "By", Suffix::MonotonicSum, "io_total", "io_bytes_total"),
            ("3.used", "1", Suffix::Gauge, "_3_used", "3.used_ratio"),
            ("rate", "By/s", Suffix::MonotonicSum, "rate", "rate_bytes_per_second_total"),
        ] {
            assert_eq!(metric_name(name, unit, suffix, UnderscoreEscapingWithoutSuffixes), without);
            assert_eq!(metric_name(name, unit, suffix, NoUtf8EscapingWithSuffixes), utf8);
            assert_eq!(metric_name(name, unit, suffix, NoTranslation), name);
        }
    }

    #[test]
    fn label_names() {
        let check = |key: &str, expected: &str| assert_eq!(label_name(key, true, true), expected);
        check("http.method", "http_method");
        check("3xx", "key_3xx");
        check("_private", "key_private");
        check("__reserved", "__reserved");
        assert_eq!(label_name("_a..b", false, false), "_a_b");
    }
}

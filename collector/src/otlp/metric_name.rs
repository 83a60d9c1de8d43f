//! Names as Prometheus gives them to OTLP data: its default translation, underscores with suffixes.
//! Rules: prometheus/otlptranslator; the unit table is OpenTelemetry's "Prometheus and OpenMetrics compatibility".

/// What of a metric decides its suffixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suffix {
    /// `_total`
    MonotonicSum,
    /// `_ratio` for the unit `1`
    Gauge,
    Other,
}

/// `http.server.duration` with unit `s` becomes `http_server_duration_seconds`.
pub(super) fn metric_name(name: &str, unit: &str, suffix: Suffix) -> String {
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
    let joined = tokens.join("_");
    if joined.starts_with(|ch: char| ch.is_ascii_digit()) { format!("_{joined}") } else { joined }
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

/// `http.method` becomes `http_method`; a name that would start with a digit or a lone underscore gets `key`.
pub(super) fn label_name(key: &str) -> String {
    let name: String =
        key.chars().map(|ch| if ch.is_ascii_alphanumeric() || ch == '_' { ch } else { '_' }).collect();
    match name.as_bytes() {
        [b'0'..=b'9', ..] => format!("key_{name}"),
        [b'_', b'_', ..] | [] => name,
        [b'_', ..] => format!("key{name}"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names() {
        let check = |name: &str, unit: &str, suffix, expected: &str| {
            assert_eq!(metric_name(name, unit, suffix), expected, "{name} {unit} {suffix:?}");
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
    fn label_names() {
        let check = |key: &str, expected: &str| assert_eq!(label_name(key), expected);
        check("http.method", "http_method");
        check("3xx", "key_3xx");
        check("_private", "key_private");
        check("__reserved", "__reserved");
    }
}

use pharos_model::MetricKind;

/// Which of the two text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text 0.0.4 and 1.0.0: times in milliseconds.
    Text,
    /// Times in seconds, `# UNIT`, exemplars, a closing `# EOF`.
    OpenMetrics,
}

impl Format {
    /// By `Content-Type`; a type that is missing or unknown is read as plain text.
    pub(crate) fn of_content_type(content_type: &str) -> Format {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/openmetrics-text" => Format::OpenMetrics,
            _ => Format::Text,
        }
    }
}

/// A line of an exposition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Entry<'a> {
    /// Still escaped.
    Help {
        family: &'a str,
        text: &'a str,
    },
    Type {
        family: &'a str,
        kind: MetricKind,
    },
    Unit {
        family: &'a str,
        unit: &'a str,
    },
    Sample(SampleLine<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SampleLine<'a> {
    /// Name and labels as they were written: the same text is the same series.
    pub(crate) series: &'a str,
    pub(crate) value: f64,
    pub(crate) time_ms: Option<i64>,
    pub(crate) exemplar: Option<ExemplarText<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ExemplarText<'a> {
    /// With its braces.
    pub(crate) labels: &'a str,
    pub(crate) value: f64,
    pub(crate) time_ms: Option<i64>,
}

/// The whole exposition is refused at its first fault, as Prometheus does: a scrape counts or it does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub(crate) struct ParseError {
    pub(crate) line: usize,
    pub(crate) message: String,
}

pub(crate) fn parse<'a>(
    text: &'a str,
    format: Format,
    mut each: impl FnMut(Entry<'a>) -> Result<(), String>,
) -> Result<(), ParseError> {
    let mut ended = false;
    let mut number = 0;
    for line in text.split('\n') {
        number += 1;
        let line = line.trim_matches([' ', '\t', '\r']);
        let at = |message: String| ParseError { line: number, message };
        if line.is_empty() {
            continue;
        }
        if ended {
            return Err(at("data follows # EOF".into()));
        }
        match line.strip_prefix('#') {
            Some(comment) => {
                let (entry, eof) = comment_entry(comment, format).map_err(at)?;
                ended = eof;
                if let Some(entry) = entry {
                    each(entry).map_err(at)?;
                }
            }
            None => each(Entry::Sample(sample(line, format).map_err(at)?)).map_err(at)?,
        }
    }
    match format {
        Format::OpenMetrics if !ended => {
            Err(ParseError { line: number, message: "the data does not end with # EOF".into() })
        }
        _ => Ok(()),
    }
}

/// The entry of a `#` line, and whether it is the closing one.
fn comment_entry(comment: &str, format: Format) -> Result<(Option<Entry<'_>>, bool), String> {
    let comment = comment.trim_start_matches([' ', '\t']);
    if format == Format::OpenMetrics && comment == "EOF" {
        return Ok((None, true));
    }
    let (keyword, rest) = split_word(comment);
    if !matches!(keyword, "HELP" | "TYPE" | "UNIT") {
        return Ok((None, false));
    }
    let (family, value) = match rest.strip_prefix('"') {
        Some(quoted) => {
            let end = closing_quote(quoted).ok_or("a family's quoted name does not end")?;
            let (family, value) = quoted.split_at(end);
            (family, value.get(1..).unwrap_or_default().trim_start())
        }
        None => split_word(rest),
    };
    if family.is_empty() {
        return Err(format!("# {keyword} names no metric"));
    }
    let entry = match keyword {
        "HELP" => Entry::Help { family, text: value },
        "UNIT" => Entry::Unit { family, unit: value },
        _ => Entry::Type { family, kind: kind_of(value)? },
    };
    Ok((Some(entry), false))
}

fn kind_of(name: &str) -> Result<MetricKind, String> {
    Ok(match name {
        "counter" => MetricKind::Counter,
        "gauge" => MetricKind::Gauge,
        "histogram" => MetricKind::Histogram,
        "gaugehistogram" => MetricKind::GaugeHistogram,
        "summary" => MetricKind::Summary,
        "info" => MetricKind::Info,
        "stateset" => MetricKind::StateSet,
        "unknown" | "untyped" => MetricKind::Unknown,
        other => return Err(format!("{other:?} is no metric type")),
    })
}

fn sample(line: &str, format: Format) -> Result<SampleLine<'_>, String> {
    let end = series_end(line)?;
    let (series, rest) = line.split_at(end);
    let (value, rest) = split_word(rest.trim_start_matches([' ', '\t']));
    if value.is_empty() {
        return Err(format!("series {series:?} has no value"));
    }
    let value = parse_value(value).ok_or_else(|| format!("{value:?} is no value of {series:?}"))?;
    let (time, exemplar) = match rest.split_once('#') {
        Some((time, exemplar)) if format == Format::OpenMetrics => {
            (time.trim_end(), Some(parse_exemplar(exemplar)?))
        }
        _ => (rest, None),
    };
    let time_ms = match time {
        "" => None,
        text => {
            Some(parse_time(text, format).ok_or_else(|| format!("{text:?} is no timestamp of {series:?}"))?)
        }
    };
    Ok(SampleLine { series, value, time_ms, exemplar })
}

/// Where the series' text ends: behind its braces, or its name.
fn series_end(line: &str) -> Result<usize, String> {
    let bytes = line.as_bytes();
    let name_end = bytes.iter().position(|b| matches!(b, b'{' | b' ' | b'\t')).unwrap_or(bytes.len());
    let first = bytes.first().copied().unwrap_or_default();
    if !(first.is_ascii_alphabetic() || matches!(first, b'_' | b':' | b'{') || first >= 0x80) {
        return Err(format!("{:?} is no start of a series", shortened(line)));
    }
    // Spaces may stand between the name and the brace.
    let brace =
        bytes.iter().skip(name_end).position(|b| !matches!(b, b' ' | b'\t')).map(|skip| name_end + skip);
    match brace.filter(|at| bytes.get(*at) == Some(&b'{')) {
        Some(start) => {
            braces_end(bytes, start).ok_or_else(|| format!("the labels of {:?} do not end", shortened(line)))
        }
        None => Ok(name_end),
    }
}

/// Behind the brace that closes the one at `start`; braces in quotes do not count.
fn braces_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut quoted = false;
    let mut index = start + 1;
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'\\' if quoted => index += 1,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(index + 1),
            _ => {}
        }
        index += 1;
    }
    None
}

/// Index of the quote that ends `text`, which began behind one.
pub(super) fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut index = 0;
    loop {
        match bytes.get(index)? {
            b'\\' => index += 2,
            b'"' => return Some(index),
            _ => index += 1,
        }
    }
}

fn parse_exemplar(text: &str) -> Result<ExemplarText<'_>, String> {
    let text = text.trim_start();
    let end = text
        .starts_with('{')
        .then(|| braces_end(text.as_bytes(), 0))
        .flatten()
        .ok_or_else(|| format!("{:?} is no exemplar", shortened(text)))?;
    let (labels, rest) = text.split_at(end);
    let (value, time) = split_word(rest.trim_start());
    let value = parse_value(value).ok_or_else(|| format!("{value:?} is no value of an exemplar"))?;
    let time_ms = match time {
        "" => None,
        time => Some(
            parse_time(time, Format::OpenMetrics)
                .ok_or_else(|| format!("{time:?} is no timestamp of an exemplar"))?,
        ),
    };
    Ok(ExemplarText { labels, value, time_ms })
}

fn parse_value(text: &str) -> Option<f64> {
    // Most values are small whole numbers.
    if text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.bytes().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0')) as f64);
    }
    text.parse().ok()
}

fn parse_time(text: &str, format: Format) -> Option<i64> {
    match format {
        Format::Text => text.parse().ok(),
        Format::OpenMetrics => {
            let seconds: f64 = text.parse().ok()?;
            let ms = (seconds * 1_000.0).round();
            (ms.is_finite() && ms.abs() < 9.0e15).then_some(ms as i64)
        }
    }
}

fn split_word(text: &str) -> (&str, &str) {
    match text.split_once([' ', '\t']) {
        Some((word, rest)) => (word, rest.trim_start_matches([' ', '\t'])),
        None => (text, ""),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

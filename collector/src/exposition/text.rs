use pharos_model::{MetricKind, NativeHistogram};

/// Which of the two text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextFormat {
    /// Text 0.0.4 and 1.0.0: times in milliseconds, spaces where one likes.
    Plain,
    /// Times in seconds, `# UNIT`, exemplars, a closing `# EOF`, and every space where it belongs.
    OpenMetrics,
}

/// A line of an exposition. What is said of families lives as long as the exposition, samples for the call alone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry<'a, 'b> {
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
    Sample(SampleLine<'b>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SampleLine<'a> {
    /// Name and labels as they were written: the same text is the same series.
    pub(crate) series: &'a str,
    pub(crate) value: SampleValue,
    pub(crate) time_ms: Option<i64>,
    /// When it began to count; in text a series of its own says so.
    pub(crate) start_ms: Option<i64>,
    pub(crate) exemplars: Vec<ExemplarText<'a>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SampleValue {
    Float(f64),
    /// Only in protobuf.
    Histogram(Box<NativeHistogram>),
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
#[error("{place}: {message}")]
pub(crate) struct ParseError {
    /// A line, or a message.
    pub(crate) place: String,
    pub(crate) message: String,
}

pub(crate) fn parse<'a>(
    text: &'a str,
    format: TextFormat,
    mut each: impl FnMut(Entry<'a, '_>) -> Result<(), String>,
) -> Result<(), ParseError> {
    let strict = format == TextFormat::OpenMetrics;
    let mut ended = false;
    let mut number = 0;
    let mut lines = text.split('\n').peekable();
    while let Some(line) = lines.next() {
        // What follows the last line break is no line.
        if line.is_empty() && lines.peek().is_none() {
            break;
        }
        number += 1;
        let at = |message: String| ParseError { place: format!("line {number}"), message };
        let line = if strict { line } else { line.trim_matches([' ', '\t', '\r']) };
        if ended {
            return Err(at("data follows # EOF".into()));
        }
        if line.is_empty() {
            if strict {
                return Err(at("an empty line".into()));
            }
            continue;
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
        TextFormat::OpenMetrics if !ended => Err(ParseError {
            place: format!("line {number}"),
            message: "the data does not end with # EOF".into(),
        }),
        _ => Ok(()),
    }
}

/// The entry of a `#` line, and whether it is the closing one.
fn comment_entry(comment: &str, format: TextFormat) -> Result<(Option<Entry<'_, '_>>, bool), String> {
    let strict = format == TextFormat::OpenMetrics;
    if strict && comment == " EOF" {
        return Ok((None, true));
    }
    let comment = match strict {
        true => comment.strip_prefix(' ').unwrap_or_default(),
        false => comment.trim_start_matches([' ', '\t']),
    };
    let (keyword, rest) = split_word(comment, strict);
    let known = matches!(keyword, "HELP" | "TYPE") || (keyword == "UNIT" && strict);
    if !known {
        // Other comments are free in plain text, and not foreseen in OpenMetrics.
        return match strict {
            true => Err(format!("{:?} is neither HELP, TYPE, UNIT nor EOF", shortened(comment))),
            false => Ok((None, false)),
        };
    }
    let (family, value) = match rest.strip_prefix('"') {
        Some(quoted) => {
            let end = closing_quote(quoted).ok_or("a family's quoted name does not end")?;
            let (family, value) = quoted.split_at(end);
            let value = value.get(1..).unwrap_or_default();
            (family, if strict { value.strip_prefix(' ').unwrap_or(value) } else { value.trim_start() })
        }
        None => {
            let (family, value) = split_word(rest, strict);
            if name_length(family) < family.len() || family.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(format!("{:?} is no name of a metric", shortened(family)));
            }
            (family, value)
        }
    };
    if family.is_empty() {
        return Err(format!("# {keyword} names no metric"));
    }
    let entry = match keyword {
        "HELP" => Entry::Help { family, text: value },
        "UNIT" => {
            let is_suffix = family.strip_suffix(value).is_some_and(|rest| rest.ends_with('_'));
            if !value.is_empty() && !is_suffix {
                return Err(format!("unit {value:?} is not a suffix of metric {family:?}"));
            }
            Entry::Unit { family, unit: value }
        }
        _ => Entry::Type { family, kind: kind_of(value, strict)? },
    };
    Ok((Some(entry), false))
}

fn kind_of(name: &str, openmetrics: bool) -> Result<MetricKind, String> {
    Ok(match name {
        "counter" => MetricKind::Counter,
        "gauge" => MetricKind::Gauge,
        "histogram" => MetricKind::Histogram,
        "gaugehistogram" => MetricKind::GaugeHistogram,
        "summary" => MetricKind::Summary,
        "info" => MetricKind::Info,
        "stateset" => MetricKind::StateSet,
        "unknown" => MetricKind::Unknown,
        "untyped" if !openmetrics => MetricKind::Unknown,
        other => return Err(format!("{other:?} is no metric type")),
    })
}

fn sample(line: &str, format: TextFormat) -> Result<SampleLine<'_>, String> {
    let strict = format == TextFormat::OpenMetrics;
    let end = series_end(line)?;
    let (series, rest) = line.split_at(end);
    let rest = match strict {
        true => rest.strip_prefix(' ').ok_or_else(|| format!("one space must follow series {series:?}"))?,
        false => rest.trim_start_matches([' ', '\t']),
    };
    let (value, rest) = split_word(rest, strict);
    if value.is_empty() {
        return Err(format!("series {series:?} has no value"));
    }
    let value = parse_value(value).ok_or_else(|| format!("{value:?} is no value of {series:?}"))?;
    let (time, exemplar) = match rest.split_once('#') {
        Some((time, exemplar)) if strict => (time.trim_end_matches(' '), Some(parse_exemplar(exemplar)?)),
        _ => (rest, None),
    };
    let time_ms = match time {
        "" => None,
        text => {
            Some(parse_time(text, format).ok_or_else(|| format!("{text:?} is no timestamp of {series:?}"))?)
        }
    };
    Ok(SampleLine {
        series,
        value: SampleValue::Float(value),
        time_ms,
        start_ms: None,
        exemplars: exemplar.into_iter().collect(),
    })
}

/// How many bytes a metric name without quotes has.
fn name_length(text: &str) -> usize {
    let belongs = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':');
    text.bytes().position(|b| !belongs(b)).unwrap_or(text.len())
}

/// Where the series' text ends: behind its braces, or its name.
fn series_end(line: &str) -> Result<usize, String> {
    let bytes = line.as_bytes();
    let name_end = name_length(line);
    let first = bytes.first().copied().unwrap_or_default();
    let goes_on = bytes.get(name_end).is_some_and(|b| !matches!(b, b'{' | b' ' | b'\t'));
    if first.is_ascii_digit() || goes_on || (name_end == 0 && first != b'{') {
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
    let (value, time) = split_word(rest.trim_start(), false);
    let value = parse_value(value).ok_or_else(|| format!("{value:?} is no value of an exemplar"))?;
    let time_ms = match time {
        "" => None,
        time => Some(
            parse_time(time, TextFormat::OpenMetrics)
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
    // A number that is too large is no infinity.
    let says_infinity = || text.contains(['n', 'N']);
    text.parse().ok().filter(|value: &f64| !value.is_infinite() || says_infinity())
}

fn parse_time(text: &str, format: TextFormat) -> Option<i64> {
    match format {
        // Without a sign, as Prometheus reads it.
        TextFormat::Plain => text.parse().ok().filter(|_| text.starts_with(|c: char| c.is_ascii_digit())),
        TextFormat::OpenMetrics => {
            let seconds: f64 = text.parse().ok()?;
            let ms = (seconds * 1_000.0).round();
            (ms.is_finite() && ms.abs() < 9.0e15).then_some(ms as i64)
        }
    }
}

/// The first word and what follows it: behind one space exactly, or behind as much white space as there is.
fn split_word(text: &str, strict: bool) -> (&str, &str) {
    match (strict, text.split_once([' ', '\t'])) {
        (true, _) => text.split_once(' ').unwrap_or((text, "")),
        (false, Some((word, rest))) => (word, rest.trim_start_matches([' ', '\t'])),
        (false, None) => (text, ""),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

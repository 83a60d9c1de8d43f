use pharos_model::{MetricKind, NativeHistogram};

/// What may stand between the words of plain text.
pub(super) const BLANKS: [char; 2] = [' ', '\t'];

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
    let mut rest = text;
    while !rest.is_empty() {
        number += 1;
        let at = |message: String| ParseError { place: format!("line {number}"), message };
        if ended {
            return Err(at("data follows # EOF".into()));
        }
        if !strict {
            rest = rest.trim_start_matches(BLANKS);
        }
        let has_series = !rest.is_empty() && !rest.starts_with(['#', '\n']);
        // Quotes of plain text may hold line breaks.
        let series_end = if has_series { series_end(rest, strict).map_err(at)? } else { 0 };
        let (series, behind) = rest.split_at(series_end);
        let (line, next) = behind.split_once('\n').unwrap_or((behind, ""));
        rest = next;
        if has_series {
            each(Entry::Sample(sample(series, line, format).map_err(at)?)).map_err(at)?;
            number += series.bytes().filter(|byte| *byte == b'\n').count();
        } else if let Some(comment) = line.strip_prefix('#') {
            let (entry, eof) = comment_entry(comment, format).map_err(at)?;
            ended = eof;
            if let Some(entry) = entry {
                each(entry).map_err(at)?;
            }
        } else if strict {
            return Err(at("an empty line".into()));
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
    let blanks: &[char] = if strict { &[' '] } else { &BLANKS };
    let words = comment
        .strip_prefix(blanks)
        .map(|words| if strict { words } else { words.trim_start_matches(blanks) });
    let keyword = words.and_then(|words| words.split_once(blanks));
    let known = keyword.filter(|(word, _)| matches!(*word, "HELP" | "TYPE") || (*word == "UNIT" && strict));
    let Some((keyword, rest)) = known else {
        // Other comments are free in plain text, and not foreseen in OpenMetrics.
        return match strict {
            true => Err(format!("{:?} is neither HELP, TYPE, UNIT nor EOF", shortened(comment.trim_start()))),
            false => Ok((None, false)),
        };
    };
    let rest = if strict { rest } else { rest.trim_start_matches(blanks) };
    let (family, behind) = match rest.strip_prefix('"') {
        Some(quoted) => {
            let end = closing_quote(quoted).ok_or("a family's quoted name does not end")?;
            let (family, behind) = quoted.split_at(end);
            (family, behind.get(1..).unwrap_or_default())
        }
        None => rest.split_at(name_length(rest)),
    };
    if family.is_empty() {
        return Err(format!("# {keyword} names no metric"));
    }
    if strict && !behind.starts_with(' ') || family.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("# {keyword} of {family:?} has no text"));
    }
    // Whatever ends the name.
    let mut value = behind.chars();
    value.next();
    let value = value.as_str();
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

/// The sample of a series, by what follows it in its line.
fn sample<'a>(series: &'a str, line: &'a str, format: TextFormat) -> Result<SampleLine<'a>, String> {
    let strict = format == TextFormat::OpenMetrics;
    let rest = match strict {
        true => line.strip_prefix(' ').ok_or_else(|| format!("one space must follow series {series:?}"))?,
        false => line.trim_matches(BLANKS),
    };
    let (value, rest) = split_word(rest, strict);
    if value.is_empty() {
        return Err(format!("series {series:?} has no value"));
    }
    let value = parse_value(value).ok_or_else(|| format!("{value:?} is no value of {series:?}"))?;
    let (time, exemplar) = match rest {
        Some(rest) if strict => match rest.strip_prefix("# ") {
            Some(exemplar) => (None, Some(exemplar)),
            None => match rest.split_once(" # ") {
                Some((time, exemplar)) => (Some(time), Some(exemplar)),
                None => (Some(rest), None),
            },
        },
        rest => (rest, None),
    };
    let time_ms = time.map(|text| {
        parse_time(text, format).ok_or_else(|| format!("{text:?} is no timestamp of {series:?}"))
    });
    Ok(SampleLine {
        series,
        value: SampleValue::Float(value),
        time_ms: time_ms.transpose()?,
        start_ms: None,
        exemplars: exemplar.map(parse_exemplar).transpose()?.into_iter().collect(),
    })
}

/// How many bytes a metric name without quotes has.
fn name_length(text: &str) -> usize {
    let belongs = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':');
    text.bytes().position(|b| !belongs(b)).unwrap_or(text.len())
}

/// Where the text of the series ends that `text` begins with: behind its braces, or its name.
fn series_end(text: &str, strict: bool) -> Result<usize, String> {
    let bytes = text.as_bytes();
    let name_end = name_length(text);
    let first = bytes.first().copied().unwrap_or_default();
    let goes_on = bytes.get(name_end).is_some_and(|b| !matches!(b, b'{' | b' ' | b'\t' | b'\n'));
    if first.is_ascii_digit() || goes_on || (name_end == 0 && first != b'{') {
        return Err(format!("{:?} is no start of a series", shortened(text)));
    }
    // In plain text spaces may stand between the name and the brace.
    let blanks = bytes.iter().skip(name_end).take_while(|b| matches!(b, b' ' | b'\t')).count();
    let brace = if strict { name_end } else { name_end + blanks };
    if bytes.get(brace) != Some(&b'{') {
        return Ok(name_end);
    }
    braces_end(bytes, brace, strict).ok_or_else(|| format!("the labels of {:?} do not end", shortened(text)))
}

/// Behind the brace that closes the one at `start`; braces in quotes do not count. What must not stand between them
/// ends them too early: line breaks, and in OpenMetrics spaces.
fn braces_end(bytes: &[u8], start: usize, strict: bool) -> Option<usize> {
    let mut quoted = false;
    let mut index = start + 1;
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'\\' if quoted && bytes.get(index + 1) != Some(&b'\n') => index += 1,
            b'\\' if quoted => return None,
            // OpenMetrics wants a comma between labels.
            b'"' if quoted && strict && !matches!(bytes.get(index + 1), Some(b',' | b'}' | b'=')) => {
                return None;
            }
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(index + 1),
            b'\n' if !quoted || strict => return None,
            b' ' | b'\t' if !quoted && strict => return None,
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
    let end = text
        .starts_with('{')
        .then(|| braces_end(text.as_bytes(), 0, true))
        .flatten()
        .ok_or_else(|| format!("{:?} is no exemplar", shortened(text)))?;
    let (labels, rest) = text.split_at(end);
    let rest = rest.strip_prefix(' ').ok_or_else(|| format!("exemplar {labels:?} has no value"))?;
    let (value, time) = split_word(rest, true);
    let value = parse_value(value).ok_or_else(|| format!("{value:?} is no value of an exemplar"))?;
    let time_ms = time.map(|time| {
        parse_time(time, TextFormat::OpenMetrics)
            .ok_or_else(|| format!("{time:?} is no timestamp of an exemplar"))
    });
    Ok(ExemplarText { labels, value, time_ms: time_ms.transpose()? })
}

fn parse_value(text: &str) -> Option<f64> {
    // Most values are small whole numbers.
    if (1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
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
            let ms = seconds * 1_000.0;
            (ms.is_finite() && ms.abs() < 9.0e15).then_some(ms as i64)
        }
    }
}

/// The first word and what follows it, if anything does: behind one space exactly, or behind as much white space as
/// there is.
fn split_word(text: &str, strict: bool) -> (&str, Option<&str>) {
    match (strict, text.split_once(BLANKS)) {
        (true, _) => text.split_once(' ').map_or((text, None), |(word, rest)| (word, Some(rest))),
        (false, Some((word, rest))) => (word, Some(rest.trim_start_matches(BLANKS))),
        (false, None) => (text, None),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).take_while(|c| *c != '\n').collect()
}

//! Sample sequences: `1 2 _ stale 3+1x5 {{schema:0 sum:1 count:2 buckets:[1 1]}}x3`.

use std::sync::Arc;

use pharos_model::stale_nan;
use pharos_promql::{Buckets, CUSTOM_SCHEMA, Histogram, ResetHint};

use crate::script::parse_number;

#[derive(Debug, Clone)]
pub(crate) enum Point {
    None,
    Float(f64),
    Histogram {
        value: Arc<Histogram>,
        /// The reset hint is written out, hence is to be compared.
        with_hint: bool,
    },
}

/// Start time relative to the sample's time.
pub(crate) type StartTime = Option<i64>;

pub(crate) fn parse_points(text: &str) -> Result<Vec<Point>, String> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = item_end(rest);
        let (item, tail) = rest.split_at(end);
        points_of(item, &mut out).map_err(|error| format!("{item}: {error}"))?;
        rest = tail.trim_start();
    }
    Ok(out)
}

/// Blanks inside `{{…}}` do not end an item.
fn item_end(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            c if c.is_whitespace() && depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

fn points_of(item: &str, out: &mut Vec<Point>) -> Result<(), String> {
    if item.starts_with("{{") {
        return histograms_of(item, out);
    }
    if let Some(rest) = item.strip_prefix('_') {
        let count = if rest.is_empty() { 1 } else { times(rest)? };
        out.extend(std::iter::repeat_n(Point::None, count));
        return Ok(());
    }
    if let Some(rest) = item.strip_prefix("stale") {
        let count = if rest.is_empty() { 1 } else { times(rest)? + 1 };
        out.extend(std::iter::repeat_n(Point::Float(stale_nan()), count));
        return Ok(());
    }
    let (first, rest) = leading_number(item)?;
    if rest.is_empty() {
        out.push(Point::Float(first));
        return Ok(());
    }
    let (step, rest) = if rest.starts_with('x') { (0.0, rest) } else { leading_number(rest)? };
    let mut value = first;
    for _ in 0..=times(rest)? {
        out.push(Point::Float(value));
        value += step;
    }
    Ok(())
}

fn times(text: &str) -> Result<usize, String> {
    let count = text.strip_prefix('x').ok_or("expected x and a count")?;
    count.parse().map_err(|_| format!("bad count {count}"))
}

/// A number with its sign, and what follows it. Hexadecimal is not possible: `0x5` is six zeros.
fn leading_number(text: &str) -> Result<(f64, &str), String> {
    let bytes = text.as_bytes();
    let mut end = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let word = text.get(end..end + 3).unwrap_or_default().to_ascii_lowercase();
    if word == "inf" || word == "nan" {
        end += 3;
    } else {
        while let Some(b) = bytes.get(end) {
            let after_e = end > 0 && matches!(bytes.get(end - 1), Some(b'e' | b'E'));
            let number = b.is_ascii_digit()
                || matches!(b, b'.' | b'e' | b'E')
                || (after_e && matches!(b, b'+' | b'-'));
            if !number {
                break;
            }
            end += 1;
        }
    }
    let (number, rest) = text.split_at(end);
    parse_number(number).map(|value| (value, rest)).ok_or_else(|| format!("bad number {number}"))
}

fn histograms_of(item: &str, out: &mut Vec<Point>) -> Result<(), String> {
    let (base, rest) = leading_histogram(item)?;
    let push = |out: &mut Vec<Point>, (value, with_hint): &(Histogram, bool)| {
        out.push(Point::Histogram { value: Arc::new(value.clone()), with_hint: *with_hint });
    };
    if rest.is_empty() {
        push(out, &base);
        return Ok(());
    }
    if rest.starts_with('x') {
        for _ in 0..=times(rest)? {
            push(out, &base);
        }
        return Ok(());
    }
    let (sign, rest) = match rest.split_at(1) {
        ("+", rest) => (1.0, rest),
        ("-", rest) => (-1.0, rest),
        _ => return Err(format!("cannot read {rest}")),
    };
    let ((step, _), rest) = leading_histogram(rest)?;
    let mut current = base;
    for _ in 0..=times(rest)? {
        push(out, &current);
        current.0 = combined(&current.0, &step, sign)?;
    }
    Ok(())
}

fn combined(base: &Histogram, step: &Histogram, sign: f64) -> Result<Histogram, String> {
    // The engine's own addition is what is under test, so the sum is made here, for the layouts in use.
    if base.schema > step.schema || base.custom_bounds != step.custom_bounds {
        return Err("histograms of different layouts".into());
    }
    let shift = if base.schema == CUSTOM_SCHEMA { 0 } else { step.schema - base.schema };
    let sum = |left: &Buckets, right: &Buckets| {
        let mut all: std::collections::BTreeMap<i32, f64> = left.0.iter().copied().collect();
        for (index, count) in &right.0 {
            *all.entry(((index - 1) >> shift) + 1).or_default() += sign * count;
        }
        Buckets(all.into_iter().collect())
    };
    Ok(Histogram {
        count: base.count + sign * step.count,
        sum: base.sum + sign * step.sum,
        zero_count: base.zero_count + sign * step.zero_count,
        positive: sum(&base.positive, &step.positive),
        negative: sum(&base.negative, &step.negative),
        ..base.clone()
    })
}

/// `{{…}}` and what follows it.
fn leading_histogram(text: &str) -> Result<((Histogram, bool), &str), String> {
    let inner = text.strip_prefix("{{").ok_or_else(|| format!("expected a histogram at {text}"))?;
    let (inner, rest) = inner.split_once("}}").ok_or("unclosed histogram")?;
    Ok((histogram(inner)?, rest))
}

fn histogram(text: &str) -> Result<(Histogram, bool), String> {
    let mut histogram = Histogram::default();
    let (mut offset, mut negative_offset) = (0, 0);
    let (mut counts, mut negative_counts) = (Vec::new(), Vec::new());
    let mut with_hint = false;
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, tail) = rest.split_once(':').ok_or_else(|| format!("expected key:value at {rest}"))?;
        let (value, tail) = match tail.strip_prefix('[') {
            Some(list) => list.split_once(']').ok_or("unclosed list")?,
            None => tail.split_at(tail.find(char::is_whitespace).unwrap_or(tail.len())),
        };
        let number = || parse_number(value).ok_or_else(|| format!("bad number {value}"));
        let numbers = || {
            let all = value
                .split_whitespace()
                .map(|one| parse_number(one).ok_or_else(|| format!("bad number {one}")));
            all.collect::<Result<Vec<f64>, String>>()
        };
        match key {
            "schema" => histogram.schema = number()? as i32,
            "sum" => histogram.sum = number()?,
            "count" => histogram.count = number()?,
            "z_bucket" => histogram.zero_count = number()?,
            "z_bucket_w" => histogram.zero_threshold = number()?,
            "buckets" => counts = numbers()?,
            "n_buckets" => negative_counts = numbers()?,
            "offset" => offset = number()? as i32,
            "n_offset" => negative_offset = number()? as i32,
            "custom_values" => histogram.custom_bounds = numbers()?.into(),
            "counter_reset_hint" => {
                with_hint = true;
                histogram.reset_hint = match value {
                    "unknown" => ResetHint::Unknown,
                    "reset" => ResetHint::Reset,
                    "not_reset" => ResetHint::NotReset,
                    "gauge" => ResetHint::Gauge,
                    other => return Err(format!("unknown hint {other}")),
                };
            }
            other => return Err(format!("unknown key {other}")),
        }
        rest = tail.trim_start();
    }
    histogram.positive = Buckets::dense(offset, counts);
    histogram.negative = Buckets::dense(negative_offset, negative_counts);
    Ok((histogram, with_hint))
}

/// `_ _x3 -1m -30s-1mx5 0x2`
pub(crate) fn parse_starts(text: &str) -> Result<Vec<StartTime>, String> {
    let mut out = Vec::new();
    for item in text.split_whitespace() {
        if let Some(rest) = item.strip_prefix('_') {
            let count = if rest.is_empty() { 1 } else { times(rest)? };
            out.extend(std::iter::repeat_n(None, count));
            continue;
        }
        let (first, rest) = leading_duration_ms(item)?;
        let (step, rest) =
            if rest.is_empty() || rest.starts_with('x') { (0, rest) } else { leading_duration_ms(rest)? };
        let count = if rest.is_empty() { 0 } else { times(rest)? };
        out.extend((0..=count).map(|at| Some(first + step * at as i64)));
    }
    Ok(out)
}

fn leading_duration_ms(text: &str) -> Result<(i64, &str), String> {
    let sign = usize::from(text.starts_with(['+', '-']));
    let body = text.get(sign..).unwrap_or_default();
    let end = body.find(|c: char| !(c.is_ascii_digit() || "ywdhms".contains(c))).unwrap_or(body.len());
    let (duration, rest) = body.split_at(end);
    let ms = pharos_model::parse_duration_ms(duration).map_err(|error| error.to_string())?;
    Ok((if text.starts_with('-') { -ms } else { ms }, rest))
}

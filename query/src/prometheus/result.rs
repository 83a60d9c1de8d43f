//! A query's result as JSON, in pieces that several threads write at once.

use std::{ops::Range, sync::Arc};

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use pharos_model::{Labels, Shape};
use pharos_promql::{
    Histogram, InstantSample, RangeSeries, SampleValue, Value, format_json_float, write_json_float,
};

use super::{
    respond::{Notes, json},
    times::write_time,
};
use crate::parallel::Pieces;

/// About the size of a piece.
const PIECE_BYTES: usize = 128 << 10;

/// What parts of a result take, by experience.
const LABEL_BYTES: usize = 40;
const POINT_BYTES: usize = 30;
const HISTOGRAM_BYTES: usize = 500;

/// The answer to a query. A short one is written at once, which takes a while, a long one while it is sent. `stats` is
/// a JSON text.
pub(super) fn query_result(value: Value, notes: &Notes, stats: Option<String>) -> Response {
    let (kind, elements) = match value {
        Value::Scalar { time_ms, value } => {
            let mut pair = String::new();
            write_pair(&mut pair, time_ms, value);
            ("scalar", Elements::One(pair))
        }
        Value::Text { time_ms, text } => {
            let mut pair = String::from("[");
            write_time(&mut pair, time_ms);
            pair.push(',');
            write_text(&mut pair, &text);
            pair.push(']');
            ("string", Elements::One(pair))
        }
        Value::Vector(samples) => ("vector", Elements::Instants(samples)),
        Value::Matrix(series) => ("matrix", Elements::Ranges(series)),
    };
    let (open, close) = if matches!(elements, Elements::One(_)) { ("", "") } else { ("[", "]") };
    let stats = stats.map(|stats| format!(",\"stats\":{stats}")).unwrap_or_default();
    let document = Document {
        head: format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",\"result\":{open}"),
        elements,
        tail: format!("{close}{stats}}}{}}}", notes.to_json()),
    };
    match document.parts().as_slice() {
        [whole] => json(Response::new(Body::from(document.write(whole.clone())))),
        parts => {
            let (count, parts) = (parts.len(), parts.to_vec());
            let write = move |piece: usize| {
                parts.get(piece).map_or_else(Bytes::new, |part| Bytes::from(document.write(part.clone())))
            };
            json(Pieces { count, make: Arc::new(write) }.into_response())
        }
    }
}

struct Document {
    head: String,
    elements: Elements,
    tail: String,
}

enum Elements {
    /// As it is written.
    One(String),
    Instants(Vec<InstantSample>),
    Ranges(Vec<RangeSeries>),
}

impl Elements {
    fn len(&self) -> usize {
        match self {
            Elements::One(_) => 1,
            Elements::Instants(samples) => samples.len(),
            Elements::Ranges(series) => series.len(),
        }
    }

    /// About the bytes of each in an answer.
    fn weight(&self, place: usize) -> usize {
        match self {
            Elements::One(text) => text.len(),
            Elements::Instants(samples) => samples.get(place).map_or(0, |sample| {
                let value = match sample.value {
                    SampleValue::Float(_) => POINT_BYTES,
                    SampleValue::Histogram(_) => HISTOGRAM_BYTES,
                };
                sample.labels.len() * LABEL_BYTES + value
            }),
            Elements::Ranges(series) => series.get(place).map_or(0, |series| {
                series.labels.len() * LABEL_BYTES
                    + series.floats.len() * POINT_BYTES
                    + series.histograms.len() * HISTOGRAM_BYTES
            }),
        }
    }
}

impl Document {
    /// Stretches of elements, each for a piece; an empty one if there are no elements.
    fn parts(&self) -> Vec<Range<usize>> {
        let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
        for place in 0..self.elements.len() {
            bytes += self.elements.weight(place);
            if bytes >= PIECE_BYTES {
                parts.push(start..place + 1);
                (start, bytes) = (place + 1, 0);
            }
        }
        if start < self.elements.len() || parts.is_empty() {
            parts.push(start..self.elements.len());
        }
        parts
    }

    /// The elements at these places, with what comes before the first and after the last of all.
    fn write(&self, places: Range<usize>) -> String {
        let bytes: usize = places.clone().map(|place| self.elements.weight(place)).sum();
        let mut out = String::with_capacity(bytes + self.head.len() + self.tail.len());
        if places.start == 0 {
            out.push_str(&self.head);
        }
        let mut names = LabelNames::default();
        for place in places.clone() {
            if place > 0 {
                out.push(',');
            }
            match &self.elements {
                Elements::One(text) => out.push_str(text),
                Elements::Instants(samples) => {
                    samples.get(place).iter().for_each(|sample| write_instant(&mut out, sample, &mut names));
                }
                Elements::Ranges(series) => {
                    series.get(place).iter().for_each(|series| write_range(&mut out, series, &mut names));
                }
            }
        }
        if places.end == self.elements.len() {
            out.push_str(&self.tail);
        }
        out
    }
}

fn write_instant(out: &mut String, sample: &InstantSample, names: &mut LabelNames) {
    names.write_metric(out, &sample.labels);
    match &sample.value {
        SampleValue::Float(value) => {
            out.push_str(",\"value\":");
            write_pair(out, sample.time_ms, *value);
        }
        SampleValue::Histogram(histogram) => {
            out.push_str(",\"histogram\":");
            write_histogram(out, sample.time_ms, histogram);
        }
    }
    out.push('}');
}

fn write_range(out: &mut String, series: &RangeSeries, names: &mut LabelNames) {
    names.write_metric(out, &series.labels);
    if !series.floats.is_empty() {
        out.push_str(",\"values\":[");
        for (index, (time_ms, value)) in series.floats.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            write_pair(out, *time_ms, *value);
        }
        out.push(']');
    }
    if !series.histograms.is_empty() {
        out.push_str(",\"histograms\":[");
        for (index, (time_ms, histogram)) in series.histograms.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            write_histogram(out, *time_ms, histogram);
        }
        out.push(']');
    }
    out.push('}');
}

/// The names of a shape of label sets as JSON: most series of an answer have the same.
#[derive(Default)]
struct LabelNames {
    shape: Option<Shape>,
    /// With what stands before and after a name.
    texts: Vec<String>,
}

impl LabelNames {
    fn write_metric(&mut self, out: &mut String, labels: &Labels) {
        if self.shape.as_ref() != Some(labels.shape()) {
            self.shape = Some(labels.shape().clone());
            self.texts.clear();
            for name in labels.shape().names() {
                let mut text = String::from(if self.texts.is_empty() { "" } else { "," });
                write_text(&mut text, name);
                text.push(':');
                self.texts.push(text);
            }
        }
        out.push_str("{\"metric\":{");
        for (name, value) in self.texts.iter().zip(labels.values()) {
            out.push_str(name);
            write_text(out, value);
        }
        out.push('}');
    }
}

/// JSON text; most of it needs no escapes.
fn write_text(out: &mut String, text: &str) {
    // Without an early end the compiler looks at several bytes at once.
    let is_plain = |plain: bool, byte: u8| plain & (byte >= 0x20) & (byte != b'"') & (byte != b'\\');
    if text.bytes().fold(true, is_plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}

fn write_pair(out: &mut String, time_ms: i64, value: f64) {
    out.push('[');
    write_time(out, time_ms);
    out.push_str(",\"");
    write_json_float(out, value);
    out.push_str("\"]");
}

fn write_histogram(out: &mut String, time_ms: i64, histogram: &Histogram) {
    let float = format_json_float;
    out.push('[');
    write_time(out, time_ms);
    out.push_str(&format!(
        ",{{\"count\":\"{}\",\"sum\":\"{}\"",
        float(histogram.count),
        float(histogram.sum)
    ));
    let mut is_first = true;
    for bucket in histogram.buckets().filter(|bucket| bucket.count != 0.0) {
        out.push_str(if is_first { ",\"buckets\":[" } else { "," });
        is_first = false;
        // Which of the two bounds belong to the bucket.
        let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (true, true) => 3,
        };
        let (lower, upper, count) = (float(bucket.lower), float(bucket.upper), float(bucket.count));
        out.push_str(&format!("[{rule},\"{lower}\",\"{upper}\",\"{count}\"]"));
    }
    if !is_first {
        out.push(']');
    }
    out.push_str("}]");
}

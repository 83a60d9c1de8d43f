//! Prometheus' envelope: success, errors, warnings, and results written series by series.

use std::convert::Infallible;

use axum::{
    Json,
    body::{Body, Bytes},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pharos_model::{Labels, Shape};
use pharos_promql::{
    EvalError, Histogram, InstantSample, ParseError, RangeSeries, SampleValue, Value, format_json_float,
    write_json_float,
};
use pharos_storage::StorageError;
use serde::Serialize;
use serde_json::json;

use super::times::write_time;
use crate::params::ParamError;

/// Texts of each kind that an answer carries at most; one more says how many there are besides.
const MAX_NOTES: usize = 10;

/// An answer is written in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct ApiError {
    kind: &'static str,
    status: StatusCode,
    message: String,
}

impl ApiError {
    pub(crate) fn bad_data(message: impl ToString) -> ApiError {
        ApiError { kind: "bad_data", status: StatusCode::BAD_REQUEST, message: message.to_string() }
    }

    pub(crate) fn execution(message: impl ToString) -> ApiError {
        ApiError { kind: "execution", status: StatusCode::UNPROCESSABLE_ENTITY, message: message.to_string() }
    }

    pub(crate) fn internal(message: impl ToString) -> ApiError {
        ApiError { kind: "internal", status: StatusCode::INTERNAL_SERVER_ERROR, message: message.to_string() }
    }

    pub(crate) fn timeout(message: impl ToString) -> ApiError {
        ApiError { kind: "timeout", status: StatusCode::SERVICE_UNAVAILABLE, message: message.to_string() }
    }

    /// Something that is switched off.
    pub(crate) fn unavailable(message: impl ToString) -> ApiError {
        ApiError {
            kind: "unavailable",
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: message.to_string(),
        }
    }

    pub(crate) fn of_parameter(name: &str, error: &ParseError) -> ApiError {
        ApiError::bad_data(format!("invalid parameter {name:?}: {error}"))
    }
}

impl ApiError {
    /// For what lies outside of the API, as Prometheus answers there.
    pub(crate) fn into_plain_text(self) -> Response {
        (self.status, format!("{}\n", self.message)).into_response()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "status": "error", "errorType": self.kind, "error": self.message });
        (self.status, Json(body)).into_response()
    }
}

impl From<ParamError> for ApiError {
    fn from(error: ParamError) -> ApiError {
        ApiError::bad_data(format!("invalid parameter {:?}: {}", error.name, error.message))
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> ApiError {
        match error {
            StorageError::Matcher { .. } => ApiError::bad_data(error),
            StorageError::TooManySeries { .. } => ApiError::execution(error),
            error => ApiError::internal(error),
        }
    }
}

impl From<EvalError> for ApiError {
    fn from(error: EvalError) -> ApiError {
        match &error {
            EvalError::Timeout => ApiError::timeout(error),
            EvalError::Canceled => ApiError {
                kind: "canceled",
                // Prometheus' own number for a client that went away.
                status: StatusCode::from_u16(499).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
                message: error.to_string(),
            },
            EvalError::TooManySamples { .. } | EvalError::Execution(_) => ApiError::execution(error),
            EvalError::Source(_) => ApiError::internal(error),
        }
    }
}

/// Notes that go along with an answer.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) warnings: Vec<String>,
    pub(crate) infos: Vec<String>,
}

impl Notes {
    pub(crate) fn truncated(is_truncated: bool) -> Notes {
        let warnings = is_truncated.then(|| "results truncated due to limit".to_string());
        Notes { warnings: warnings.into_iter().collect(), infos: Vec::new() }
    }

    /// `,"warnings":[…],"infos":[…]`, each only if there is one.
    fn to_json(&self) -> String {
        let mut json = String::new();
        for (name, kind, notes) in [("warnings", "warning", &self.warnings), ("infos", "info", &self.infos)] {
            if !notes.is_empty() {
                let mut first: Vec<&str> = notes.iter().take(MAX_NOTES).map(String::as_str).collect();
                let omitted = format!("{} more {kind} annotations omitted", notes.len() - first.len());
                if notes.len() > first.len() {
                    first.push(&omitted);
                }
                json.push_str(&format!(",\"{name}\":{}", serde_json::to_string(&first).unwrap_or_default()));
            }
        }
        json
    }
}

/// An answer whose data fits in memory twice.
pub(crate) fn success(data: impl Serialize, notes: &Notes) -> Response {
    match serde_json::to_string(&data) {
        Ok(data) => {
            json_body(Body::from(format!("{{\"status\":\"success\",\"data\":{data}{}}}", notes.to_json())))
        }
        Err(error) => ApiError::internal(error).into_response(),
    }
}

fn json_body(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The result of a query, written while it is sent. `stats` is a JSON text.
pub(crate) fn query_result(value: Value, notes: &Notes, stats: Option<String>) -> Response {
    let kind = match &value {
        Value::Scalar { .. } => "scalar",
        Value::Text { .. } => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    };
    let head = format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",\"result\":");
    let stats = stats.map(|stats| format!(",\"stats\":{stats}")).unwrap_or_default();
    let tail = format!("{stats}}}{}}}", notes.to_json());
    let elements: Box<dyn Iterator<Item = Element> + Send> = match value {
        Value::Scalar { time_ms, value } => {
            let mut body = head;
            write_pair(&mut body, time_ms, value);
            body.push_str(&tail);
            return json_body(Body::from(body));
        }
        Value::Text { time_ms, text } => {
            let mut body = head;
            body.push('[');
            write_time(&mut body, time_ms);
            body.push(',');
            body.push_str(&serde_json::to_string(&text).unwrap_or_default());
            body.push(']');
            body.push_str(&tail);
            return json_body(Body::from(body));
        }
        Value::Vector(samples) => Box::new(samples.into_iter().map(Element::Instant)),
        Value::Matrix(series) => Box::new(series.into_iter().map(Element::Range)),
    };
    let (elements, names) = (elements.peekable(), LabelNames::default());
    let pieces = Pieces { elements, names, piece: head + "[", tail: Some(format!("]{tail}")) };
    json_body(Body::from_stream(futures::stream::iter(pieces)))
}

enum Element {
    Instant(InstantSample),
    Range(RangeSeries),
}

struct Pieces {
    elements: std::iter::Peekable<Box<dyn Iterator<Item = Element> + Send>>,
    names: LabelNames,
    piece: String,
    tail: Option<String>,
}

impl Iterator for Pieces {
    type Item = Result<Bytes, Infallible>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.piece.len() < PIECE_BYTES {
            let Some(element) = self.elements.next() else {
                self.piece.push_str(&self.tail.take()?);
                return Some(Ok(Bytes::from(std::mem::take(&mut self.piece))));
            };
            match element {
                Element::Instant(sample) => write_instant(&mut self.piece, &sample, &mut self.names),
                Element::Range(series) => write_range(&mut self.piece, &series, &mut self.names),
            }
            if self.elements.peek().is_some() {
                self.piece.push(',');
            }
        }
        Some(Ok(Bytes::from(std::mem::take(&mut self.piece))))
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

//! The vocabulary of Pharos: the nouns that every other crate speaks.
//!
//! Plain values with public fields: identifiers, time, labels, spans, access-log records, application log
//! records, samples, response flags, edges and the mergeable sketches that edges carry, and the rules by which
//! Istio's labels name the two ends of an edge.
//!
//! This crate does no I/O and knows no runtime, no wire format and no storage format. It is not a home for
//! whatever two crates happen to share: a type belongs here when a user of the product would know its name.

mod access_log;
mod attributes;
mod duration;
mod edge;
mod ids;
mod labels;
mod log;
mod matcher;
mod mesh_object;
mod native_histogram;
mod response_flags;
mod sample;
mod series_id;
mod sketch;
mod span;
mod symbol;
mod time;

pub use access_log::{AccessLog, Peer, Reporter};
pub use attributes::{Attributes, Value};
pub use duration::{ParseDurationError, PromDuration, format_duration_ms, parse_duration_ms};
pub use edge::{
    AccessLogNumbers, CounterPart, EDGE_ATTRIBUTES, EDGE_BUCKET_NS, EDGE_METRICS, Edge, EdgeKey, EdgeMeasure,
    EdgeOrigin, counts_for_edges, edge_of_access_log, edge_of_series, edge_of_span,
};
pub use ids::{ParseIdError, SpanId, TraceId};
pub use labels::{Labels, METRIC_NAME, Projection};
pub use log::{LogRecord, Severity};
pub use matcher::{MatchOp, Matcher, RegexError, anchored_regex};
pub use mesh_object::MeshObject;
pub use native_histogram::{
    BucketSpan, HistogramError, HistogramSample, NativeHistogram, ResetHint, buckets_of_spans,
    counts_of_deltas, exponential_bound, spans_of_buckets,
};
pub use response_flags::{ResponseFlag, ResponseFlags};
pub use sample::{
    Exemplar, MetricKind, MetricMetadata, STALE_NAN_BITS, Sample, TimeSeries, is_stale, stale_nan,
};
pub use series_id::SeriesId;
pub use sketch::{HistogramPart, Latency, LatencySketch, SketchDecodeError};
pub use span::{Scope, Span, SpanEvent, SpanKind, SpanLink, SpanStatus};
pub use symbol::{Shape, Symbol};
pub use time::{TimeRange, UnixNanos};

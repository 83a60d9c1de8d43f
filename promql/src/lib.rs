//! PromQL as of Prometheus 3: parse, check, evaluate, format.
//!
//! The engine reads from a [`SeriesSource`] that lends columns, and gives [`Value`]s with the warnings and
//! infos of Prometheus. It is pure and synchronous: it knows no runtime, no storage and no Arrow. A query that
//! must not run on stops at its deadline or when its cancel flag is set, and holds no more samples than its
//! [`Limits`] allow; a hostile query text gets an error.

mod annotations;
mod ast;
mod date;
mod eval;
mod float;
mod format;
mod functions;
mod histogram;
mod parser;
mod source;
mod text;
mod value;

pub use annotations::Annotations;
pub use ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Cardinality, DurationExpr, Expr, ExprKind, Extension,
    Matching, Position, Selector, Subquery, TimeShift, ValueType,
};
pub use eval::{EvalError, Evaluation, Limits, Query, Stats, StepSamples, evaluate};
pub use format::format_query;
pub use functions::{Function, Variadic, find_function, functions};
pub use histogram::{Bucket, Buckets, CUSTOM_SCHEMA, Histogram, ResetHint};
pub use parser::{Features, MAX_DEPTH, MAX_QUERY_BYTES, ParseError, parse, parse_selector, parse_with};
pub use source::{
    HistogramSample, MemorySeries, MemorySource, Samples, SelectRequest, SeriesSource, SeriesVisitor,
    SourceError, SourcePart,
};
pub use text::{format_float, format_json_float, write_json_float};
pub use value::{InstantSample, RangeSeries, SampleValue, Value};

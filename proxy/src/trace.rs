//! Trace context: which headers carry it, and what is read and written.

use serde::Deserialize;

/// A family of trace headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Zipkin's: the single `b3` header wins over `x-b3-*`.
    B3,
    /// `traceparent` and `tracestate`.
    W3c,
}

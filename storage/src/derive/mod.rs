//! Tables that are made from others: when a file is sealed, and on the fly for the head.

mod edges;
mod groups;
mod metric_edges;
mod traces;

pub(crate) use edges::{EdgeSums, SPAN_COLUMNS, access_log_columns, bucket_overlaps, merge_edges};
pub(crate) use groups::Groups;
pub(crate) use metric_edges::{Joining, MetricSums};
pub(crate) use traces::{TRACE_GAP_NS, TraceSums};

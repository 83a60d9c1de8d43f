//! Tables that are made from others: when a file is sealed, and on the fly for the head.

mod edges;
mod groups;
mod traces;

pub(crate) use edges::{EdgeSums, bucket_overlaps, head_metric_edges, merge_edges, metric_edges};
pub(crate) use groups::Groups;
pub(crate) use traces::{TRACE_GAP_NS, TraceSums, summarise};

//! The columns of each table, one file a subject.

mod access_log;
mod edge;
mod histogram;
mod log;
mod mesh_object;
mod metric;
mod sample_batch;
mod span;
mod trace_summary;

pub(crate) use histogram::HistogramRow;
pub(crate) use metric::{ExemplarRow, SampleRow, SeriesRow};
pub(crate) use sample_batch::SampleBatch;
pub(crate) use span::span_kind;
pub use trace_summary::{ServiceCount, TraceSummary};

//! Reading tables: snapshots, and scans that touch no more of a file than they must.

mod data_file;
mod edges;
mod histograms;
mod metric_edges;
mod newest;
mod predicate;
mod prune;
mod recent;
mod samples;
mod scan;
mod snapshot;

pub use data_file::DataFile;
pub(crate) use data_file::{FileSource, FooterCache, footer_cache};
pub use histograms::SeriesHistograms;
pub(crate) use histograms::read_histograms;
pub(crate) use metric_edges::MetricEdges;
pub use predicate::ScanValue;
pub(crate) use prune::times_us as row_group_times_us;
pub(crate) use recent::{RecentSamples, load_recent, recall_samples};
pub use samples::{SampleBlock, SampleReader, SeriesColumns};
pub use scan::Scan;
pub use snapshot::TableSnapshot;

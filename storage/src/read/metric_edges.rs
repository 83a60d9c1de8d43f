//! The edges that samples and native histograms tell of, made as they are asked for.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{FutureExt, future::BoxFuture};
use pharos_model::{EDGE_BUCKET_NS, Edge, TimeRange};

use super::{SampleBlock, SampleReader, read_histograms};
use crate::{
    StorageError, Table,
    columns::to_batch,
    derive::{Joining, MetricSums},
    flush::off_thread,
    shared::Shared,
};

#[derive(Clone)]
pub(crate) struct MetricEdges {
    shared: Arc<Shared>,
}

/// Samples that are in memory at once, about.
const SAMPLES_AT_ONCE: usize = 1 << 20;
const MOST_SERIES: usize = 8_192;
const LEAST_SERIES: usize = 64;

/// Rows of one bucket each are made of so much time at once.
const WINDOW_NS: i64 = 30 * EDGE_BUCKET_NS;

impl MetricEdges {
    pub(crate) fn new(shared: Arc<Shared>) -> MetricEdges {
        MetricEdges { shared }
    }

    /// The rows whose buckets overlap `range`, those of one key, measure and stretch of time joined.
    pub(crate) fn rows(
        &self,
        range: TimeRange,
        joining: Joining,
    ) -> BoxFuture<'static, Result<Vec<Edge>, StorageError>> {
        let shared = self.shared.clone();
        off_thread(async move { rows(&shared, range, joining).await }).boxed()
    }

    /// The rows whose buckets begin in one of [`MetricEdges::windows`], in the table's columns.
    pub(crate) async fn batch(&self, window: TimeRange) -> Result<RecordBatch, StorageError> {
        let mut edges = self.rows(window, Joining::Buckets).await?;
        edges.retain(|edge| window.contains(edge.bucket));
        edges.sort_by_key(|edge| (edge.bucket, edge.counter.first_ms));
        Ok(to_batch(&edges)?)
    }

    /// Stretches of time, in order, in which the rows of `range` begin.
    pub(crate) fn windows(&self, range: TimeRange) -> Vec<TimeRange> {
        let state = self.shared.state.read();
        let times = [Table::Samples, Table::Histograms].into_iter().flat_map(|table| {
            let files = state.table(table).files.iter().map(|file| (file.min_time, file.max_time));
            files.chain(state.unflushed(table).filter_map(move |generation| generation.times(table)))
        });
        let known = times.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)));
        drop(state);
        let Some((first, last)) = known else { return Vec::new() };
        let mut start = first.max(range.start).floor_to(EDGE_BUCKET_NS);
        let end = last.plus_nanos(1).min(range.end);
        let mut windows = Vec::new();
        while start < end {
            windows.push(TimeRange::new(start, start.plus_nanos(WINDOW_NS).min(end)));
            start = start.plus_nanos(WINDOW_NS);
        }
        windows
    }
}

async fn rows(shared: &Arc<Shared>, range: TimeRange, joining: Joining) -> Result<Vec<Edge>, StorageError> {
    // A bucket that the range cuts is made whole.
    let reach =
        TimeRange::new(range.start.plus_nanos(1 - EDGE_BUCKET_NS), range.end.plus_nanos(EDGE_BUCKET_NS - 1));
    let (first_ms, last_ms) = (reach.start.millis(), reach.end.millis());
    let series = shared.index.read().edge_series(reach);
    let mut sums = MetricSums::new(range, joining);
    let mut block = SampleBlock::default();
    let (mut done, mut at_once) = (0, LEAST_SERIES);
    while let Some(part) = series.get(done..series.len().min(done + at_once)).filter(|part| !part.is_empty())
    {
        let ids: Vec<_> = part.iter().map(|(id, _)| *id).collect();
        let reader = SampleReader::of_ids(shared, &ids, first_ms, last_ms);
        reader.read(0..reader.len(), &mut block).await?;
        let mut samples = 0;
        for (place, (_, role)) in part.iter().enumerate() {
            let (times_ms, values) = block.series(place);
            samples += times_ms.len();
            sums.add(role, times_ms, values);
        }
        let mut roles = part.iter();
        for of_series in read_histograms(shared, &ids, first_ms, last_ms).await? {
            let Some((_, role)) = roles.find(|(id, _)| *id == of_series.id) else { continue };
            for (time_ms, histogram) in &of_series.samples {
                sums.add_native(role, *time_ms, histogram);
            }
        }
        done += part.len();
        at_once = (SAMPLES_AT_ONCE / (samples / part.len()).max(1)).clamp(LEAST_SERIES, MOST_SERIES);
    }
    Ok(sums.edges())
}

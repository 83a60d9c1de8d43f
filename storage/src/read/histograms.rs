//! The native histograms of chosen series, from files and from the head.

use std::{collections::BTreeMap, sync::Arc};

use futures::TryStreamExt;
use hashbrown::{HashMap, HashSet};
use pharos_model::{NativeHistogram, SeriesId, TimeRange, UnixNanos};

use super::{Scan, ScanValue, TableSnapshot};
use crate::{StorageError, Table, columns::from_batch, rows::HistogramRow, shared::Shared};

/// Native histograms of one series in ascending time, no time twice.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesHistograms {
    pub id: SeriesId,
    pub samples: Vec<(i64, Arc<NativeHistogram>)>,
}

/// Those of the series that have any between the two times, both inclusive, in the order of `ids`.
pub(crate) async fn read_histograms(
    shared: &Arc<Shared>,
    ids: &[SeriesId],
    first_ms: i64,
    last_ms: i64,
) -> Result<Vec<SeriesHistograms>, StorageError> {
    let mut wanted: HashSet<SeriesId> = HashSet::new();
    let mut metrics: HashSet<Arc<str>> = HashSet::new();
    {
        let index = shared.index.read();
        for id in ids.iter().filter(|id| index.may_have_histograms(**id)) {
            wanted.insert(*id);
            metrics.extend(index.get(*id).map(|entry| Arc::from(entry.metric())));
        }
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let range =
        TimeRange::new(UnixNanos::from_millis(first_ms), UnixNanos::from_millis(last_ms).plus_nanos(1));
    let mut found: HashMap<SeriesId, BTreeMap<i64, Arc<NativeHistogram>>> = HashMap::new();
    let snapshot = snapshot(shared, range, &wanted, (first_ms, last_ms), &mut found);
    let mut scan = Scan::new(range);
    if let (1, Some(metric)) = (metrics.len(), metrics.iter().next()) {
        scan = scan.equal("metric", ScanValue::Text(metric.to_string()));
    }
    let mut batches = snapshot.read(&scan).await?;
    while let Some(batch) = batches.try_next().await? {
        for row in from_batch::<HistogramRow>(&batch)? {
            if wanted.contains(&row.series) {
                found.entry(row.series).or_default().entry(row.time_ms).or_insert(row.histogram);
            }
        }
    }
    let ids = ids.iter().filter(|id| wanted.contains(*id));
    Ok(ids
        .filter_map(|id| Some(SeriesHistograms { id: *id, samples: found.remove(id)?.into_iter().collect() }))
        .collect())
}

/// The files that hold the rest of what is copied from the head: both of one moment.
fn snapshot(
    shared: &Shared,
    range: TimeRange,
    wanted: &HashSet<SeriesId>,
    (first_ms, last_ms): (i64, i64),
    found: &mut HashMap<SeriesId, BTreeMap<i64, Arc<NativeHistogram>>>,
) -> TableSnapshot {
    let state = shared.state.read();
    let files = state.table(Table::Histograms).clone();
    for generation in state.unflushed(Table::Histograms) {
        for id in wanted {
            for (time_ms, histogram) in generation.histograms.between(*id, first_ms, last_ms) {
                found.entry(*id).or_default().entry(time_ms).or_insert_with(|| histogram.clone());
            }
        }
    }
    drop(state);
    TableSnapshot::of_files(shared, &files, Table::Histograms, range)
}

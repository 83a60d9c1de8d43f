//! Rows of the table `edges`. Keys are long and few: each is decoded once a batch, not once a row.

use arrow::{array::RecordBatch, compute::take_record_batch};
use futures::TryStreamExt;
use hashbrown::{HashMap, hash_map::Entry};
use pharos_model::{
    CounterPart, EDGE_BUCKET_NS, Edge, EdgeKey, EdgeMeasure, EdgeOrigin, Latency, TimeRange, UnixNanos,
};

use super::{Scan, TableSnapshot};
use crate::{
    StorageError,
    columns::{Column, Row, from_batch},
    derive::{Groups, Joining, bucket_overlaps},
    flush::off_thread,
};

/// What a row of the table has beside its key.
struct Values {
    bucket: UnixNanos,
    measure: EdgeMeasure,
    counter: CounterPart,
    latency: Latency,
}

/// The columns that [`Values`] come from; all others are the key.
const VALUES: [&str; 9] =
    ["time", "measure", "increase", "samples", "first_ms", "first", "last_ms", "last", "latency"];

/// Rows, each with the number of its key.
type KeyedRows = Vec<(usize, Values)>;

/// A batch's distinct keys and its rows.
fn decode(batch: &RecordBatch) -> Result<(Vec<EdgeKey>, KeyedRows), StorageError> {
    let is_value = |column: &&Column<Edge>| VALUES.contains(&column.name);
    let mut groups = Groups::new(batch.num_rows());
    for column in Edge::COLUMNS.iter().filter(|column| !is_value(column)) {
        groups.tell_apart(batch.column_by_name(column.name));
    }
    let (numbers, first_rows) = groups.finish();
    let distinct = take_record_batch(batch, &first_rows)?;
    let keys = from_batch::<Edge>(&distinct)?.into_iter().map(|edge| edge.key).collect();
    let places = VALUES.iter().filter_map(|name| batch.schema().index_of(name).ok()).collect::<Vec<_>>();
    let values = from_batch::<Edge>(&batch.project(&places)?)?.into_iter().map(|edge| Values {
        bucket: edge.bucket,
        measure: edge.measure,
        counter: edge.counter,
        latency: edge.latency,
    });
    Ok((keys, numbers.into_iter().map(|number| number as usize).zip(values).collect()))
}

/// Rows of one key, measure and stretch of time, which begins at the first of the times: counted one by one, so that
/// they add up in any order.
type Sums = HashMap<EdgeKey, HashMap<(UnixNanos, EdgeMeasure), (UnixNanos, CounterPart, Latency)>>;

fn add(sums: &mut Sums, stretch: impl Fn(UnixNanos) -> TimeRange, keys: &[EdgeKey], rows: KeyedRows) {
    for (number, row) in rows {
        // Counters' rows are made of samples; a file that has some is of an earlier release.
        let Some(key) = keys.get(number).filter(|key| key.origin != EdgeOrigin::Metrics) else { continue };
        let of_key = match sums.get_mut(key) {
            Some(of_key) => of_key,
            None => sums.entry(key.clone()).or_default(),
        };
        let Values { bucket, measure, counter, latency } = row;
        match of_key.entry((stretch(bucket).start, measure)) {
            Entry::Occupied(mut known) => {
                let (first, sum, distribution) = known.get_mut();
                *first = bucket.min(*first);
                sum.join(&counter);
                distribution.join(&latency);
            }
            Entry::Vacant(free) => {
                free.insert((bucket, counter, latency));
            }
        }
    }
}

impl TableSnapshot {
    /// Of the table `edges`: the rows whose ten seconds overlap `range`, those of one key, measure and stretch of time
    /// joined, by time.
    pub(crate) async fn edges(self, range: TimeRange, joining: Joining) -> Result<Vec<Edge>, StorageError> {
        let made = match &self.made {
            Some(made) => made.rows(range, joining).await?,
            None => Vec::new(),
        };
        off_thread(async move {
            let reach = TimeRange::new(range.start.plus_nanos(1 - EDGE_BUCKET_NS), range.end);
            let mut sums = Sums::default();
            let mut batches = self.read_stored(&Scan::new(reach)).await?;
            while let Some(batch) = batches.try_next().await? {
                let (keys, mut rows) = decode(&batch)?;
                rows.retain(|(_, row)| bucket_overlaps(row.bucket, range));
                add(&mut sums, |bucket| joining.stretch(bucket, range), &keys, rows);
            }
            let mut edges = made;
            for (key, of_key) in sums {
                for ((_, measure), (bucket, counter, latency)) in of_key {
                    edges.push(Edge { bucket, key: key.clone(), measure, counter, latency });
                }
            }
            edges.sort_by_key(|edge| (edge.bucket, edge.counter.first_ms));
            Ok(edges)
        })
        .await
    }
}

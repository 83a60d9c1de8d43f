//! Rows of the table `edges`. Keys are long and few: each is decoded once a batch, not once a row.

use arrow::{array::RecordBatch, compute::take_record_batch};
use futures::TryStreamExt;
use hashbrown::HashMap;
use pharos_model::{
    CounterPart, EDGE_BUCKET_NS, Edge, EdgeKey, EdgeMeasure, EdgeOrigin, Latency, TimeRange, UnixNanos,
};

use super::{Scan, TableSnapshot};
use crate::{
    StorageError,
    columns::{Column, Row, from_batch},
    derive::{Groups, bucket_overlaps, merge_edges},
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

/// Rows of one key and measure.
#[derive(Default)]
struct Rows {
    /// Joined as they come, or all of them where their order is not that of time.
    parts: Vec<(UnixNanos, CounterPart, Latency)>,
}

/// Rows come in the order of time, but for late data. Then they can be joined only after all are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Expected,
    Unknown,
}

impl Rows {
    /// Whether the row follows those before it.
    fn add(&mut self, bucket: UnixNanos, counter: &CounterPart, latency: &Latency, order: Order) -> bool {
        match self.parts.last_mut() {
            Some((_, last, sum)) if order == Order::Expected => {
                let follows = last.last_ms <= counter.first_ms;
                last.join(counter);
                sum.join(latency);
                follows
            }
            _ => {
                self.parts.push((bucket, *counter, latency.clone()));
                true
            }
        }
    }

    fn joined(mut self) -> Option<(UnixNanos, CounterPart, Latency)> {
        self.parts.sort_by_key(|(bucket, counter, _)| (*bucket, counter.first_ms));
        let mut parts = self.parts.into_iter();
        let mut sum = parts.next()?;
        for (_, counter, latency) in parts {
            sum.1.join(&counter);
            sum.2.join(&latency);
        }
        Some(sum)
    }
}

/// Rows in the middle of the range by key and measure, and those at its borders.
#[derive(Default)]
struct Sums {
    inner: HashMap<EdgeKey, HashMap<EdgeMeasure, Rows>>,
    border: Vec<Edge>,
    out_of_order: bool,
}

impl Sums {
    fn add(&mut self, range: TimeRange, order: Order, keys: &[EdgeKey], rows: KeyedRows) {
        for (number, row) in rows {
            let Some(key) = keys.get(number) else { continue };
            let Values { bucket, measure, counter, latency } = row;
            let is_inner = bucket >= range.start.plus_nanos(EDGE_BUCKET_NS)
                && bucket.plus_nanos(EDGE_BUCKET_NS) <= range.end;
            if !is_inner {
                self.border.push(Edge { bucket, key: key.clone(), measure, counter, latency });
                continue;
            }
            let measures = match self.inner.get_mut(key) {
                Some(measures) => measures,
                None => self.inner.entry(key.clone()).or_default(),
            };
            // What is counted row by row adds up in any order.
            let follows = measures.entry(measure).or_default().add(bucket, &counter, &latency, order);
            self.out_of_order |= !follows && key.origin == EdgeOrigin::Metrics;
        }
    }

    fn edges(self) -> Vec<Edge> {
        let mut edges = self.border;
        for (key, measures) in self.inner {
            for (measure, rows) in measures {
                if let Some((bucket, counter, latency)) = rows.joined() {
                    edges.push(Edge { bucket, key: key.clone(), measure, counter, latency });
                }
            }
        }
        merge_edges(edges)
    }
}

impl TableSnapshot {
    /// Of the table `edges`: the rows whose ten seconds overlap `range`, those of one bucket, key and measure
    /// joined, by time.
    pub(crate) async fn edges(self, range: TimeRange) -> Result<Vec<Edge>, StorageError> {
        let edges = self.fold(range, Vec::new(), |edges: &mut Vec<Edge>, keys, rows| {
            edges.extend(rows.into_iter().filter_map(|(number, row)| {
                let key = keys.get(number)?.clone();
                Some(Edge {
                    bucket: row.bucket,
                    key,
                    measure: row.measure,
                    counter: row.counter,
                    latency: row.latency,
                })
            }));
        });
        let edges = edges.await?;
        off_thread(async move { Ok(merge_edges(edges)) }).await
    }

    /// As `edges`, but the rows of one key and measure whose buckets lie wholly inside `range`, and not first in
    /// it, are joined to one.
    pub(crate) async fn edges_joined(self, range: TimeRange) -> Result<Vec<Edge>, StorageError> {
        let add = |order| {
            move |sums: &mut Sums, keys: &[EdgeKey], rows: KeyedRows| sums.add(range, order, keys, rows)
        };
        let mut sums = self.clone().fold(range, Sums::default(), add(Order::Expected)).await?;
        if sums.out_of_order {
            sums = self.fold(range, Sums::default(), add(Order::Unknown)).await?;
        }
        off_thread(async move { Ok(sums.edges()) }).await
    }

    async fn fold<S: Send + 'static>(
        self,
        range: TimeRange,
        mut sum: S,
        add: impl Fn(&mut S, &[EdgeKey], KeyedRows) + Send + 'static,
    ) -> Result<S, StorageError> {
        off_thread(async move {
            let reach = TimeRange::new(range.start.plus_nanos(1 - EDGE_BUCKET_NS), range.end);
            let mut batches = self.read(&Scan::new(reach)).await?;
            while let Some(batch) = batches.try_next().await? {
                let (keys, mut rows) = decode(&batch)?;
                rows.retain(|(_, row)| bucket_overlaps(row.bucket, range));
                add(&mut sum, &keys, rows);
            }
            Ok(sum)
        })
        .await
    }
}

//! What the writers of a test know of their rows, and what a reader finds of them.

use std::{collections::BTreeMap, ops::Range};

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use pharos_model::{EdgeMeasure, EdgeOrigin, Matcher, TimeRange};

use crate::{
    Batch, Scan, Storage, StorageError, Table, access_logs_of, spans_of,
    test_rows::{START, access_log, counter, span},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Spans,
    AccessLogs,
    Samples,
}

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::Spans, Kind::AccessLogs, Kind::Samples];

    pub(super) fn table(self) -> Table {
        match self {
            Kind::Spans => Table::Spans,
            Kind::AccessLogs => Table::AccessLogs,
            Kind::Samples => Table::Samples,
        }
    }
}

/// A batch that was sent, and at which steps of the disk.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) kind: Kind,
    pub(super) numbers: Range<u64>,
    pub(super) at: u64,
    pub(super) acknowledged_at: Option<u64>,
}

impl Sent {
    pub(super) fn batch(&self) -> Batch {
        let numbers = self.numbers.clone();
        match self.kind {
            Kind::Spans => Batch::Spans(numbers.map(span).collect()),
            Kind::AccessLogs => Batch::AccessLogs(numbers.map(access_log).collect()),
            Kind::Samples => Batch::Samples(vec![counter("a", numbers.start as i64..numbers.end as i64)]),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) sent: Vec<Sent>,
    next: u64,
}

impl Ledger {
    /// A new batch that is about to be sent; returns its place.
    pub(super) fn begin(&mut self, kind: Kind, rows: u64, at: u64) -> (usize, Batch) {
        let numbers = self.next..self.next + rows;
        self.next += rows;
        let sent = Sent { kind, numbers, at, acknowledged_at: None };
        let batch = sent.batch();
        self.sent.push(sent);
        (self.sent.len() - 1, batch)
    }

    pub(super) fn acknowledged(&mut self, place: usize, at: u64) {
        self.sent[place].acknowledged_at = Some(at);
    }

    /// What the writers knew when the disk had made this many steps.
    pub(super) fn at(&self, step: u64) -> Ledger {
        let known = self.sent.iter().filter(|sent| sent.at <= step).cloned().map(|sent| Sent {
            at: 0,
            acknowledged_at: sent.acknowledged_at.filter(|at| *at <= step).map(|_| 0),
            ..sent
        });
        Ledger { sent: known.collect(), next: self.next }
    }

    pub(super) fn rows(&self, kind: Kind, acknowledged: bool) -> u64 {
        let of_kind = self.sent.iter().filter(|sent| sent.kind == kind);
        let counted = of_kind.filter(|sent| !acknowledged || sent.acknowledged_at.is_some());
        counted.map(|sent| sent.numbers.end - sent.numbers.start).sum()
    }
}

/// What a reader finds: how often each row, by its number.
pub(super) struct Found {
    rows: [BTreeMap<u64, u64>; 3],
    /// Requests, or samples of counters, that the edges tell of.
    edges: [f64; 3],
    sample_rows: u64,
}

async fn batches(
    storage: &Storage,
    table: Table,
    columns: &[&str],
) -> Result<Vec<RecordBatch>, StorageError> {
    let mut scan = Scan::new(TimeRange::ALL);
    if !columns.is_empty() {
        scan = scan.columns(columns.iter().copied());
    }
    storage.snapshot(table, TimeRange::ALL)?.read(&scan).await?.try_collect().await
}

fn count(numbers: impl Iterator<Item = u64>) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    numbers.for_each(|number| *counts.entry(number).or_default() += 1);
    counts
}

impl Found {
    pub(super) async fn read(storage: &Storage) -> Result<Found, StorageError> {
        let mut spans = Vec::new();
        for batch in batches(storage, Table::Spans, &["time", "start_nanos_rem"]).await? {
            spans.extend(spans_of(&batch)?.iter().map(|span| (span.start.0 - START.0) as u64 / 7_000_001));
        }
        let mut logs = Vec::new();
        for batch in batches(storage, Table::AccessLogs, &["time", "time_nanos_rem"]).await? {
            logs.extend(access_logs_of(&batch)?.iter().map(|log| (log.time.0 - START.0) as u64 / 5_000_003));
        }
        let series = storage.select_series(&[Matcher::equal("pod", "a")], TimeRange::ALL, 10)?;
        let ids: Vec<_> = series.iter().map(|(id, _)| *id).collect();
        let columns = storage.read_samples(&ids, i64::MIN, i64::MAX).await?;
        let times = columns.iter().flat_map(|series| series.times_ms.iter());
        let samples = times.map(|time| (time - START.millis()) as u64 / 15_000);
        let rows = [count(spans.into_iter()), count(logs.into_iter()), count(samples)];
        let stored = batches(storage, Table::Samples, &["time"]).await?;
        let sample_rows = stored.iter().map(|batch| batch.num_rows() as u64).sum();

        let all = storage.edges(TimeRange::ALL).await?;
        let edges = [EdgeOrigin::Span, EdgeOrigin::AccessLog, EdgeOrigin::Metrics].map(|origin| {
            let of_origin = all.iter().filter(|edge| edge.key.origin == origin);
            match origin {
                EdgeOrigin::Metrics => of_origin.map(|edge| edge.counter.samples as f64).sum(),
                _ => of_origin
                    .filter(|edge| edge.measure == EdgeMeasure::Requests)
                    .map(|edge| edge.counter.increase)
                    .sum(),
            }
        });
        Ok(Found { rows, edges, sample_rows })
    }

    /// Each acknowledged row once, any other batch whole or absent, and nothing that was not sent. `before` is what
    /// the writers knew when reading began, `after` when it had ended.
    pub(super) fn check(&self, before: &Ledger, after: &Ledger) -> Result<(), String> {
        let quiet =
            before.sent.len() == after.sent.len()
                && after.sent.iter().zip(&before.sent).all(|(after, before)| {
                    after.acknowledged_at.is_some() == before.acknowledged_at.is_some()
                });
        for (place, sent) in after.sent.iter().enumerate() {
            let found = &self.rows[sent.kind as usize];
            let times = |number: u64| found.get(&number).copied().unwrap_or(0);
            let acknowledged = before.sent.get(place).is_some_and(|sent| sent.acknowledged_at.is_some());
            let first = times(sent.numbers.start);
            if acknowledged && first == 0 {
                return Err(format!("{sent:?} was acknowledged and is not there"));
            }
            if let Some(other) = sent.numbers.clone().find(|number| times(*number) != first || first > 1) {
                let times = times(other);
                return Err(format!(
                    "of {sent:?} row {other} is there {times} times, the first {first} times"
                ));
            }
        }
        for kind in Kind::ALL {
            let found: u64 = self.rows[kind as usize].values().sum();
            let of_kind: Vec<_> = after.sent.iter().filter(|sent| sent.kind == kind).collect();
            let unknown = |number: &&u64| !of_kind.iter().any(|sent| sent.numbers.contains(number));
            if let Some(number) = self.rows[kind as usize].keys().find(unknown) {
                return Err(format!("{kind:?} {number} was not sent and is there"));
            }
            let edges = self.edges[kind as usize];
            let (least, most) = match quiet {
                true => (found, found),
                false => (before.rows(kind, true), after.rows(kind, false)),
            };
            if edges < least as f64 || edges > most as f64 {
                return Err(format!("edges tell of {edges} {kind:?}, there are {least} to {most}"));
            }
        }
        let samples: u64 = self.rows[Kind::Samples as usize].values().sum();
        if quiet && samples != self.sample_rows {
            return Err(format!("{samples} samples by series, {} rows in the table", self.sample_rows));
        }
        Ok(())
    }
}

/// Rows come back as they were sent, in every column.
pub(super) async fn check_contents(storage: &Storage) -> Result<(), String> {
    let read = async |table| batches(storage, table, &[]).await.map_err(|error| error.to_string());
    for batch in read(Table::Spans).await? {
        for found in spans_of(&batch).map_err(|error| error.to_string())? {
            let number = (found.start.0 - START.0) as u64 / 7_000_001;
            if found != span(number) {
                return Err(format!("span {number} is {found:?}"));
            }
        }
    }
    for batch in read(Table::AccessLogs).await? {
        for found in access_logs_of(&batch).map_err(|error| error.to_string())? {
            let number = (found.time.0 - START.0) as u64 / 5_000_003;
            if found != access_log(number) {
                return Err(format!("access log {number} is {found:?}"));
            }
        }
    }
    Ok(())
}

use std::sync::Arc;

use pharos_storage::{AppendError, Batch, RejectedSamples, Storage};

use crate::{
    body::{Budget, Limits},
    counters::{Counters, Protocol},
    fault::Fault,
    start_time::StartTimes,
};

/// What every receiver shares: where rows go, what is counted, and what a peer may send.
pub(crate) struct Intake {
    pub(crate) storage: Storage,
    pub(crate) counters: Counters,
    pub(crate) limits: Limits,
    pub(crate) budget: Budget,
    /// `None` leaves the start times of counters unused.
    pub(crate) start_times: Option<Arc<StartTimes>>,
}

impl Intake {
    pub(crate) fn new(storage: Storage, limits: Limits, start_time_zeros: bool) -> Intake {
        let start_times = start_time_zeros.then(|| {
            let storage = storage.clone();
            Arc::new(StartTimes::new(move |series, time_ms| storage.has_sample_since(series, time_ms)))
        });
        Intake { storage, counters: Counters::new(), budget: Budget::new(&limits), limits, start_times }
    }

    /// Returns once the rows are durable, with what the store would not take of them. `items` is how many of the
    /// protocol's own items they are.
    pub(crate) async fn append(
        &self,
        protocol: Protocol,
        batch: Batch,
        items: usize,
    ) -> Result<Rejected, Fault> {
        let mut refused = Rejected::default();
        for part in parts(batch) {
            let appended = self.storage.append(part).await.map_err(fault_of)?;
            let of_series = appended.rejected;
            let items = of_series.samples + of_series.histograms;
            refused.merge(Rejected { items, reasons: appended.reasons, of_series });
        }
        self.counters.stored(protocol, items.saturating_sub(refused.items));
        Ok(refused)
    }
}

/// The store takes a batch whole or not at all, and only so much at a time; rows have identities, so that a sender
/// that is told 'later' in the middle can send all of them again.
const MAX_ROWS: usize = 20_000;

fn parts(batch: Batch) -> Vec<Batch> {
    fn split<T>(mut rows: Vec<T>, wrap: fn(Vec<T>) -> Batch) -> Vec<Batch> {
        let mut parts = Vec::new();
        while rows.len() > MAX_ROWS {
            let rest = rows.split_off(MAX_ROWS);
            parts.push(wrap(std::mem::replace(&mut rows, rest)));
        }
        if !rows.is_empty() {
            parts.push(wrap(rows));
        }
        parts
    }
    match batch {
        Batch::Spans(rows) => split(rows, Batch::Spans),
        Batch::AccessLogs(rows) => split(rows, Batch::AccessLogs),
        Batch::Logs(rows) => split(rows, Batch::Logs),
        Batch::Samples(rows) => split(rows, Batch::Samples),
        Batch::MeshConfig(rows) => split(rows, Batch::MeshConfig),
    }
}

fn fault_of(error: AppendError) -> Fault {
    match error {
        AppendError::Overloaded { retry_after } => {
            Fault::Later { message: "the store is busy; try again later".into(), retry_after }
        }
        AppendError::Invalid { message } => Fault::TooLarge(format!("the store refused the data: {message}")),
        other => Fault::Internal(format!("the data could not be stored: {other}")),
    }
}

/// Rows made from a request, and what of it could not be used.
pub(crate) struct Normalised<T> {
    pub(crate) rows: Vec<T>,
    pub(crate) rejected: Rejected,
}

impl<T> Default for Normalised<T> {
    fn default() -> Normalised<T> {
        Normalised { rows: Vec::new(), rejected: Rejected::default() }
    }
}

/// How many items were refused, and why the first ones were.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) items: usize,
    reasons: Vec<String>,
    /// What the store itself refused of series.
    pub(crate) of_series: RejectedSamples,
}

impl Rejected {
    const MAX_REASONS: usize = 5;

    pub(crate) fn add(&mut self, items: usize, reason: impl FnOnce() -> String) {
        self.items += items;
        if self.reasons.len() < Rejected::MAX_REASONS {
            let reason = reason();
            if !self.reasons.contains(&reason) {
                self.reasons.push(reason);
            }
        }
    }

    pub(crate) fn merge(&mut self, other: Rejected) {
        self.items += other.items;
        self.reasons.extend(other.reasons);
        self.reasons.truncate(Rejected::MAX_REASONS);
        self.of_series.samples += other.of_series.samples;
        self.of_series.histograms += other.of_series.histograms;
        self.of_series.exemplars += other.of_series.exemplars;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items == 0
    }

    pub(crate) fn message(&self) -> String {
        self.reasons.join("; ")
    }
}

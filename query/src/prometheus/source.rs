//! The storage as a PromQL engine's source.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use pharos_model::{LabelMatcher, Labels, SeriesId, TimeRange, UnixNanos};
use pharos_promql::{
    Histogram, HistogramSample, Matcher, Samples, SelectRequest, SeriesSource, SeriesVisitor, SourceError,
};
use pharos_storage::{SeriesHistograms, Storage, StorageError};
use tokio::runtime::Handle;

/// Samples that are read from files at once, by estimate.
const SAMPLES_A_READ: i64 = 2_000_000;

/// Blocks on reads, so it belongs on a blocking thread.
pub(crate) struct StorageSource {
    storage: Storage,
    runtime: Handle,
    max_series: usize,
    cancel: Arc<AtomicBool>,
    too_many_series: AtomicBool,
}

impl StorageSource {
    pub(crate) fn new(
        storage: Storage,
        runtime: Handle,
        max_series: usize,
        cancel: Arc<AtomicBool>,
    ) -> StorageSource {
        StorageSource { storage, runtime, max_series, cancel, too_many_series: AtomicBool::new(false) }
    }

    /// Whether a selector failed because it matched too much, which the query's author can mend.
    pub(crate) fn had_too_many_series(&self) -> bool {
        self.too_many_series.load(Ordering::Relaxed)
    }

    fn failed(&self, error: StorageError) -> SourceError {
        if matches!(error, StorageError::TooManySeries { .. }) {
            self.too_many_series.store(true, Ordering::Relaxed);
        }
        SourceError(error.to_string())
    }
}

impl SeriesSource for StorageSource {
    fn select(&self, request: &SelectRequest<'_>, visit: &mut SeriesVisitor<'_>) -> Result<(), SourceError> {
        let matchers: Vec<LabelMatcher> =
            request.matchers.iter().map(|matcher: &Matcher| matcher.condition().clone()).collect();
        let first_ms = request.after_ms.saturating_add(1);
        let range = TimeRange::new(
            UnixNanos::from_millis(first_ms),
            UnixNanos::from_millis(request.until_ms.saturating_add(1)),
        );
        let mut series = self
            .storage
            .select_series(&matchers, range, self.max_series)
            .map_err(|error| self.failed(error))?;
        // So that sums are the same from run to run.
        series.sort_by(|a, b| a.1.cmp(&b.1));
        // At the usual scrape interval.
        let samples_each = (request.until_ms.saturating_sub(first_ms) / 15_000).clamp(1, SAMPLES_A_READ);
        let at_once = usize::try_from(SAMPLES_A_READ / samples_each).unwrap_or(1).clamp(16, 20_000);
        for chunk in series.chunks(at_once) {
            if self.cancel.load(Ordering::Relaxed) {
                return Ok(());
            }
            if !self.lend(chunk, first_ms, request.until_ms, visit)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl StorageSource {
    /// Reads the series and lends them one by one; `false` when the visitor wants no more.
    fn lend(
        &self,
        series: &[(SeriesId, Labels)],
        first_ms: i64,
        last_ms: i64,
        visit: &mut SeriesVisitor<'_>,
    ) -> Result<bool, SourceError> {
        let ids: Vec<SeriesId> = series.iter().map(|(id, _)| *id).collect();
        let columns = self
            .runtime
            .block_on(self.storage.read_samples(&ids, first_ms, last_ms))
            .map_err(|error| self.failed(error))?;
        let histograms = self
            .runtime
            .block_on(self.storage.read_histograms(&ids, first_ms, last_ms))
            .map_err(|error| self.failed(error))?;
        let mut histograms = histograms.into_iter().peekable();
        let mut columns = columns.into_iter().peekable();
        for (id, labels) in series {
            let Some(column) = columns.next_if(|column| column.id == *id) else { continue };
            let histograms = histograms.next_if(|histograms| histograms.id == *id);
            let histograms: Vec<HistogramSample> = histograms.map(histogram_samples).unwrap_or_default();
            if column.times_ms.is_empty() && histograms.is_empty() {
                continue;
            }
            let samples = Samples {
                times_ms: &column.times_ms,
                values: &column.values,
                histograms: &histograms,
                ..Samples::default()
            };
            if let ControlFlow::Break(()) = visit(&Arc::new(labels.clone()), samples) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn histogram_samples(stored: SeriesHistograms) -> Vec<HistogramSample> {
    stored
        .samples
        .into_iter()
        .map(|(time_ms, histogram)| HistogramSample {
            time_ms,
            start_ms: 0,
            value: Arc::new(Histogram::from(&*histogram)),
        })
        .collect()
}

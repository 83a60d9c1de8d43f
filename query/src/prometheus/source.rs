//! The storage as a PromQL engine's source.

use std::{
    ops::{ControlFlow, Range},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use pharos_model::{Labels, SeriesId};
use pharos_promql::{
    Histogram, HistogramSample, Samples, SelectRequest, SeriesSource, SeriesVisitor, SourceError, SourcePart,
};
use pharos_storage::{SampleBlock, SampleReader, SeriesHistograms, Storage, StorageError};
use tokio::runtime::Handle;

use crate::parallel::{read_ahead, threads};

/// Samples that are read from files at once, by estimate; less would read the same pages again and again.
const SAMPLES_A_READ: usize = 2_000_000;

/// Samples that are taken out of memory at once: what fits the processor's caches.
const SAMPLES_FROM_MEMORY: usize = 60_000;

/// Series that are read at once, from files and from memory. Of a few thousand with few samples each, some are read
/// while others are evaluated.
const SERIES_A_READ: usize = 20_000;
const SERIES_FROM_MEMORY: usize = 512;

/// With fewer of either it is not worth to start another thread.
const SERIES_A_PART: usize = 750;
const SAMPLES_A_PART: usize = 30_000;

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

    /// Reads the series at these places.
    fn read(&self, selected: &Selected, places: Range<usize>) -> Result<Columns, SourceError> {
        let (first_ms, last_ms) = (selected.first_ms, selected.last_ms);
        let mut ids: Vec<SeriesId> = Vec::new();
        if selected.may_have_histograms {
            ids.extend(selected.reader.series(places.clone()).map(|(id, _)| id));
        }
        let mut floats = selected.spare.lock().pop().unwrap_or_default();
        let histograms = self
            .runtime
            .block_on(async {
                selected.reader.read(places, &mut floats).await?;
                self.storage.read_histograms(&ids, first_ms, last_ms).await
            })
            .map_err(|error| self.failed(error))?;
        Ok(Columns { floats, histograms })
    }
}

/// The series that a selector matches, all samples of them as of one moment.
struct Selected {
    reader: SampleReader,
    first_ms: i64,
    last_ms: i64,
    /// Whether some of the series may have native histograms besides.
    may_have_histograms: bool,
    /// Blocks that have been lent; their memory is used again.
    spare: Mutex<Vec<SampleBlock>>,
}

/// What was read of some series.
#[derive(Default)]
struct Columns {
    floats: SampleBlock,
    /// Of those that have any, in order.
    histograms: Vec<SeriesHistograms>,
}

impl StorageSource {
    fn open(&self, request: &SelectRequest<'_>) -> Result<Selected, SourceError> {
        let (first_ms, last_ms) = (request.after_ms.saturating_add(1), request.until_ms);
        // In the order in which their samples lie, which is the same from run to run, and so are sums.
        let reader = self
            .storage
            .select_samples(request.matchers, first_ms, last_ms, self.max_series)
            .map_err(|error| self.failed(error))?;
        let may_have_histograms = reader.may_have_histograms();
        Ok(Selected { reader, first_ms, last_ms, may_have_histograms, spare: Mutex::default() })
    }

    /// Visits the series at these places, which are read by so many threads.
    fn visit(
        &self,
        selected: &Selected,
        places: Range<usize>,
        threads: usize,
        visit: &mut SeriesVisitor<'_>,
    ) -> Result<(), SourceError> {
        let at_once = selected.series_a_read();
        let starts: Vec<usize> = places.clone().step_by(at_once).collect();
        let block = |start: usize| start..places.end.min(start + at_once);
        read_ahead(
            &starts,
            threads,
            |start| match self.cancel.load(Ordering::Relaxed) {
                true => Ok(Columns::default()),
                false => self.read(selected, block(start)),
            },
            |start, columns| {
                let floats = lend(selected.reader.series(block(start)), columns, visit)?;
                selected.spare.lock().push(floats);
                ControlFlow::Continue(())
            },
        )
    }
}

impl Selected {
    /// At the usual scrape interval.
    fn samples_each(&self) -> usize {
        let samples = self.last_ms.saturating_sub(self.first_ms) / 15_000;
        usize::try_from(samples).unwrap_or(usize::MAX).clamp(1, SAMPLES_A_READ)
    }

    fn series_a_read(&self) -> usize {
        let (samples_at_once, most_series) = match self.reader.needs_files() {
            true => (SAMPLES_A_READ, SERIES_A_READ),
            false => (SAMPLES_FROM_MEMORY, SERIES_FROM_MEMORY),
        };
        (samples_at_once / self.samples_each()).clamp(16, most_series)
    }
}

impl SeriesSource for StorageSource {
    fn select(&self, request: &SelectRequest<'_>, visit: &mut SeriesVisitor<'_>) -> Result<(), SourceError> {
        let selected = self.open(request)?;
        self.visit(&selected, 0..selected.reader.len(), threads(), visit)
    }

    fn parts<'s>(&'s self, request: &SelectRequest<'_>) -> Result<Vec<SourcePart<'s>>, SourceError> {
        let selected = Arc::new(self.open(request)?);
        let (series, samples_each) = (selected.reader.len(), selected.samples_each());
        let worth = (series / SERIES_A_PART).max(series.saturating_mul(samples_each) / SAMPLES_A_PART);
        let parts = match selected.may_have_histograms {
            true => 1,
            false => worth.clamp(1, threads()),
        };
        let part = |number: usize| {
            let places = series * number / parts..series * (number + 1) / parts;
            let selected = Arc::clone(&selected);
            Box::new(Part { source: self, selected, places, is_all: parts == 1 }) as SourcePart<'s>
        };
        Ok((0..parts).map(part).collect())
    }
}

/// Some of the series that were selected.
struct Part<'s> {
    source: &'s StorageSource,
    selected: Arc<Selected>,
    places: Range<usize>,
    /// No other thread is at work.
    is_all: bool,
}

impl SeriesSource for Part<'_> {
    fn select(&self, _: &SelectRequest<'_>, visit: &mut SeriesVisitor<'_>) -> Result<(), SourceError> {
        let threads = if self.is_all { threads() } else { 1 };
        self.source.visit(&self.selected, self.places.clone(), threads, visit)
    }
}

fn lend<'a>(
    series: impl Iterator<Item = (SeriesId, &'a Labels)>,
    columns: Columns,
    visit: &mut SeriesVisitor<'_>,
) -> ControlFlow<(), SampleBlock> {
    let mut histograms = columns.histograms.into_iter().peekable();
    for ((id, labels), place) in series.zip(0..columns.floats.len()) {
        let (times_ms, values) = columns.floats.series(place);
        let histograms = histograms.next_if(|histograms| histograms.id == id);
        let histograms: Vec<HistogramSample> = histograms.map(histogram_samples).unwrap_or_default();
        if !times_ms.is_empty() || !histograms.is_empty() {
            visit(labels, Samples { times_ms, values, histograms: &histograms, ..Samples::default() })?;
        }
    }
    ControlFlow::Continue(columns.floats)
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

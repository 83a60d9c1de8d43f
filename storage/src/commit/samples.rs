//! Samples on their way in: known series are found by id, new ones are checked and given a row, and what was stored
//! before is left out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pharos_model::{Exemplar, Labels, Sample, SeriesId, TimeSeries};

use super::{Commit, Committer, RejectedSamples};
use crate::{
    StorageConfig,
    rows::{ExemplarRow, HistogramRow, SeriesRow},
    series_index::{Ordinal, SeriesIndex, Staged},
};

/// A sample that was not stored before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct NewSample {
    pub(crate) ordinal: Ordinal,
    pub(crate) series: SeriesId,
    pub(crate) time_ms: i64,
    pub(crate) value: f64,
}

/// Samples that are not taken.
#[derive(Default)]
pub(super) struct Refused {
    pub(super) items: RejectedSamples,
    pub(super) reasons: Vec<String>,
}

const MAX_REASONS: usize = 5;

/// Between two words in the log about samples that were refused.
const WARN_EVERY: Duration = Duration::from_secs(10);

impl Refused {
    fn add(&mut self, items: RejectedSamples, reason: impl FnOnce() -> String) {
        self.items.samples += items.samples;
        self.items.histograms += items.histograms;
        self.items.exemplars += items.exemplars;
        if items.all() > 0 && self.reasons.len() < MAX_REASONS {
            self.reasons.push(reason());
        }
    }
}

/// In the year 2262: later times are no 64-bit nanoseconds. The same distance before 1970 is the earliest.
const MAX_TIME_MS: i64 = 9_223_372_036_000;

fn in_range(time_ms: i64) -> bool {
    (-MAX_TIME_MS..=MAX_TIME_MS).contains(&time_ms)
}

impl Committer {
    /// Takes the new samples over, and leaves just those in `all`.
    pub(super) fn add_samples(&mut self, commit: &mut Commit, all: &mut Vec<TimeSeries>) -> Refused {
        let mut refused = Refused::default();
        let mut index = self.shared.index.write();
        for series in all.iter_mut() {
            let id = series.labels.series_id();
            let known = index.ordinal(id);
            if known.is_none()
                && let Err(reason) = check_limits(&self.shared.config, &index, &series.labels)
            {
                let items = RejectedSamples {
                    samples: series.samples.len(),
                    histograms: series.histograms.len(),
                    exemplars: series.exemplars.len(),
                };
                refused.add(items, || reason);
                series.samples.clear();
                series.histograms.clear();
                series.exemplars.clear();
                continue;
            }
            if let Some(metadata) = &series.metadata {
                index.set_metadata(metadata);
            }
            let mut of_series = OfSeries { id, ordinal: known, last: None, refused: &mut refused };
            let TimeSeries { labels, samples, histograms, exemplars, metadata } = series;
            let row = |first_ms| SeriesRow {
                first_ms,
                series: id,
                labels: labels.clone(),
                metadata: metadata.clone(),
            };
            samples.retain(|sample| {
                let Sample { time_ms, value } = *sample;
                let new = of_series.stage(self, commit, &mut index, Item::Sample(time_ms, value), &row);
                if let Some(ordinal) = new {
                    commit.rows.samples.push(NewSample { ordinal, series: id, time_ms, value });
                }
                new.is_some()
            });
            histograms.retain(|sample| {
                let new = of_series.stage(self, commit, &mut index, Item::Histogram(sample.time_ms), &row);
                if new.is_some() {
                    let metric: Arc<str> = labels.metric_name().into();
                    index.add_histogram_metric(&metric);
                    index.recall_histogram(id, sample.time_ms);
                    commit.rows.histograms.push(HistogramRow::new(metric, id, sample.clone()));
                }
                new.is_some()
            });
            let ordinal = of_series.ordinal;
            // A scrape repeats a series' exemplar until there is a new one.
            let is_new = |index: &mut SeriesIndex, exemplar: &Exemplar| {
                in_range(exemplar.time_ms)
                    && ordinal.is_some_and(|ordinal| index.is_new_exemplar(ordinal, exemplar))
            };
            if ordinal.is_none() {
                let items = RejectedSamples { exemplars: exemplars.len(), ..RejectedSamples::default() };
                refused.add(items, || format!("exemplars of {labels}, which has no samples"));
            }
            exemplars.retain(|exemplar| is_new(&mut index, exemplar));
            commit.rows.exemplars.extend(exemplars.iter().map(|exemplar| ExemplarRow {
                metric: labels.metric_name().into(),
                series: id,
                exemplar: exemplar.clone(),
            }));
        }
        drop(index);
        all.retain(|series| {
            !series.samples.is_empty() || !series.histograms.is_empty() || !series.exemplars.is_empty()
        });
        if refused.items.all() > 0 && self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                samples = refused.items.all(),
                reason = refused.reasons.join("; "),
                "samples were refused"
            );
        }
        refused
    }
}

struct OfSeries<'a> {
    id: SeriesId,
    ordinal: Option<Ordinal>,
    /// The newest sample of this batch.
    last: Option<(i64, f64)>,
    refused: &'a mut Refused,
}

#[derive(Clone, Copy)]
enum Item {
    /// Time in milliseconds, value.
    Sample(i64, f64),
    Histogram(i64),
}

impl Item {
    fn time_ms(self) -> i64 {
        match self {
            Item::Sample(time_ms, _) | Item::Histogram(time_ms) => time_ms,
        }
    }

    fn one(self) -> RejectedSamples {
        match self {
            Item::Sample(..) => RejectedSamples { samples: 1, ..RejectedSamples::default() },
            Item::Histogram(_) => RejectedSamples { histograms: 1, ..RejectedSamples::default() },
        }
    }
}

impl OfSeries<'_> {
    /// The series' ordinal, if it has no sample at that time yet.
    fn stage(
        &mut self,
        committer: &Committer,
        commit: &mut Commit,
        index: &mut SeriesIndex,
        item: Item,
        row: &impl Fn(i64) -> SeriesRow,
    ) -> Option<Ordinal> {
        let time_ms = item.time_ms();
        if !in_range(time_ms) {
            let reason = || format!("{}: the time {time_ms} ms is no 64-bit nanoseconds", row(0).labels);
            self.refused.add(item.one(), reason);
            return None;
        }
        let ordinal = match self.ordinal {
            Some(ordinal) if index.entry(ordinal).is_some_and(|entry| entry.has_day(time_ms)) => ordinal,
            _ => {
                let row = row(time_ms);
                let ordinal = index.insert(&row);
                commit.rows.series.push(row);
                ordinal
            }
        };
        self.ordinal = Some(ordinal);
        let mut stored = None;
        let new = match index.stage(ordinal, time_ms) {
            Staged::New => true,
            Staged::Known => false,
            Staged::Late => {
                let rows = &commit.rows.samples;
                let staged = commit
                    .staged
                    .get_or_insert_with(|| rows.iter().map(|row| (row.ordinal, row.time_ms)).collect());
                stored = committer.shared.sample_at(ordinal, time_ms);
                stored.is_none()
                    && !staged.contains(&(ordinal, time_ms))
                    && !index.has_histogram(ordinal, time_ms)
                    && !committer.shared.has_histogram(self.id, time_ms)
            }
        };
        if let (true, Some(staged)) = (new, &mut commit.staged) {
            staged.insert((ordinal, time_ms));
        }
        match item {
            Item::Sample(_, value) if new => self.last = Some((time_ms, value)),
            // What is sent again is no fault, as long as it is the same.
            Item::Sample(_, value) => {
                let known = match self.last {
                    Some((last_ms, last)) if last_ms == time_ms => Some(last),
                    _ => stored.or_else(|| committer.shared.sample_at(ordinal, time_ms)),
                };
                if let Some(known) = known.filter(|known| known.to_bits() != value.to_bits()) {
                    let labels = row(0).labels;
                    self.refused.add(item.one(), || {
                        format!("{labels} has the value {known} at {time_ms} ms already, and not {value}")
                    });
                }
            }
            Item::Histogram(_) => {}
        }
        new.then_some(ordinal)
    }
}

/// Whether a new series may be stored; if not, why.
fn check_limits(config: &StorageConfig, index: &SeriesIndex, labels: &Labels) -> Result<(), String> {
    if index.len() >= config.max_series {
        return Err(format!(
            "{labels} would be a series more than the {} that may be stored",
            config.max_series
        ));
    }
    if labels.len() > config.max_labels {
        let (count, most) = (labels.len(), config.max_labels);
        return Err(format!("{labels} has {count} labels; a series may have {most}"));
    }
    let (longest_name, longest_value) = (config.max_label_name_bytes, config.max_label_value_bytes);
    for (name, value) in labels.iter() {
        let metric = labels.metric_name();
        if name.len() > longest_name {
            let start: String = name.chars().take(64).collect();
            return Err(format!(
                "a series of {metric} has a label name of {} bytes, {start:?}…; it may have {longest_name}",
                name.len()
            ));
        }
        if value.len() > longest_value {
            let start: String = value.chars().take(64).collect();
            return Err(format!(
                "a series of {metric} has a value of {} bytes in label {name}, {start:?}…; it may have {longest_value}",
                value.len()
            ));
        }
    }
    Ok(())
}

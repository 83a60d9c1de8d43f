//! Start times of counters, as zeros in front of them: what Prometheus 3 does with its feature
//! `created-timestamp-zero-ingestion`.

use hashbrown::HashMap;
use parking_lot::Mutex;
use pharos_model::{HistogramSample, Labels, NativeHistogram, ResetHint, Sample, SeriesId, TimeSeries};

pub(crate) struct StartTimes {
    /// Whether a series has a stored sample at a time, in milliseconds, or after it.
    has_sample_since: Box<dyn Fn(SeriesId, i64) -> bool + Send + Sync>,
    /// The newest sample of each series that came with a start time.
    newest: Mutex<HashMap<SeriesId, i64>>,
}

/// A start further before its sample is left out, as one that Prometheus' head would not take.
const MAX_BEFORE_MS: i64 = 3_600_000;

/// Beyond this many series all are forgotten; a zero that is written again changes nothing.
const MAX_SERIES: usize = 5_000_000;

impl StartTimes {
    pub(crate) fn new(
        has_sample_since: impl Fn(SeriesId, i64) -> bool + Send + Sync + 'static,
    ) -> StartTimes {
        StartTimes { has_sample_since: Box::new(has_sample_since), newest: Mutex::default() }
    }

    /// When the series has to be zero, if it began at `start_ms` (0 is unknown) and has a sample at `time_ms` that
    /// comes next: not if it has had samples since then. What does not fit is the sender's no fault, and left out.
    fn zero_before(&self, labels: &Labels, start_ms: i64, time_ms: i64) -> Option<i64> {
        if start_ms <= 0 || start_ms >= time_ms {
            return None;
        }
        let series = labels.series_id();
        let mut newest = self.newest.lock();
        if newest.len() >= MAX_SERIES {
            newest.clear();
        }
        let newest_ms = newest.entry(series).or_insert(i64::MIN);
        let is_new = *newest_ms < start_ms;
        *newest_ms = (*newest_ms).max(time_ms);
        drop(newest);
        let fits = is_new && time_ms - start_ms <= MAX_BEFORE_MS;
        (fits && !(self.has_sample_since)(series, start_ms)).then_some(start_ms)
    }

    /// Puts the zero in front of what counts from `start_ms` on.
    pub(crate) fn add_zero(&self, series: &mut TimeSeries, start_ms: i64) {
        self.add_zeros(series, |_| start_ms);
    }

    /// The same where each sample has a start of its own, by its time.
    pub(crate) fn add_zeros(&self, series: &mut TimeSeries, start_ms_of: impl Fn(i64) -> i64) {
        let TimeSeries { labels, samples, histograms, .. } = series;
        let zero_before = |time_ms: i64| self.zero_before(labels, start_ms_of(time_ms), time_ms);
        let mut at = 0;
        while let Some(sample) = samples.get(at) {
            let zero_ms = zero_before(sample.time_ms);
            // Nor if they come together with it.
            let is_late = |zero_ms: &i64| samples.iter().take(at).any(|before| before.time_ms >= *zero_ms);
            if let Some(time_ms) = zero_ms.filter(|zero_ms| !is_late(zero_ms)) {
                samples.insert(at, Sample { time_ms, value: 0.0 });
                at += 1;
            }
            at += 1;
        }
        let mut at = 0;
        while let Some(sample) = histograms.get(at) {
            if let Some(time_ms) = zero_before(sample.time_ms) {
                let histogram = zero_like(&sample.histogram);
                histograms.insert(at, HistogramSample { time_ms, histogram });
                at += 1;
            }
            at += 1;
        }
    }
}

/// Of the same shape, so that both are stored alike.
fn zero_like(histogram: &NativeHistogram) -> NativeHistogram {
    NativeHistogram {
        schema: histogram.schema,
        reset_hint: ResetHint::Reset,
        zero_threshold: histogram.zero_threshold,
        custom_bounds: histogram.custom_bounds.clone(),
        ..NativeHistogram::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_is_written_once_for_a_start_that_nothing_preceded() {
        let starts = StartTimes::new(|_, _| false);
        let labels = |name: &str| Labels::from_pairs([("__name__", name)]);
        for (series, start_ms, time_ms, expected) in [
            ("a", 1_000, 2_000, Some(1_000)),
            ("a", 1_000, 3_000, None),
            ("b", 1_000, 2_000, Some(1_000)),
            // Restarted.
            ("a", 3_500, 4_000, Some(3_500)),
            ("a", 3_500, 5_000, None),
            // Later than its own sample, unknown, and too long ago.
            ("c", 2_000, 2_000, None),
            ("c", 0, 2_000, None),
            ("c", 1, 3_600_002, None),
            ("c", 2, 3_600_003, None),
            ("d", 2, 3_600_002, Some(2)),
        ] {
            let got = starts.zero_before(&labels(series), start_ms, time_ms);
            assert_eq!(got, expected, "{series} {start_ms} {time_ms}");
        }
        let histogram = NativeHistogram {
            schema: 3,
            count: 2.0,
            sum: 5.0,
            positive: vec![(1, 2.0)],
            ..NativeHistogram::default()
        };
        let mut series = TimeSeries {
            labels: labels("h"),
            histograms: vec![HistogramSample { time_ms: 2_000, histogram }],
            ..TimeSeries::default()
        };
        starts.add_zero(&mut series, 1_500);
        let zero = &series.histograms[0];
        assert_eq!((zero.time_ms, zero.histogram.schema, zero.histogram.count), (1_500, 3, 0.0));
        assert_eq!((zero.histogram.reset_hint, series.histograms.len()), (ResetHint::Reset, 2));
        // Restarted between two samples that came together.
        let mut series = TimeSeries {
            labels: labels("s"),
            samples: [2_000, 3_000, 4_000].map(|time_ms| Sample { time_ms, value: 7.0 }).to_vec(),
            ..TimeSeries::default()
        };
        starts.add_zeros(&mut series, |time_ms| if time_ms < 4_000 { 1_000 } else { 3_500 });
        let samples: Vec<(i64, f64)> =
            series.samples.iter().map(|sample| (sample.time_ms, sample.value)).collect();
        assert_eq!(samples, [(1_000, 0.0), (2_000, 7.0), (3_000, 7.0), (3_500, 0.0), (4_000, 7.0)]);
    }
}

//! Start times of counters, as zeros in front of them: what Prometheus 3 does with its feature
//! `created-timestamp-zero-ingestion`.

use hashbrown::HashMap;
use parking_lot::Mutex;
use pharos_model::{HistogramSample, Labels, NativeHistogram, ResetHint, Sample, SeriesId, TimeSeries};

/// The newest sample of each series that came with a start time.
#[derive(Default)]
pub(crate) struct StartTimes(Mutex<HashMap<SeriesId, i64>>);

/// A start further before its sample is left out, as one that Prometheus' head would not take.
const MAX_BEFORE_MS: i64 = 3_600_000;

/// Beyond this many series all are forgotten; a zero that is written again changes nothing.
const MAX_SERIES: usize = 5_000_000;

impl StartTimes {
    /// When the series has to be zero, if it began at `start_ms` (0 is unknown) and has a sample at `time_ms` that
    /// comes next: not if it has had samples since then.
    pub(crate) fn zero_before(&self, labels: &Labels, start_ms: i64, time_ms: i64) -> Option<i64> {
        if start_ms <= 0 || start_ms >= time_ms {
            return None;
        }
        let mut newest = self.0.lock();
        if newest.len() >= MAX_SERIES {
            newest.clear();
        }
        let newest = newest.entry(labels.series_id()).or_insert(i64::MIN);
        let is_new = *newest < start_ms;
        *newest = (*newest).max(time_ms);
        (is_new && time_ms - start_ms <= MAX_BEFORE_MS).then_some(start_ms)
    }

    /// Puts the zero in front of a series of one sample or histogram.
    pub(crate) fn add_zero(&self, series: &mut TimeSeries, start_ms: i64) {
        if let Some(sample) = series.samples.first()
            && let Some(time_ms) = self.zero_before(&series.labels, start_ms, sample.time_ms)
        {
            series.samples.insert(0, Sample { time_ms, value: 0.0 });
        }
        if let Some(sample) = series.histograms.first()
            && let Some(time_ms) = self.zero_before(&series.labels, start_ms, sample.time_ms)
        {
            let histogram = zero_like(&sample.histogram);
            series.histograms.insert(0, HistogramSample { time_ms, histogram });
        }
    }
}

/// Of the same shape, so that both are stored alike.
pub(crate) fn zero_like(histogram: &NativeHistogram) -> NativeHistogram {
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
        let starts = StartTimes::default();
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
    }
}

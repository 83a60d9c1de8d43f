//! From rows of the table `edges` to flows: one per label set and origin, with its rates over the window.

use std::collections::HashMap;

use pharos_model::{CounterPart, Edge, EdgeKey, EdgeMeasure, EdgeOrigin, Latency, Reporter, SeriesId};

/// The stretch of time a graph is about: `start` is not part of it, `end` is, as in Prometheus' range selectors.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub start_ms: i64,
    pub end_ms: i64,
}

impl Window {
    pub fn ending_at(end_s: i64, duration_s: i64) -> Window {
        let end_ms = end_s.saturating_mul(1_000);
        Window { start_ms: end_ms.saturating_sub(duration_s.saturating_mul(1_000)), end_ms }
    }

    pub fn seconds(&self) -> f64 {
        (self.end_ms - self.start_ms).max(1) as f64 / 1_000.0
    }

    /// The part of a counter that lies in the window. A bucket that lies across a border gives its sample on the
    /// inner side, so that the joined counter starts and ends inside.
    fn clip(&self, part: &CounterPart) -> Option<CounterPart> {
        let (starts_in, ends_in) = (part.first_ms > self.start_ms, part.last_ms <= self.end_ms);
        if part.last_ms <= self.start_ms || part.first_ms > self.end_ms {
            return None;
        }
        let single = |time_ms, value| CounterPart {
            first_ms: time_ms,
            first: value,
            last_ms: time_ms,
            last: value,
            increase: 0.0,
            samples: 1,
        };
        match (starts_in, ends_in) {
            (true, true) => Some(*part),
            (false, true) => Some(single(part.last_ms, part.last)),
            (true, false) => Some(single(part.first_ms, part.first)),
            (false, false) => None,
        }
    }

    /// Whether rows that were counted one by one belong to the window: their middle decides.
    fn holds_rows(&self, part: &CounterPart) -> bool {
        let middle = part.first_ms + (part.last_ms - part.first_ms) / 2;
        self.start_ms < middle && middle <= self.end_ms
    }

    /// Prometheus' `rate()`: the increase per second, extended towards the window's borders where the first and
    /// the last sample are near enough to them, and not below zero. Source: `promql/functions.go`,
    /// `extrapolatedRate`. `None` with fewer than two samples.
    fn rate(&self, part: &CounterPart) -> Option<f64> {
        if part.samples < 2 || part.last_ms <= part.first_ms {
            return None;
        }
        let sampled_s = (part.last_ms - part.first_ms) as f64 / 1_000.0;
        let between_samples_s = sampled_s / (part.samples - 1) as f64;
        let extend =
            |gap_s: f64| if gap_s >= between_samples_s * 1.1 { between_samples_s / 2.0 } else { gap_s };
        let mut before_s = extend((part.first_ms - self.start_ms) as f64 / 1_000.0);
        if part.increase > 0.0 && part.first >= 0.0 {
            before_s = before_s.min(sampled_s * (part.first / part.increase));
        }
        let after_s = extend((self.end_ms - part.last_ms) as f64 / 1_000.0);
        Some(part.increase * (sampled_s + before_s + after_s) / sampled_s / self.seconds())
    }
}

/// Counts and rates of one label set as one origin tells them.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub key: EdgeKey,
    /// Per second, by measure. `None`: nothing was reported, which is less than zero.
    rates: [Option<f64>; EdgeMeasure::ALL.len()],
    /// What was counted in the window, not extended to its borders.
    increases: [f64; EdgeMeasure::ALL.len()],
    pub latency: Latency,
}

impl Flow {
    pub(super) fn rate(&self, measure: EdgeMeasure) -> Option<f64> {
        self.rates.get(measure as usize).copied().flatten()
    }

    pub(super) fn increase(&self, measure: EdgeMeasure) -> f64 {
        self.increases.get(measure as usize).copied().unwrap_or(0.0)
    }

    pub(super) fn is_ztunnel(&self) -> bool {
        self.key.scrape_app == "ztunnel"
    }

    pub(super) fn is_tcp(&self) -> bool {
        self.key.request_protocol == "tcp"
            || [
                EdgeMeasure::TcpSentBytes,
                EdgeMeasure::TcpReceivedBytes,
                EdgeMeasure::TcpOpened,
                EdgeMeasure::TcpClosed,
            ]
            .into_iter()
            .any(|measure| self.rate(measure).is_some())
    }

    /// An answer that counts as failed: 5xx, none at all, or a gRPC status other than 0.
    pub(super) fn is_error(&self) -> bool {
        if self.is_tcp() {
            return false;
        }
        let code = self.key.response_code.as_str();
        code.starts_with('5')
            || matches!(code, "0" | "")
            || !matches!(self.key.grpc_status.as_str(), "" | "0")
    }
}

/// Rows of one label set and measure, joined over the window's buckets.
#[derive(Default)]
struct Joined {
    counter: CounterPart,
    latency: Latency,
}

/// Joins the rows of each label set over time, some at a time, so that a long window needs memory for its label sets
/// alone.
pub struct FlowSums {
    window: Window,
    by_series: HashMap<(SeriesId, Reporter), usize>,
    by_key: HashMap<EdgeKey, usize>,
    keys: Vec<EdgeKey>,
    joined: Vec<[Option<Joined>; EdgeMeasure::ALL.len()]>,
}

impl FlowSums {
    pub fn new(window: Window) -> FlowSums {
        FlowSums {
            window,
            by_series: HashMap::new(),
            by_key: HashMap::new(),
            keys: Vec::new(),
            joined: Vec::new(),
        }
    }

    /// Adds rows in any order. Those of a later call must not be older than those of an earlier one, since a counter
    /// is joined in the order of time.
    pub fn add(&mut self, mut rows: Vec<Edge>) {
        rows.sort_by_key(|row| (row.bucket, row.counter.first_ms));
        for row in rows {
            let part = match row.key.origin {
                EdgeOrigin::Metrics => match self.window.clip(&row.counter) {
                    Some(part) => part,
                    None => continue,
                },
                EdgeOrigin::AccessLog | EdgeOrigin::Span if self.window.holds_rows(&row.counter) => {
                    row.counter
                }
                EdgeOrigin::AccessLog | EdgeOrigin::Span => continue,
            };
            let next = self.keys.len();
            let index = match row.key.origin {
                EdgeOrigin::Metrics => {
                    *self.by_series.entry((row.key.series, row.key.reporter)).or_insert(next)
                }
                _ => match self.by_key.get(&row.key) {
                    Some(index) => *index,
                    None => *self.by_key.entry(row.key.clone()).or_insert(next),
                },
            };
            if index == next {
                self.keys.push(row.key);
                self.joined.push(Default::default());
            }
            let slot = self.joined.get_mut(index).and_then(|slots| slots.get_mut(row.measure as usize));
            let Some(slot) = slot else { continue };
            let sum = slot.get_or_insert_default();
            sum.counter.join(&part);
            sum.latency.join(&row.latency);
        }
    }

    pub(super) fn flows(self) -> Vec<Flow> {
        let window = self.window;
        self.keys.into_iter().zip(self.joined).map(|(key, joined)| flow(key, joined, window)).collect()
    }
}

fn flow(key: EdgeKey, joined: [Option<Joined>; EdgeMeasure::ALL.len()], window: Window) -> Flow {
    let mut flow =
        Flow { rates: Default::default(), increases: Default::default(), latency: Latency::None, key };
    for (index, joined) in joined.into_iter().enumerate() {
        let Some(joined) = joined else { continue };
        let rate = match flow.key.origin {
            EdgeOrigin::Metrics => window.rate(&joined.counter),
            EdgeOrigin::AccessLog | EdgeOrigin::Span => Some(joined.counter.increase / window.seconds()),
        };
        if let Some(slot) = flow.rates.get_mut(index) {
            *slot = rate;
        }
        if let Some(slot) = flow.increases.get_mut(index) {
            *slot = joined.counter.increase;
        }
        if index == EdgeMeasure::DurationMs as usize {
            flow.latency = joined.latency;
        }
    }
    flow
}

/// The distribution of many flows' durations. Sketches of single durations are right to 1 % and win over
/// histograms, whose precision is their buckets'.
#[derive(Clone, Debug, Default)]
pub(super) struct LatencySum {
    sketch: pharos_model::LatencySketch,
    /// Cumulative increase by upper bound; bounds as bits, so that they can be compared.
    buckets: Vec<(f64, f64)>,
}

impl LatencySum {
    pub(super) fn add(&mut self, latency: &Latency) {
        match latency {
            Latency::None => {}
            Latency::Sketch(sketch) => self.sketch.merge(sketch),
            Latency::Histogram(part) => {
                for (bound, increase) in part.bounds.iter().zip(&part.increase) {
                    match self.buckets.iter_mut().find(|(known, _)| known == bound) {
                        Some((_, sum)) => *sum += increase,
                        None => self.buckets.push((*bound, *increase)),
                    }
                }
            }
        }
    }

    pub(super) fn quantile_ms(&self, q: f64) -> Option<f64> {
        if self.sketch.count() > 0 {
            return self.sketch.quantile_micros(q).map(|micros| micros / 1_000.0);
        }
        self.bucket_quantile_ms(q)
    }

    fn bucket_quantile_ms(&self, q: f64) -> Option<f64> {
        let mut buckets = self.buckets.clone();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let part = pharos_model::HistogramPart {
            bounds: buckets.iter().map(|(bound, _)| *bound).collect(),
            increase: buckets.iter().map(|(_, increase)| *increase).collect(),
            ..Default::default()
        };
        part.quantile(q)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use pharos_model::{EDGE_BUCKET_NS, Labels, Sample, UnixNanos, edge_of_series};

    use super::*;

    fn flows_of(rows: Vec<Edge>, window: Window) -> Vec<Flow> {
        let mut sums = FlowSums::new(window);
        sums.add(rows);
        sums.flows()
    }

    /// The rows that a counter makes: `value_at` a time in seconds, sampled every `step_s` over `from..=to`.
    pub(crate) fn counter_rows(
        labels: &Labels,
        from_s: i64,
        to_s: i64,
        step_s: i64,
        value_at: impl Fn(i64) -> f64,
    ) -> Vec<Edge> {
        let Some((key, measure, None)) = edge_of_series(labels) else { return Vec::new() };
        let mut rows: Vec<Edge> = Vec::new();
        for time_s in (from_s..=to_s).step_by(step_s as usize) {
            let part = CounterPart::of(Sample { time_ms: time_s * 1_000, value: value_at(time_s) });
            let bucket = UnixNanos::from_seconds(time_s).floor_to(EDGE_BUCKET_NS);
            match rows.last_mut() {
                Some(row) if row.bucket == bucket => row.counter.join(&part),
                _ => rows.push(Edge {
                    bucket,
                    key: key.clone(),
                    measure,
                    counter: part,
                    latency: Latency::None,
                }),
            }
        }
        rows
    }

    fn requests() -> Labels {
        Labels::from_pairs([
            ("__name__", "istio_requests_total"),
            ("reporter", "source"),
            ("source_workload", "a"),
        ])
    }

    #[test]
    fn a_counter_rate_is_prometheus_rate() {
        let window = Window::ending_at(1_000, 600);
        let check = |rows: Vec<Edge>, want: Option<f64>| {
            let flows = flows_of(rows, window);
            let rate = flows.first().and_then(|flow| flow.rate(EdgeMeasure::Requests));
            let same = match (rate, want) {
                (Some(rate), Some(want)) => (rate - want).abs() < 1e-9,
                (rate, want) => rate == want,
            };
            assert!(same, "{rate:?} is not {want:?}");
        };
        let labels = requests();
        // Steady, from before the window to its end: exact.
        check(counter_rows(&labels, 340, 1_000, 15, |t| 2.5 * (t - 340) as f64), Some(2.5));
        check(counter_rows(&labels, 340, 1_000, 5, |t| 2.5 * (t - 340) as f64), Some(2.5));
        // A reset in the middle loses nothing that was seen.
        check(
            counter_rows(
                &labels,
                340,
                1_000,
                15,
                |t| if t < 700 { (t - 340) as f64 } else { (t - 685) as f64 },
            ),
            Some(1.0),
        );
        // Born in the window at 0: not extended before its birth. 900..=1000 rises by 100.
        check(counter_rows(&labels, 900, 1_000, 10, |t| (t - 900) as f64), Some(100.0 / 600.0));
        // One sample is no rate.
        check(counter_rows(&labels, 1_000, 1_000, 10, |_| 5.0), None);
        // Idle.
        check(counter_rows(&labels, 340, 1_000, 15, |_| 5.0), Some(0.0));
        // After the window nothing counts.
        check(counter_rows(&labels, 340, 1_300, 15, |t| 2.5 * (t - 340) as f64), Some(2.5));
    }

    #[test]
    fn rows_of_access_logs_are_counted_not_extended() {
        let key = EdgeKey { origin: EdgeOrigin::AccessLog, ..edge_of_series(&requests()).expect("known").0 };
        let row = |second: i64| Edge {
            bucket: UnixNanos::from_seconds(second).floor_to(EDGE_BUCKET_NS),
            key: key.clone(),
            measure: EdgeMeasure::Requests,
            counter: CounterPart::of_rows(UnixNanos::from_seconds(second), 3, 3.0),
            latency: Latency::None,
        };
        let flows = flows_of(
            vec![row(995), row(400), row(401), row(1_000), row(1_001)],
            Window::ending_at(1_000, 600),
        );
        assert_eq!(flows.len(), 1);
        assert_eq!(flows[0].increase(EdgeMeasure::Requests), 9.0);
        assert_eq!(flows[0].rate(EdgeMeasure::Requests), Some(9.0 / 600.0));
    }
}

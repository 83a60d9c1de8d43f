//! A group: rules that are evaluated one after the other, at the same times.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use pharos_model::{
    HistogramSample, Labels, METRIC_NAME, Matcher, Sample, TimeRange, TimeSeries, UnixNanos, is_stale,
    stale_nan,
};
use pharos_promql::SampleValue;
use pharos_storage::{Batch, Storage};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    alert::millis,
    file::{GroupSpec, RuleKind},
    notify::{Notifier, Outgoing},
    queries::Queries,
    rule::{ALERTS_FOR_STATE, Health, Output, Rule, Shared, for_state},
};

/// Alertmanager hears of an alert that goes on at least this often.
pub(crate) const RESEND_DELAY: Duration = Duration::from_secs(60);
/// State that is older is not restored.
const OUTAGE_TOLERANCE: Duration = Duration::from_secs(3_600);
/// After a restart an alert fires no sooner than this, unless it did before.
const FOR_GRACE_PERIOD: Duration = Duration::from_secs(600);

pub(crate) struct Group {
    pub(crate) spec: GroupSpec,
    pub(crate) interval: Duration,
    offset: Duration,
    pub(crate) rules: Vec<Rule>,
    shared: Arc<Shared>,
    pub(crate) last: RwLock<LastEvaluation>,
    /// Series of rules that an earlier version of the group had; they end with the next evaluation.
    orphans: RwLock<BTreeSet<Labels>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastEvaluation {
    pub(crate) time_ms: Option<i64>,
    pub(crate) took: Duration,
}

/// What groups work with.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) storage: Storage,
    pub(crate) queries: Queries,
    pub(crate) notifier: Notifier,
    pub(crate) evaluations: Arc<AtomicU64>,
    pub(crate) failures: Arc<AtomicU64>,
}

impl Tools {
    pub(crate) fn new(storage: Storage, queries: Queries) -> Tools {
        Tools {
            storage,
            queries,
            notifier: Notifier::default(),
            evaluations: Arc::default(),
            failures: Arc::default(),
        }
    }
}

impl Group {
    pub(crate) fn new(
        mut spec: GroupSpec,
        default_interval: Duration,
        default_offset: Duration,
        shared: Arc<Shared>,
    ) -> Group {
        let rules = std::mem::take(&mut spec.rules);
        Group {
            interval: spec.interval.unwrap_or(default_interval),
            offset: spec.query_offset.unwrap_or(default_offset),
            rules: rules.into_iter().map(Rule::new).collect(),
            spec,
            shared,
            last: RwLock::default(),
            orphans: RwLock::default(),
        }
    }

    /// Takes over the state of an earlier version of the group, which runs no more.
    pub(crate) fn adopt(&self, earlier: &Group) {
        *self.last.write() = *earlier.last.read();
        let mut left: Vec<&Rule> = earlier.rules.iter().collect();
        for rule in &self.rules {
            if let Some(at) = left.iter().position(|known| known.is_same(rule)) {
                *rule.state.write() = left.remove(at).state.read().clone();
            }
        }
        let mut orphans = earlier.orphans.read().clone();
        orphans.extend(left.iter().flat_map(|rule| rule.state.read().written.clone()));
        *self.orphans.write() = orphans;
    }

    /// Every rule's alerts may be written from the start: there is no earlier run to learn from.
    pub(crate) fn begin_fresh(&self) {
        self.rules.iter().for_each(|rule| rule.state.write().is_restored = true);
    }

    /// All that the group wrote last, for the markers of its end.
    pub(crate) fn written(&self) -> BTreeSet<Labels> {
        let mut all = self.orphans.read().clone();
        all.extend(self.rules.iter().flat_map(|rule| rule.state.read().written.clone()));
        all
    }

    /// Evaluates at the group's times until `stop`. They are multiples of the interval moved by a hash of the
    /// group's name, so that groups are spread and times stay the same over restarts. A time that is missed is
    /// left out.
    pub(crate) async fn run(self: Arc<Group>, tools: Tools, stop: CancellationToken) {
        loop {
            let now_ms = UnixNanos::now().millis();
            let next_ms = self.next_time_ms(now_ms);
            let wait = Duration::from_millis((next_ms - now_ms).unsigned_abs());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = self.evaluate(next_ms, &tools) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// The first evaluation time after `now_ms`.
    pub(crate) fn next_time_ms(&self, now_ms: i64) -> i64 {
        let interval = millis(self.interval).max(1);
        let name = format!("{}\0{}", self.spec.file, self.spec.name);
        let hash = xxhash_rust::xxh3::xxh3_64(name.as_bytes()) % interval.unsigned_abs();
        let offset = i64::try_from(hash).unwrap_or(0);
        (now_ms - offset).div_euclid(interval).saturating_add(1).saturating_mul(interval) + offset
    }

    /// Evaluates every rule for `now_ms` and stores what they give.
    pub(crate) async fn evaluate(self: &Arc<Group>, now_ms: i64, tools: &Tools) {
        let began = Instant::now();
        for index in 0..self.rules.len() {
            self.evaluate_rule(index, now_ms, tools).await;
        }
        let orphans = std::mem::take(&mut *self.orphans.write());
        if !orphans.is_empty() {
            end_series(&tools.storage, orphans, now_ms.saturating_sub(millis(self.offset))).await;
        }
        *self.last.write() = LastEvaluation { time_ms: Some(now_ms), took: began.elapsed() };
        self.restore(now_ms, tools).await;
    }

    async fn evaluate_rule(self: &Arc<Group>, index: usize, now_ms: i64, tools: &Tools) {
        let Some(rule) = self.rules.get(index) else { return };
        let began = Instant::now();
        let (group, queries, runtime) = (self.clone(), tools.queries.clone(), Handle::current());
        let computed = tokio::task::spawn_blocking(move || match group.rules.get(index) {
            Some(rule) => {
                rule.compute(now_ms, group.offset, group.spec.limit, &queries, &group.shared, &runtime)
            }
            None => Ok(Vec::new()),
        })
        .await
        .unwrap_or_else(|_| Err("the evaluation broke off".into()));
        let stored = match computed {
            Ok(outputs) => self.store(rule, outputs, now_ms, &tools.storage).await,
            Err(error) => Err(error),
        };
        tools.evaluations.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = &stored {
            tools.failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(file = self.spec.file, group = self.spec.name, rule = rule.spec.name, %error, "rule");
        }
        let due = {
            let mut state = rule.state.write();
            state.health = if stored.is_ok() { Health::Good } else { Health::Bad };
            state.error = stored.err();
            state.evaluated_ms = Some(now_ms);
            state.took = began.elapsed();
            state.alerts.due(now_ms, RESEND_DELAY)
        };
        let valid_until_ms = now_ms.saturating_add(4 * millis(self.interval.max(RESEND_DELAY)));
        let query = rule.spec.expr.to_string();
        tools.notifier.send(
            due.into_iter()
                .map(|(labels, alert)| Outgoing::new(labels, alert, valid_until_ms, &query, &self.shared)),
        );
    }

    /// Stores the values, and markers for the series that this rule gave the last time only.
    async fn store(
        &self,
        rule: &Rule,
        outputs: Vec<Output>,
        now_ms: i64,
        storage: &Storage,
    ) -> Result<(), String> {
        let time_ms = now_ms.saturating_sub(millis(self.offset));
        let mut written = BTreeSet::new();
        let mut batch = Vec::with_capacity(outputs.len());
        for Output { labels, value } in outputs {
            written.insert(labels.clone());
            batch.push(series_of(labels, value, time_ms));
        }
        let ended: Vec<Labels> = rule.state.read().written.difference(&written).cloned().collect();
        for labels in ended {
            batch.push(series_of(labels, SampleValue::Float(stale_nan()), time_ms));
        }
        if !batch.is_empty() {
            storage.append(Batch::Samples(batch)).await.map_err(|error| error.to_string())?;
        }
        rule.state.write().written = written;
        Ok(())
    }

    /// Learns from `ALERTS_FOR_STATE` since when the alerts of the last run were active. Once, after the first
    /// evaluation has told which alerts there are.
    async fn restore(&self, now_ms: i64, tools: &Tools) {
        for rule in &self.rules {
            let RuleKind::Alerting { hold, .. } = rule.spec.kind else { continue };
            if rule.state.read().is_restored {
                continue;
            }
            // A short wait is over sooner than it is restored.
            if hold >= FOR_GRACE_PERIOD
                && let Err(error) = self.restore_rule(rule, hold, now_ms, &tools.storage).await
            {
                tracing::warn!(group = self.spec.name, rule = rule.spec.name, error, "cannot restore alerts");
            }
            rule.state.write().is_restored = true;
        }
    }

    async fn restore_rule(
        &self,
        rule: &Rule,
        hold: Duration,
        now_ms: i64,
        storage: &Storage,
    ) -> Result<(), String> {
        let first_ms = now_ms.saturating_sub(millis(OUTAGE_TOLERANCE));
        let range = TimeRange::new(UnixNanos::from_millis(first_ms), UnixNanos::from_millis(now_ms));
        let matchers =
            [Matcher::equal(METRIC_NAME, ALERTS_FOR_STATE), Matcher::equal("alertname", &*rule.spec.name)];
        let series =
            storage.select_series(&matchers, range, usize::MAX).map_err(|error| error.to_string())?;
        let ids: Vec<_> = series.iter().map(|(id, _)| *id).collect();
        let columns =
            storage.read_samples(&ids, first_ms, now_ms - 1).await.map_err(|error| error.to_string())?;
        let state = &mut *rule.state.write();
        for (labels, alert) in &mut state.alerts.0 {
            let wanted = for_state(labels);
            let Some((id, _)) = series.iter().find(|(_, known)| *known == wanted) else { continue };
            let Some(column) = columns.iter().find(|column| column.id == *id) else { continue };
            let last = column.times_ms.iter().zip(&column.values).rfind(|(_, value)| !is_stale(**value));
            let Some((&down_ms, &since_s)) = last else { continue };
            let was_active_ms = (since_s * 1e3) as i64;
            let left_ms = millis(hold) - (down_ms - was_active_ms);
            alert.active_at_ms = if left_ms <= 0 {
                was_active_ms
            } else if left_ms < millis(FOR_GRACE_PERIOD) {
                now_ms + millis(FOR_GRACE_PERIOD) - millis(hold)
            } else {
                // The time that nobody was looking does not count.
                was_active_ms + (now_ms - down_ms)
            };
        }
        Ok(())
    }
}

fn series_of(labels: Labels, value: SampleValue, time_ms: i64) -> TimeSeries {
    match value {
        SampleValue::Float(value) => {
            TimeSeries { labels, samples: vec![Sample { time_ms, value }], ..TimeSeries::default() }
        }
        SampleValue::Histogram(histogram) => {
            let sample = HistogramSample { time_ms, histogram: (&*histogram).into() };
            TimeSeries { labels, histograms: vec![sample], ..TimeSeries::default() }
        }
    }
}

/// Writes the markers of series that no rule gives any more.
pub(crate) async fn end_series(storage: &Storage, series: BTreeSet<Labels>, time_ms: i64) {
    let marker = Sample { time_ms, value: stale_nan() };
    let batch: Vec<TimeSeries> = series
        .into_iter()
        .map(|labels| TimeSeries { labels, samples: vec![marker], ..TimeSeries::default() })
        .collect();
    if !batch.is_empty()
        && let Err(error) = storage.append(Batch::Samples(batch)).await
    {
        tracing::warn!(%error, "the end of rules' series is not stored");
    }
}

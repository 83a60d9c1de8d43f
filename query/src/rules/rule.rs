//! One rule: what it computes at a time, and how it does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use parking_lot::RwLock;
use pharos_model::{Labels, METRIC_NAME};
use pharos_promql::{InstantSample, SampleValue};
use tokio::runtime::Handle;

use super::{
    alert::{Alerts, Condition, millis},
    file::{LabelText, RuleKind, RuleSpec},
    queries::{Queries, float_of},
    template::{Surroundings, Value},
};

/// The series that tell of alerts: 1 while one is pending or firing, and since when it is so.
pub(crate) const ALERTS: &str = "ALERTS";
pub(crate) const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";
const ALERT_NAME: &str = "alertname";

/// What all rules of a configuration share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) external_labels: Labels,
    pub(crate) external_url: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Health {
    #[default]
    Unknown,
    Good,
    Bad,
}

impl Health {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Good => "ok",
            Health::Bad => "err",
        }
    }
}

pub(crate) struct Rule {
    pub(crate) spec: RuleSpec,
    pub(crate) state: RwLock<RuleState>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct RuleState {
    pub(crate) health: Health,
    pub(crate) error: Option<String>,
    pub(crate) evaluated_ms: Option<i64>,
    pub(crate) took: Duration,
    pub(crate) alerts: Alerts,
    /// Alerts' series are not written before the state of the last run is restored.
    pub(crate) is_restored: bool,
    /// The series of the last evaluation, for the markers of those that are gone.
    pub(crate) written: BTreeSet<Labels>,
}

/// A value that a rule gives, at the time of its evaluation.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) labels: Labels,
    pub(crate) value: SampleValue,
}

impl Rule {
    pub(crate) fn new(spec: RuleSpec) -> Rule {
        Rule { spec, state: RwLock::default() }
    }

    /// Whether the other is this rule in another version of its file, so that its state is ours.
    pub(crate) fn is_same(&self, other: &Rule) -> bool {
        let texts = |rule: &Rule| -> Vec<(String, String)> {
            rule.spec.labels.iter().map(|(name, label)| (name.clone(), label.text.clone())).collect()
        };
        self.spec.name == other.spec.name
            && self.is_alerting() == other.is_alerting()
            && texts(self) == texts(other)
    }

    pub(crate) fn is_alerting(&self) -> bool {
        matches!(self.spec.kind, RuleKind::Alerting { .. })
    }

    /// Evaluates the rule for `now_ms` on data of `offset` ago. `limit` is the group's. Blocks.
    pub(crate) fn compute(
        &self,
        now_ms: i64,
        offset: Duration,
        limit: usize,
        queries: &Queries,
        shared: &Shared,
        runtime: &Handle,
    ) -> Result<Vec<Output>, String> {
        let query_ms = now_ms.saturating_sub(millis(offset));
        let samples = queries.vector(runtime, &self.spec.expr, query_ms)?;
        match &self.spec.kind {
            RuleKind::Recording => self.record(samples, limit),
            RuleKind::Alerting { hold, keep_firing, annotations } => {
                let expander = Expander { queries, shared, runtime, time_ms: query_ms, rule: &self.spec };
                let conditions = expander.conditions(samples, annotations)?;
                let state = &mut *self.state.write();
                let active = state.alerts.update(conditions, now_ms, *hold, *keep_firing);
                if limit > 0 && active > limit {
                    state.alerts = Alerts::default();
                    return Err(format!("exceeded limit of {limit} with {active} alerts"));
                }
                Ok(if state.is_restored { self.alert_series(&state.alerts) } else { Vec::new() })
            }
        }
    }

    fn record(&self, samples: Vec<InstantSample>, limit: usize) -> Result<Vec<Output>, String> {
        if limit > 0 && samples.len() > limit {
            return Err(format!("exceeded limit of {limit} with {} series", samples.len()));
        }
        let mut seen = BTreeSet::new();
        let mut outputs = Vec::with_capacity(samples.len());
        for sample in samples {
            let mut labels = sample.labels;
            labels.set(METRIC_NAME, &*self.spec.name);
            for (name, LabelText { text, .. }) in &self.spec.labels {
                labels.set(name, &**text);
            }
            if !seen.insert(labels.clone()) {
                return Err(
                    "vector contains metrics with the same labelset after applying rule labels".into()
                );
            }
            outputs.push(Output { labels, value: sample.value });
        }
        Ok(outputs)
    }

    /// `ALERTS` and `ALERTS_FOR_STATE` of every alert that is pending or firing.
    pub(crate) fn alert_series(&self, alerts: &Alerts) -> Vec<Output> {
        let mut outputs = Vec::new();
        for (labels, alert) in alerts.active() {
            let mut series = labels.clone();
            series.set(METRIC_NAME, ALERTS);
            series.set("alertstate", alert.state.name());
            outputs.push(Output { labels: series, value: SampleValue::Float(1.0) });
            let since_s = alert.active_at_ms.div_euclid(1_000) as f64;
            outputs.push(Output { labels: for_state(labels), value: SampleValue::Float(since_s) });
        }
        outputs
    }
}

/// The labels of the series that keeps since when an alert is active.
pub(crate) fn for_state(alert: &Labels) -> Labels {
    let mut series = alert.clone();
    series.set(METRIC_NAME, ALERTS_FOR_STATE);
    series
}

struct Expander<'e> {
    queries: &'e Queries,
    shared: &'e Shared,
    runtime: &'e Handle,
    time_ms: i64,
    rule: &'e RuleSpec,
}

impl Surroundings for Expander<'_> {
    fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        self.queries.for_template(self.runtime, query, self.time_ms)
    }

    fn external_url(&self) -> &str {
        &self.shared.external_url
    }
}

impl Expander<'_> {
    fn conditions(
        &self,
        samples: Vec<InstantSample>,
        annotations: &BTreeMap<String, LabelText>,
    ) -> Result<Vec<Condition>, String> {
        let mut seen = BTreeSet::new();
        let mut conditions = Vec::with_capacity(samples.len());
        for sample in samples {
            let value = float_of(&sample.value);
            let data = Value::record([
                ("Labels", Value::texts(sample.labels.iter())),
                ("ExternalLabels", Value::texts(self.shared.external_labels.iter())),
                ("ExternalURL", Value::Text(self.shared.external_url.clone())),
                ("Value", Value::Float(value)),
            ]);
            let mut labels = sample.labels;
            labels.remove(METRIC_NAME);
            for (name, text) in &self.rule.labels {
                labels.set(name, self.expand(text, &data));
            }
            labels.set(ALERT_NAME, &*self.rule.name);
            if !seen.insert(labels.clone()) {
                return Err(
                    "vector contains metrics with the same labelset after applying alert labels".into()
                );
            }
            let annotations =
                annotations.iter().map(|(name, text)| (name.clone(), self.expand(text, &data))).collect();
            conditions.push(Condition { labels, annotations, value });
        }
        Ok(conditions)
    }

    /// What is wrong with a template stands in its place: an alert must not be lost for it.
    fn expand(&self, text: &LabelText, data: &Value) -> String {
        match &text.template {
            None => text.text.clone(),
            Some(template) => template
                .expand(data, self)
                .unwrap_or_else(|error| format!("<error expanding template: {error}>")),
        }
    }
}

//! The life of an alert: pending, firing, resolved. Source: Prometheus' alerting rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pharos_model::Labels;

/// How long a resolved alert is remembered, so that Alertmanager is told of its end more than once.
const RESOLVED_RETENTION_MS: i64 = 15 * 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AlertState {
    /// Resolved.
    Inactive,
    Pending,
    Firing,
}

impl AlertState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            AlertState::Inactive => "inactive",
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Alert {
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) state: AlertState,
    pub(crate) value: f64,
    pub(crate) active_at_ms: i64,
    pub(crate) resolved_at_ms: Option<i64>,
    pub(crate) last_sent_ms: Option<i64>,
    /// Since when the condition is over while the alert is kept firing.
    pub(crate) keep_firing_since_ms: Option<i64>,
}

/// An element of the expression's result with its texts expanded.
pub(crate) struct Condition {
    pub(crate) labels: Labels,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// The alerts of one rule by their labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alerts(pub(crate) BTreeMap<Labels, Alert>);

impl Alerts {
    /// Brings the alerts up to date with what the expression gave at `now_ms`. Returns how many are pending or
    /// firing.
    pub(crate) fn update(
        &mut self,
        conditions: Vec<Condition>,
        now_ms: i64,
        hold: Duration,
        keep_firing: Duration,
    ) -> usize {
        let mut holding = BTreeSet::new();
        for Condition { labels, annotations, value } in conditions {
            holding.insert(labels.clone());
            match self.0.get_mut(&labels) {
                Some(alert) if alert.state != AlertState::Inactive => {
                    alert.annotations = annotations;
                    alert.value = value;
                }
                _ => {
                    let alert = Alert {
                        annotations,
                        state: AlertState::Pending,
                        value,
                        active_at_ms: now_ms,
                        resolved_at_ms: None,
                        last_sent_ms: None,
                        keep_firing_since_ms: None,
                    };
                    self.0.insert(labels, alert);
                }
            }
        }
        let mut active = 0;
        self.0.retain(|labels, alert| {
            if holding.contains(labels) {
                alert.keep_firing_since_ms = None;
            } else {
                let mut is_kept = false;
                if alert.state == AlertState::Firing && !keep_firing.is_zero() {
                    let since = *alert.keep_firing_since_ms.get_or_insert(now_ms);
                    is_kept = now_ms - since < millis(keep_firing);
                }
                if !is_kept {
                    let is_old = alert
                        .resolved_at_ms
                        .is_some_and(|resolved| now_ms - resolved > RESOLVED_RETENTION_MS);
                    if alert.state == AlertState::Pending || is_old {
                        return false;
                    }
                    if alert.state != AlertState::Inactive {
                        alert.state = AlertState::Inactive;
                        alert.resolved_at_ms = Some(now_ms);
                    }
                    return true;
                }
            }
            active += 1;
            if alert.state == AlertState::Pending && now_ms - alert.active_at_ms >= millis(hold) {
                alert.state = AlertState::Firing;
            }
            true
        });
        active
    }

    /// Those that are pending or firing.
    pub(crate) fn active(&self) -> impl Iterator<Item = (&Labels, &Alert)> {
        self.0.iter().filter(|(_, alert)| alert.state != AlertState::Inactive)
    }

    /// The worst state.
    pub(crate) fn state(&self) -> AlertState {
        self.0.values().map(|alert| alert.state).max().unwrap_or(AlertState::Inactive)
    }

    /// The alerts that Alertmanager must hear of now, marked as sent.
    pub(crate) fn due(&mut self, now_ms: i64, resend_delay: Duration) -> Vec<(Labels, Alert)> {
        let mut due = Vec::new();
        for (labels, alert) in &mut self.0 {
            let is_due = match (alert.state, alert.last_sent_ms) {
                (AlertState::Pending, _) => false,
                (_, None) => true,
                (_, Some(sent)) => {
                    alert.resolved_at_ms.is_some_and(|resolved| resolved > sent)
                        || sent + millis(resend_delay) < now_ms
                }
            };
            if is_due {
                alert.last_sent_ms = Some(now_ms);
                due.push((labels.clone(), alert.clone()));
            }
        }
        due
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

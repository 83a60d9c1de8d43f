//! What expressions evaluate to: series with one cell per step.

use std::sync::Arc;

use pharos_model::{Labels, STALE_NAN_BITS, is_stale, stale_nan};

use crate::histogram::Histogram;

/// The steps that an expression is evaluated at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub start_ms: i64,
    pub end_ms: i64,
    /// At least 1.
    pub step_ms: i64,
}

impl Frame {
    pub(crate) fn steps(&self) -> usize {
        if self.end_ms < self.start_ms {
            return 0;
        }
        let steps = self.end_ms.saturating_sub(self.start_ms) / self.step_ms.max(1);
        usize::try_from(steps).unwrap_or(usize::MAX).saturating_add(1)
    }

    pub(crate) fn time_ms(&self, step: usize) -> i64 {
        self.start_ms.saturating_add((step as i64).saturating_mul(self.step_ms))
    }
}

/// A series' identity on its way through a query.
#[derive(Debug, Clone)]
pub(crate) struct Metric {
    pub labels: Labels,
    /// The metric name no longer holds for the values. It is taken off when it is next looked at, or, with
    /// delayed name removal, at the end of the query.
    pub drop_name: bool,
}

impl Metric {
    pub(crate) fn new(labels: Labels) -> Metric {
        Metric { labels, drop_name: false }
    }

    pub(crate) fn nameless(&self) -> Metric {
        Metric { labels: self.labels.clone(), drop_name: true }
    }
}

/// Whether a label says what a metric is instead of which one: it goes together with the name.
pub(crate) fn is_metadata(label: &str) -> bool {
    matches!(label, "__name__" | "__type__" | "__unit__")
}

/// A value at one step.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    Absent,
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// The values of a series at the steps of a frame. A step without a float holds the staleness marker, which no
/// computation yields; histograms are beside, since most series have none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub floats: Vec<f64>,
    pub histograms: Option<Vec<Option<Arc<Histogram>>>>,
}

/// Whether the slot of a row holds no float.
#[inline]
pub(crate) fn is_absent(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

impl Row {
    pub(crate) fn absent(steps: usize) -> Row {
        Row { floats: vec![stale_nan(); steps], histograms: None }
    }

    /// Makes it a row of `steps` absent values, keeping its memory.
    pub(crate) fn reset(&mut self, steps: usize) {
        self.floats.clear();
        self.floats.resize(steps, stale_nan());
        self.histograms = None;
    }

    pub(crate) fn steps(&self) -> usize {
        self.floats.len()
    }

    pub(crate) fn get(&self, step: usize) -> Cell {
        match self.floats.get(step) {
            Some(value) if !is_absent(*value) => Cell::Float(*value),
            _ => match self.histogram(step) {
                Some(histogram) => Cell::Histogram(Arc::clone(histogram)),
                None => Cell::Absent,
            },
        }
    }

    pub(crate) fn histogram(&self, step: usize) -> Option<&Arc<Histogram>> {
        self.histograms.as_ref()?.get(step)?.as_ref()
    }

    pub(crate) fn is_present(&self, step: usize) -> bool {
        self.floats.get(step).is_some_and(|value| !is_absent(*value)) || self.histogram(step).is_some()
    }

    pub(crate) fn set(&mut self, step: usize, cell: Cell) {
        let Some(slot) = self.floats.get_mut(step) else { return };
        match cell {
            Cell::Float(value) => {
                *slot = value;
                if let Some(histogram) = self.histograms.as_mut().and_then(|all| all.get_mut(step)) {
                    *histogram = None;
                }
            }
            Cell::Absent => {
                *slot = stale_nan();
                if let Some(histogram) = self.histograms.as_mut().and_then(|all| all.get_mut(step)) {
                    *histogram = None;
                }
            }
            Cell::Histogram(value) => {
                *slot = stale_nan();
                let steps = self.floats.len();
                let histograms = self.histograms.get_or_insert_with(|| vec![None; steps]);
                if let Some(slot) = histograms.get_mut(step) {
                    *slot = Some(value);
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.floats.iter().all(|value| is_stale(*value))
            && self.histograms.as_ref().is_none_or(|all| all.iter().all(Option::is_none))
    }

    pub(crate) fn has_floats(&self) -> bool {
        self.floats.iter().any(|value| !is_stale(*value))
    }

    /// Replaces every float by `f` of it and drops histograms.
    pub(crate) fn map_floats(&mut self, f: impl Fn(f64) -> f64) {
        self.histograms = None;
        for value in &mut self.floats {
            if !is_absent(*value) {
                *value = f(*value);
            }
        }
    }

    /// Replaces every present cell.
    pub(crate) fn map(&mut self, mut f: impl FnMut(usize, Cell) -> Cell) {
        for step in 0..self.steps() {
            match self.get(step) {
                Cell::Absent => {}
                cell => {
                    let replaced = f(step, cell);
                    self.set(step, replaced);
                }
            }
        }
    }

    /// How many floats' worth of memory the row takes.
    pub(crate) fn size(&self) -> usize {
        let histograms = self.histograms.iter().flatten().flatten().map(|histogram| histogram.size());
        self.floats.len() + histograms.sum::<usize>()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub metric: Metric,
    pub row: Row,
}

//! PromQL as rules ask it.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use pharos_model::Labels;
use pharos_promql::{Expr, Features, InstantSample, Limits, Query, SampleValue, Value, evaluate, parse_with};
use pharos_storage::Storage;
use tokio::runtime::Handle;

use super::template;
use crate::{EngineConfig, prometheus::StorageSource};

/// Evaluates expressions at one time, within the limits that queries over HTTP have. Blocks: it belongs on a
/// blocking thread.
#[derive(Clone)]
pub(crate) struct Queries {
    storage: Storage,
    pub(crate) features: Features,
    lookback_ms: i64,
    max_samples: usize,
    max_series: usize,
    timeout: Duration,
}

impl Queries {
    pub(crate) fn new(storage: Storage, config: &EngineConfig) -> Queries {
        Queries {
            storage,
            features: config.promql_features,
            lookback_ms: i64::try_from(config.promql_lookback.as_millis()).unwrap_or(i64::MAX),
            max_samples: config.promql_max_samples,
            max_series: config.promql_max_series,
            timeout: config.promql_timeout,
        }
    }

    /// The expression's elements; a scalar is one without labels.
    pub(crate) fn vector(
        &self,
        runtime: &Handle,
        expr: &Expr,
        time_ms: i64,
    ) -> Result<Vec<InstantSample>, String> {
        let cancel = Arc::new(AtomicBool::new(false));
        let source = StorageSource::new(self.storage.clone(), runtime.clone(), self.max_series, cancel);
        let query =
            Query { lookback_ms: self.lookback_ms, features: self.features, ..Query::instant(expr, time_ms) };
        let limits = Limits {
            max_samples: self.max_samples,
            deadline: Some(Instant::now() + self.timeout),
            cancel: None,
        };
        match evaluate(&query, &source, &limits).map_err(|error| error.to_string())?.value {
            Value::Vector(samples) => Ok(samples),
            Value::Scalar { time_ms, value } => {
                Ok(vec![InstantSample { labels: Labels::empty(), time_ms, value: SampleValue::Float(value) }])
            }
            Value::Text { .. } | Value::Matrix(_) => Err("rule result is not a vector or scalar".into()),
        }
    }

    /// For `query` in a template.
    pub(crate) fn for_template(
        &self,
        runtime: &Handle,
        text: &str,
        time_ms: i64,
    ) -> Result<Vec<template::Value>, String> {
        let expr = parse_with(text, &self.features).map_err(|error| error.to_string())?;
        let samples = self.vector(runtime, &expr, time_ms)?;
        Ok(samples
            .iter()
            .map(|sample| template::Value::sample(sample.labels.iter(), float_of(&sample.value)))
            .collect())
    }
}

/// A histogram has no single value; Prometheus takes 0 for it as well.
pub(crate) fn float_of(value: &SampleValue) -> f64 {
    match value {
        SampleValue::Float(value) => *value,
        SampleValue::Histogram(_) => 0.0,
    }
}

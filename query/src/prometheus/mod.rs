//! Prometheus' HTTP API over the PromQL engine and the series index. Reference: Prometheus anchors §1.

pub(crate) mod api;
mod exemplars;
mod features;
mod federate;
mod form;
mod labels;
mod notifications;
mod openapi;
mod parse_query;
mod query;
mod remote_read;
mod respond;
mod result;
mod rules;
mod scrape_pools;
mod self_metrics;
mod source;
mod status;
mod targets;
mod times;

pub(crate) use query::MAX_POINTS;
pub(crate) use source::StorageSource;
pub(crate) use times::{parse_time_ms, rfc3339};

//! Prometheus' HTTP API over the PromQL engine and the series index. Reference: Prometheus anchors §1.

pub(crate) mod api;
mod exemplars;
mod federate;
mod labels;
mod query;
mod respond;
mod source;
mod status;
mod times;

//! Answers: the graph, traces, logs, PromQL and SQL over storage's snapshots, as axum routers.
//!
//! Everything that knows DataFusion or the query APIs' HTTP lives here. This crate binds no socket, receives no
//! telemetry and writes nothing but what recording and alerting rules give.

mod accept;
pub mod api;
mod engine;
mod graph;
mod gzip;
mod host;
mod logs;
mod parallel;
mod params;
mod problem;
mod prometheus;
mod rules;
mod sql;
mod status;
#[cfg(test)]
mod tests;
mod traces;

pub use engine::{Engine, EngineConfig};
pub use graph::{
    Flavour, FlowSums, GraphDocument, GraphOptions, GraphType, Inventory, MeshConfig, Scope, graph,
};
pub use host::{
    ActiveTarget, Configuration, DroppedTarget, Host, Listener, Received, RelabelStep, Scrape, ScrapeTargets,
    ServerStatus, TargetMetadata,
};
pub use params::{ParamError, Params};
pub use pharos_promql::Features as PromqlFeatures;
pub use rules::{
    Alertmanager, Alertmanagers, NotifierCounts, RuleCounts, RuleError, RuleSettings, Rules, check_rule_files,
};

//! Answers: the graph, traces, logs, PromQL and SQL over storage's snapshots, as axum routers.
//!
//! Everything that knows DataFusion or the query APIs' HTTP lives here. This crate binds no socket, receives no
//! telemetry and writes nothing.

pub mod api;
mod engine;
mod graph;
mod logs;
mod params;
mod problem;
mod prometheus;
mod sql;
mod status;
#[cfg(test)]
mod tests;
mod traces;

pub use engine::{Engine, EngineConfig, Listener, Received, ServerStatus};
pub use graph::{
    Flavour, FlowSums, GraphDocument, GraphOptions, GraphType, Inventory, MeshConfig, Scope, graph,
};
pub use params::{ParamError, Params};

//! The topology graph: a pure function from rows of `edges` to Kiali's document.
//!
//! rows → flows (rates over the window) → conversations (everything known of a pair) → selection in Kiali's order
//! → traffic map → decorators → document.

pub(crate) mod api;
mod appenders;
mod conversations;
mod document;
mod extras;
mod flows;
mod health;
mod inventory;
mod mesh_config;
pub(crate) mod options;
mod select;
mod service_graph;
#[cfg(test)]
pub(crate) mod tests;
mod traffic;

pub use document::GraphDocument;
pub(crate) use extras::{Empty, GraphExtras};
pub use flows::FlowSums;
pub(crate) use flows::Window;
pub use inventory::Inventory;
pub use mesh_config::MeshConfig;
pub use options::{GraphOptions, GraphType, Scope};

use conversations::Conversations;
use options::{Appender, GraphType as Type};

/// Whether the document carries what only our own API tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    Kiali,
    Pharos,
}

/// Draws the graph of `options` from the sums of the rows of `edges` that touch its window.
pub fn graph(
    sums: FlowSums,
    options: &GraphOptions,
    inventory: &Inventory,
    config: &MeshConfig,
    flavour: Flavour,
) -> GraphDocument {
    let conversations = Conversations::new(sums.flows());
    let mut options = options.clone();
    if options.scope == Scope::Everything {
        options.namespaces = conversations.namespaces();
    }
    let options = &options;
    let mut map = select::traffic_map(&conversations, options);
    if options.wants(Appender::Ambient) {
        appenders::waypoints(&mut map, inventory, options);
    }
    if options.graph_type == Type::Service {
        map = service_graph::reduce(map);
    }
    if options.wants(Appender::ResponseTime) {
        appenders::response_time(&mut map, &conversations, options);
    }
    if options.wants(Appender::SecurityPolicy) {
        appenders::security_policy(&mut map, &conversations);
    }
    if options.wants(Appender::Throughput) {
        appenders::throughput(&mut map, &conversations, options);
    }
    appenders::outsiders(&mut map, inventory, options);
    let healths = if options.wants(Appender::Health) { health::judge_all(&mut map) } else { Vec::new() };
    appenders::roots(&mut map);
    let extras = (flavour == Flavour::Pharos).then(|| {
        let graph =
            GraphExtras { namespaces: conversations.namespaces(), oldest_data_unix_s: None, empty: None };
        (graph, extras::edge_extras(&map, &conversations))
    });
    let badges = if options.wants(Appender::Istio) { mesh_config::badges(&map, config) } else { Vec::new() };
    document::document(&map, options, healths, badges, extras)
}

impl GraphOptions {
    /// The stretch of time the graph is about.
    pub fn window(&self) -> Window {
        Window::ending_at(self.query_time_s, self.duration_s)
    }
}

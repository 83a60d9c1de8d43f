//! Istio configuration as plain data: parse it, index it, and ask what a proxy has to do.
//!
//! No sockets, no runtime, no clock: everything here is a function of the texts it was given.

mod registry;
mod yaml;

pub use registry::{Labels, Protocol, Registry, RegistryEndpoint, RegistryService, ServicePort};
pub use yaml::{ConfigError, parse_single};

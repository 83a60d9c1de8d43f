//! Istio configuration as plain data: parse it, index it, and ask what a proxy has to do.
//!
//! [`Parsed`] reads files, [`Mesh`] indexes their objects together with the [`Registry`], and a
//! [`RouteTable`] made from it answers for every request of one workload's proxy.
//! No sockets, no runtime, no clock: everything here is a function of the texts it was given.

mod cluster;
mod cors;
mod host;
mod istio;
mod mesh;
mod object;
mod registry;
mod route;
mod table;
#[cfg(test)]
mod test_paths;
mod validate;
mod yaml;

pub use cluster::{Balance, Cluster, Endpoint, HashKey, Outlier, PoolLimits, UpstreamProtocol};
pub use cors::Cors;
pub use host::split_authority;
pub use istio::*;
pub use mesh::{Mesh, MeshSettings, Service, WorkloadIdentity};
pub use object::{Object, Parsed, Spec, yaml_files};
pub use registry::{Labels, Protocol, Registry, RegistryEndpoint, RegistryService, ServicePort};
pub use route::{
    AbortStatus, Action, FaultPolicy, Forward, HeaderChanges, HeaderCondition, HeaderRules, Matcher, Mirror,
    PathMatch, PathRewrite, RedirectPort, Redirection, RequestView, RetryOn, RetryPolicy, Route, Share,
    Target, ValueMatch, WeightedTarget,
};
pub use table::{Decision, ProxyWorkload, RouteTable};
pub use yaml::{ConfigError, parse_single};

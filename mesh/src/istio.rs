//! Istio's resources as they are written, field for field. A field that Istio does not have is an
//! error; what a block we do not interpret holds is kept as JSON.

mod destination_rule;
mod gateway;
mod scalar;
mod service_entry;
mod sidecar;
mod virtual_service;

pub use destination_rule::{
    ConnectionPool, ConsistentHash, DestinationRule, HashCookie, HttpPool, LoadBalancer, OutlierDetection,
    PortTrafficPolicy, SimpleLb, Subset, TcpPool, TrafficPolicy, Warmup,
};
pub use gateway::{Gateway, GatewayServer, ServerTls};
pub use scalar::{DurationText, StringMatch};
pub use service_entry::{ServiceEntry, ServiceEntryEndpoint, ServiceEntryPort};
pub use sidecar::{EgressListener, Sidecar, TrafficPolicyMode, WorkloadSelector};
pub use virtual_service::{
    Abort, CorsPolicy, Delay, Delegate, Destination, DirectResponse, Fault, HeaderOperations, Headers,
    HttpMatch, HttpRoute, MirrorPolicy, Percent, PortSelector, Redirect, RegexRewrite, ResponseBody, Retries,
    Rewrite, RouteDestination, VirtualService,
};

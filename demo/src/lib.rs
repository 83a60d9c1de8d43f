//! The demo mesh: Bookinfo as real processes, its load generator, and the supervisor that runs them beside
//! `pharos-proxy` sidecars.
//!
//! Every workload, every proxy and the load generator is a process of its own with an address of its own in one
//! loopback network (default 127.0.10.0/24):
//!
//! | process | address | ports |
//! |---|---|---|
//! | istio-ingressgateway | .1 | 8080 HTTP, 15020 proxy admin |
//! | loadgenerator | .2 | 9081 admin |
//! | productpage-v1 | .10 | 9080 application, 9081 admin, 15001 outbound, 15006 inbound, 15020 proxy admin |
//! | details-v1 | .20 | the same |
//! | reviews-v1, v2, v3 | .31, .32, .33 | the same |
//! | ratings-v1 | .40 | the same |
//!
//! The admin port answers `/healthz` and `/truth` (a [`TruthReport`]): what the process itself sent and got, which
//! a graph can be held against. The load generator's also takes `PUT /rate`. Proxy admin is `/healthz/ready` and
//! `/stats/prometheus`.
//!
//! [`Demo::prepare`] writes the settings, [`Demo::run`] runs the mesh; the `pharos` binary calls [`process_main`]
//! when it is started under [`PROCESS_SUBCOMMAND`]. This crate never looks at the backend: it only tells the
//! proxies where it is.

mod children;
mod forwarded_headers;
mod http_server;
mod load;
mod outbound;
mod process;
mod run_dir;
mod scrape;
mod supervisor;
mod topology;
mod truth;
mod workload;

pub use load::MAX_REQUESTS_PER_SECOND;
pub use process::{PROCESS_SUBCOMMAND, process_main};
pub use scrape::SCRAPE_INTERVAL_S;
pub use supervisor::{BackendAddresses, Demo, DemoConfig, Progress};
pub use topology::{
    Application, BOOKINFO_NAMESPACE, DemoNetwork, GATEWAY_NAME, GATEWAY_NAMESPACE, LOAD_GENERATOR_NAME,
    WORKLOADS, Workload, port,
};
pub use truth::{CALLER_HEADER, Counted, Received, Sent, TruthReport, WORKLOAD_HEADER};

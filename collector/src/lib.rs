//! The receivers of Pharos: OTLP, Envoy's access-log service, Zipkin, Prometheus remote write, and the scraper;
//! and the import of Prometheus' own storage.
//!
//! Each takes its wire's own encodings, turns what it gets into rows of the model, hands them to the storage and
//! answers success once they are durable. Bad input gets the protocol's own error, which names the fault; what a
//! peer may send is limited, before and after decompression.
//!
//! [`Collector`] is the way in. This crate binds no sockets and answers no queries.

mod als;
#[cfg(test)]
mod bench;
mod body;
mod clock;
mod collector;
mod counters;
mod envoy;
mod exposition;
mod fault;
mod grpc;
mod histogram;
#[cfg(test)]
mod hostile;
mod intake;
mod otlp;
mod remote_write;
mod scrape;
mod start_time;
mod tsdb;
mod zipkin;

pub use body::Limits;
pub use collector::{Collector, CollectorConfig};
pub use counters::{Protocol, Received};
pub use envoy::{ParseLineError, parse_line};
pub use scrape::{
    AlertingConfig, AlertingConfigError, Alertmanager, Alertmanagers, DroppedTargets, LastScrape,
    RelabelStep, ScrapeConfig, ScrapeConfigError, TargetStatus,
};
pub use tsdb::{ImportError, ImportProgress, Imported, TsdbError, TsdbImport};

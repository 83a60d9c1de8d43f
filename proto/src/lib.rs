//! The protobuf messages of the wires that Pharos speaks, and their gRPC clients and servers.
//!
//! The `.proto` files beside this crate were written for Pharos: true package names and field numbers, and only
//! the messages and fields that it uses. OTLP comes from the OpenTelemetry project's own crate.
//!
//! This crate holds no logic: what a message means is the collector's, the proxy's and the query's business.

/// OpenTelemetry's protocol: `otlp::collector::trace::v1`, `otlp::trace::v1` and so on.
pub use opentelemetry_proto::tonic as otlp;

/// Envoy's access-log service and what its messages hold.
pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                tonic::include_proto!("envoy.config.core.v3");
            }
        }
    }
    pub mod data {
        pub mod accesslog {
            pub mod v3 {
                tonic::include_proto!("envoy.data.accesslog.v3");
            }
        }
    }
    pub mod service {
        pub mod accesslog {
            pub mod v3 {
                tonic::include_proto!("envoy.service.accesslog.v3");
            }
        }
    }
}

/// Prometheus: remote write 1.0 and 2.0, remote read, and the protobuf exposition.
pub mod prometheus {
    /// Remote write 1.0 and remote read share a package.
    pub mod remote_write_v1 {
        tonic::include_proto!("prometheus");
    }
    pub mod remote_write_v2 {
        tonic::include_proto!("io.prometheus.write.v2");
    }
    pub mod exposition {
        tonic::include_proto!("io.prometheus.client");
    }
}

/// Zipkin's spans in protobuf.
pub mod zipkin {
    tonic::include_proto!("zipkin.proto3");
}

/// gRPC's error model.
pub mod rpc {
    tonic::include_proto!("google.rpc");

    /// The type URLs under which these messages travel in `Status.details`.
    pub const RETRY_INFO_TYPE_URL: &str = "type.googleapis.com/google.rpc.RetryInfo";
    pub const BAD_REQUEST_TYPE_URL: &str = "type.googleapis.com/google.rpc.BadRequest";
}

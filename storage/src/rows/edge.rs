use pharos_model::{
    CounterPart, Edge, EdgeKey, EdgeMeasure, EdgeOrigin, Latency, Peer, Reporter, SeriesId, UnixNanos,
};

use crate::columns::{Cell, Column, Kind, Row, field};

macro_rules! double {
    ($name:literal, $($field:tt)+) => {
        Column {
            name: $name,
            kind: Kind::Double,
            get: |row| Cell::Double(row.$($field)+),
            set: |row, cell| row.$($field)+ = cell.as_f64(),
        }
    };
}

impl Row for Edge {
    const COLUMNS: &'static [Column<Edge>] = &[
        field!(time "time", bucket),
        Column {
            name: "origin",
            kind: Kind::Symbol,
            get: |edge| Cell::text(edge.key.origin.name()),
            set: |edge, cell| {
                edge.key.origin = EdgeOrigin::from_name(cell.as_text()).unwrap_or(edge.key.origin);
            },
        },
        Column {
            name: "measure",
            kind: Kind::Symbol,
            get: |edge| Cell::text(edge.measure.name()),
            set: |edge, cell| edge.measure = EdgeMeasure::from_name(cell.as_text()).unwrap_or(edge.measure),
        },
        Column {
            name: "reporter",
            kind: Kind::Symbol,
            get: |edge| Cell::text(edge.key.reporter.name()),
            set: |edge, cell| edge.key.reporter = Reporter::from_name(cell.as_text()).unwrap_or_default(),
        },
        field!(symbol "source_namespace", key.source.namespace),
        field!(symbol "source_workload", key.source.workload),
        field!(symbol "destination_namespace", key.destination.namespace),
        field!(symbol "destination_workload", key.destination.workload),
        field!(symbol "destination_service", key.destination_service),
        field!(symbol "destination_service_name", key.destination_service_name),
        field!(symbol "destination_service_namespace", key.destination_service_namespace),
        field!(symbol "request_protocol", key.request_protocol),
        field!(symbol "response_code", key.response_code),
        field!(symbol "grpc_status", key.grpc_status),
        field!(symbol "response_flags", key.response_flags),
        double!("increase", counter.increase),
        field!(int64 "samples", counter.samples),
        field!(int64 "first_ms", counter.first_ms),
        double!("first", counter.first),
        field!(int64 "last_ms", counter.last_ms),
        double!("last", counter.last),
        field!(symbol "source_cluster", key.source.cluster),
        field!(symbol "source_app", key.source.app),
        field!(symbol "source_version", key.source.version),
        field!(symbol "source_canonical_service", key.source.canonical_service),
        field!(symbol "source_canonical_revision", key.source.canonical_revision),
        field!(symbol "source_principal", key.source.principal),
        field!(symbol "destination_cluster", key.destination.cluster),
        field!(symbol "destination_app", key.destination.app),
        field!(symbol "destination_version", key.destination.version),
        field!(symbol "destination_canonical_service", key.destination.canonical_service),
        field!(symbol "destination_canonical_revision", key.destination.canonical_revision),
        field!(symbol "destination_principal", key.destination.principal),
        field!(symbol "security_policy", key.security_policy),
        field!(symbol "scrape_app", key.scrape_app),
        Column {
            name: "series",
            kind: Kind::Int64,
            get: |edge| Cell::Int64(edge.key.series.to_i64()),
            set: |edge, cell| edge.key.series = SeriesId::from_i64(cell.as_i64()),
        },
        Column {
            name: "latency",
            kind: Kind::Bytes,
            get: |edge| match &edge.latency {
                Latency::None => Cell::Null,
                latency => Cell::Bytes(latency.encode().into()),
            },
            set: |edge, cell| edge.latency = Latency::decode(cell.as_bytes()).unwrap_or_default(),
        },
    ];

    fn blank() -> Edge {
        Edge {
            bucket: UnixNanos(0),
            key: EdgeKey {
                origin: EdgeOrigin::Metrics,
                reporter: Reporter::default(),
                source: Peer::default(),
                destination: Peer::default(),
                destination_service: String::new(),
                destination_service_name: String::new(),
                destination_service_namespace: String::new(),
                request_protocol: String::new(),
                response_code: String::new(),
                grpc_status: String::new(),
                response_flags: String::new(),
                security_policy: String::new(),
                scrape_app: String::new(),
                series: SeriesId(0),
            },
            measure: EdgeMeasure::Requests,
            counter: CounterPart::default(),
            latency: Latency::None,
        }
    }
}

//! The rules of the graph, one small mesh each.

use std::collections::BTreeMap;

use pharos_model::Labels;
use serde_json::Value;

use super::{text, *};
use crate::graph::flows::tests::counter_rows;

const NOW_S: i64 = 1_800_000_000;

/// `reporter source -> target service code[/grpc status][:flags] rate`, where an end is `namespace/workload` or
/// `unknown`, a service `namespace/name`, and the code `tcp` for bytes received.
fn rows(line: &str) -> Vec<Edge> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [reporter, source, "->", target, service, code, rate] = words.as_slice() else { panic!("{line}") };
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| labels.insert(name.to_string(), value.to_string());
    for (side, end) in [("source", source), ("destination", target)] {
        let (namespace, workload) = end.split_once('/').unwrap_or(("unknown", "unknown"));
        let app = workload.rsplit_once('-').map_or(workload, |(app, _)| app);
        let version = workload.rsplit_once('-').map_or("unknown", |(_, version)| version);
        set(&format!("{side}_workload_namespace"), namespace);
        set(&format!("{side}_workload"), workload);
        set(&format!("{side}_canonical_service"), app);
        set(&format!("{side}_canonical_revision"), version);
        set(&format!("{side}_cluster"), if *end == "unknown" { "unknown" } else { "c" });
    }
    let (service_namespace, service_name) = service.split_once('/').unwrap_or(("unknown", service));
    let host = format!("{service_name}.{service_namespace}.svc.cluster.local");
    set("destination_service", if *service == "unknown" { "unknown" } else { &host });
    set("destination_service_name", service_name);
    set("destination_service_namespace", service_namespace);
    set("reporter", reporter);
    let (code, flags) = code.split_once(':').unwrap_or((code, "-"));
    set("response_flags", flags);
    if code == "tcp" {
        set("__name__", "istio_tcp_received_bytes_total");
        set("request_protocol", "tcp");
    } else {
        set("__name__", "istio_requests_total");
        let (code, grpc_status) =
            code.split_once('/').map_or((code, None), |(code, status)| (code, Some(status)));
        set("response_code", code);
        set("request_protocol", if grpc_status.is_some() { "grpc" } else { "http" });
        set("grpc_response_status", grpc_status.unwrap_or(""));
    }
    let rate: f64 = rate.parse().expect("a rate");
    let from_s = NOW_S - 660;
    counter_rows(&Labels::from_pairs(labels), from_s, NOW_S, 15, |t| 1_000.0 + rate * (t - from_s) as f64)
}

fn rates(traffic: &Value) -> String {
    let rates = traffic["rates"].as_object().into_iter().flatten();
    rates.map(|(name, rate)| format!(" {name}={}", rate.as_str().unwrap_or(""))).collect()
}

/// The document as lines: nodes, then edges, each in the document's order but for edges, which go by their text.
fn lines(document: &Value) -> Vec<String> {
    let (mut names, mut lines) = (BTreeMap::new(), Vec::new());
    for node in document["elements"]["nodes"].as_array().expect("nodes") {
        let data = &node["data"];
        let own = ["workload", "app", "service"]
            .into_iter()
            .map(|key| text(data, key))
            .find(|name| !name.is_empty());
        let name = format!("{}:{}/{}", text(data, "nodeType"), text(data, "namespace"), own.unwrap_or(""));
        let flags = ["isInjected", "isOutside", "isRoot", "isInaccessible"];
        let flags: String =
            flags.into_iter().filter(|flag| data[*flag] == true).map(|flag| format!(" {flag}")).collect();
        let traffic: String = data["traffic"].as_array().into_iter().flatten().map(rates).collect();
        let box_kind = data["isBox"].as_str().map(|kind| format!(" box of {kind}")).unwrap_or_default();
        lines.push(format!("{name}{box_kind}{flags}{traffic}"));
        names.insert(text(data, "id").to_string(), name);
    }
    let mut edges: Vec<String> = document["elements"]["edges"]
        .as_array()
        .expect("edges")
        .iter()
        .map(|edge| {
            let data = &edge["data"];
            let end = |key| names.get(text(data, key)).cloned().unwrap_or_default();
            format!("{} -> {}{}", end("source"), end("target"), rates(&data["traffic"]))
        })
        .collect();
    edges.sort();
    lines.extend(edges);
    lines
}

fn check(query: &str, traffic: &[&str], want: &[&str]) {
    let params = Params::parse(&format!("appenders=&{query}"));
    let options = GraphOptions::parse(&params, Scope::Namespaces, NOW_S).expect("valid");
    let rows = traffic.iter().flat_map(|line| rows(line)).collect();
    let document =
        graph(sums(rows, &options), &options, &Inventory::default(), &MeshConfig::default(), Flavour::Kiali);
    let got = lines(&serde_json::to_value(&document).expect("serializable"));
    assert_eq!(got, want, "{query}");
}

#[test]
fn inside_a_namespace_the_server_counts_and_nothing_counts_twice() {
    check(
        "namespaces=a",
        &[
            "source a/x-1 -> a/y-1 a/y 200 10",
            "destination a/x-1 -> a/y-1 a/y 200 9",
            // Only the client saw these.
            "source a/x-1 -> a/y-1 a/y 0:DC 1",
            "source a/x-1 -> unknown a/y 503:UH 2",
        ],
        &[
            "service:a/y httpIn=2.00 httpIn5xx=2.00",
            "workload:a/x-1 isRoot httpOut=12.00",
            "workload:a/y-1 httpIn=10.00 httpInNoResponse=1.00",
            "workload:a/x-1 -> service:a/y http=2.00 http5xx=2.00 httpPercentErr=100.0 httpPercentReq=16.7",
            "workload:a/x-1 -> workload:a/y-1 http=10.00 httpNoResponse=1.00 httpPercentErr=10.0 httpPercentReq=83.3",
        ],
    );
}

/// Between two requested namespaces the edge tells the client's view and the server's total its own, whichever of
/// the two namespaces comes first.
#[test]
fn maps_of_namespaces_are_merged() {
    for (client, server) in [("a", "b"), ("b", "a")] {
        let traffic = [
            format!("source {client}/x-1 -> {server}/y-1 {server}/y 200 10"),
            format!("destination {client}/x-1 -> {server}/y-1 {server}/y 200 9"),
            format!("destination unknown -> {client}/x-1 {client}/x 200 4"),
            format!("destination unknown -> {server}/y-1 {server}/y 200 3"),
        ];
        let mut want = vec![
            format!("workload:{client}/x-1 httpIn=4.00 httpOut=10.00"),
            format!("workload:{server}/y-1 httpIn=12.00"),
        ];
        want.sort_by_key(|line| line.split('/').next().unwrap_or("").to_string());
        want.extend(["unknown:unknown/unknown isRoot isInaccessible httpOut=7.00".to_string()]);
        let mut edges = vec![
            format!("unknown:unknown/unknown -> workload:{client}/x-1 http=4.00 httpPercentReq=57.1"),
            format!("unknown:unknown/unknown -> workload:{server}/y-1 http=3.00 httpPercentReq=42.9"),
            format!("workload:{client}/x-1 -> workload:{server}/y-1 http=10.00 httpPercentReq=100.0"),
        ];
        edges.sort();
        want.extend(edges);
        check(
            "namespaces=a,b",
            &traffic.iter().map(String::as_str).collect::<Vec<_>>(),
            &want.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    }
}

#[test]
fn a_node_outside_of_the_namespaces_sums_all_its_callers() {
    check(
        "namespaces=a,b",
        &["source a/x-1 -> z/y-1 z/y 200 5", "source b/x-1 -> z/y-1 z/y 200 7"],
        &[
            "workload:a/x-1 isRoot httpOut=5.00",
            "workload:b/x-1 isRoot httpOut=7.00",
            "workload:z/y-1 isOutside httpIn=12.00",
            "workload:a/x-1 -> workload:z/y-1 http=5.00 httpPercentReq=100.0",
            "workload:b/x-1 -> workload:z/y-1 http=7.00 httpPercentReq=100.0",
        ],
    );
}

#[test]
fn service_nodes_stand_between_but_not_before_passthrough() {
    check(
        "namespaces=a&graphType=versionedApp&injectServiceNodes=true",
        &[
            "source a/x-1 -> a/y-1 a/y 200 6",
            "source a/x-1 -> a/y-2 a/y 200 2",
            "source a/x-1 -> unknown a/y 500:FI 2",
            "source a/x-1 -> unknown unknown/PassthroughCluster 200 1",
        ],
        &[
            "box:a/y box of app",
            "service:a/y isInjected httpIn=10.00 httpIn5xx=2.00 httpOut=8.00",
            "app:a/x-1 isRoot httpOut=11.00",
            "app:a/y-1 httpIn=6.00",
            "app:a/y-2 httpIn=2.00",
            "service:unknown/PassthroughCluster isInaccessible httpIn=1.00",
            "app:a/x-1 -> service:a/y http=10.00 http5xx=2.00 httpPercentErr=20.0 httpPercentReq=90.9",
            "app:a/x-1 -> service:unknown/PassthroughCluster http=1.00 httpPercentReq=9.1",
            "service:a/y -> app:a/y-1 http=6.00 httpPercentReq=75.0",
            "service:a/y -> app:a/y-2 http=2.00 httpPercentReq=25.0",
        ],
    );
}

#[test]
fn a_service_graph_keeps_services_and_roots() {
    check(
        "namespaces=a&graphType=service",
        &[
            "destination g/gate-1 -> a/x-1 a/x 200 10",
            "destination a/x-1 -> a/y-1 a/y 200 4",
            "destination a/x-1 -> a/y-2 a/y 500 4",
            "destination a/y-2 -> a/z-1 a/z 200 3",
        ],
        &[
            "service:a/x httpIn=10.00 httpOut=8.00",
            "service:a/y httpIn=8.00 httpIn5xx=4.00 httpOut=3.00",
            "service:a/z httpIn=3.00",
            "workload:g/gate-1 isOutside isRoot httpOut=10.00",
            "service:a/x -> service:a/y http=8.00 http5xx=4.00 httpPercentErr=50.0 httpPercentReq=100.0",
            "service:a/y -> service:a/z http=3.00 httpPercentReq=100.0",
            "workload:g/gate-1 -> service:a/x http=10.00 httpPercentReq=100.0",
        ],
    );
}

#[test]
fn protocols_have_edges_and_errors_of_their_own() {
    check(
        "namespaces=a&graphType=app",
        &[
            "destination a/x-1 -> a/y-1 a/y 200/0 8",
            "destination a/x-1 -> a/y-1 a/y 200/14 1",
            "destination a/x-1 -> a/y-1 a/y 503/14 1",
            "destination a/x-1 -> a/y-1 a/y 404 2",
            "destination a/x-1 -> a/y-1 a/y tcp 300",
        ],
        &[
            "app:a/x isRoot grpcOut=10.00 httpOut=2.00 tcpOut=300.00",
            "app:a/y grpcIn=10.00 grpcInErr=2.00 httpIn=2.00 httpIn4xx=2.00 tcpIn=300.00",
            "app:a/x -> app:a/y grpc=10.00 grpcErr=2.00 grpcPercentErr=20.0 grpcPercentReq=100.0",
            "app:a/x -> app:a/y http=2.00 http4xx=2.00 httpPercentErr=100.0 httpPercentReq=100.0",
            "app:a/x -> app:a/y tcp=300.00",
        ],
    );
}

#[test]
fn idle_edges_are_drawn_when_asked_for() {
    let traffic = ["destination a/x-1 -> a/y-1 a/y 200 0", "destination a/x-1 -> a/z-1 a/z 200 1"];
    let busy = [
        "workload:a/x-1 isRoot httpOut=1.00",
        "workload:a/z-1 httpIn=1.00",
        "workload:a/x-1 -> workload:a/z-1 http=1.00 httpPercentReq=100.0",
    ];
    check("namespaces=a", &traffic, &busy);
    check(
        "namespaces=a&includeIdleEdges=true",
        &traffic,
        &[
            "workload:a/x-1 isRoot httpOut=1.00",
            "workload:a/y-1",
            "workload:a/z-1 httpIn=1.00",
            "workload:a/x-1 -> workload:a/y-1",
            "workload:a/x-1 -> workload:a/z-1 http=1.00 httpPercentReq=100.0",
        ],
    );
}

#[test]
fn rates_can_be_switched_off() {
    let traffic = [
        "destination a/x-1 -> a/y-1 a/y 200/0 8",
        "destination a/x-1 -> a/y-1 a/y 200 2",
        "destination a/x-1 -> a/y-1 a/y tcp 300",
    ];
    check("namespaces=a&rateHttp=none&rateGrpc=none&rateTcp=none", &traffic, &[]);
    check(
        "namespaces=a&rateGrpc=none&rateTcp=received",
        &traffic,
        &[
            "workload:a/x-1 isRoot httpOut=2.00",
            "workload:a/y-1 httpIn=2.00",
            "workload:a/x-1 -> workload:a/y-1 http=2.00 httpPercentReq=100.0",
        ],
    );
}

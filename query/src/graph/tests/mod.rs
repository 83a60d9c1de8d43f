//! Conformance: Kiali's golden graphs, fed as counters straight into the pure function.

mod rules;

use std::collections::{BTreeMap, BTreeSet};

use pharos_model::{Edge, Labels};
use serde_json::Value;

use super::{flows::tests::counter_rows, *};
use crate::params::Params;

pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

/// Rows of a case's series: a counter from 0, a sample every 15 s, up to the query time.
/// Rows of a window, summed up.
fn sums(rows: Vec<Edge>, options: &GraphOptions) -> FlowSums {
    let mut sums = FlowSums::new(options.window());
    sums.add(rows);
    sums
}

fn rows_of(case: &Value, now_s: i64) -> Vec<Edge> {
    let mut rows = Vec::new();
    for (labels, rate, from_s) in counters_of(case, now_s) {
        rows.extend(counter_rows(&labels, from_s, now_s, 15, |t| rate * (t - from_s) as f64));
    }
    rows
}

/// The labels of a case's counters, their rate, and when they are 0.
pub(crate) fn counters_of(case: &Value, now_s: i64) -> Vec<(Labels, f64, i64)> {
    let from_s = now_s - case["window_s"].as_i64().expect("window_s") - 60;
    let series = case["series"].as_array().expect("series");
    series
        .iter()
        .map(|series| {
            let pairs = series["labels"].as_object().expect("labels").iter();
            let mut labels: BTreeMap<String, String> =
                pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").to_string())).collect();
            labels.insert("__name__".into(), text(series, "metric").to_string());
            (Labels::from_pairs(labels), series["rate"].as_f64().expect("rate"), from_s)
        })
        .collect()
}

pub(crate) fn inventory_of(case: &Value) -> Inventory {
    let visible = case["namespaces"].as_array().expect("namespaces").iter();
    Inventory {
        namespaces: Some(visible.map(|ns| (text(ns, "cluster").into(), text(ns, "name").into())).collect()),
        waypoints: case["workloads"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|workload| workload["waypoint"] == true)
            .map(|workload| {
                (
                    text(workload, "cluster").into(),
                    text(workload, "namespace").into(),
                    text(workload, "name").into(),
                )
            })
            .collect(),
    }
}

fn scope_of(path: &str) -> Scope {
    let parts: Vec<&str> = path.trim_start_matches("/api/namespaces/").split('/').collect();
    match parts.as_slice() {
        [namespace, "workloads", workload, "graph"] => {
            Scope::Workload { namespace: namespace.to_string(), workload: workload.to_string() }
        }
        [namespace, "applications", app, "versions", version, "graph"] => Scope::App {
            namespace: namespace.to_string(),
            app: app.to_string(),
            version: Some(version.to_string()),
        },
        [namespace, "applications", app, "graph"] => {
            Scope::App { namespace: namespace.to_string(), app: app.to_string(), version: None }
        }
        [namespace, "services", service, "graph"] => {
            Scope::Service { namespace: namespace.to_string(), service: service.to_string() }
        }
        _ => Scope::Namespaces,
    }
}

/// The golden, with the edits that a store without empty labels needs, and hosts as the series have them.
pub(crate) fn expected(case: &Value) -> Value {
    let mut elements = case["expected"].clone();
    let adjust = &case["adjust"];
    let removed: BTreeSet<&str> =
        adjust["remove"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for part in ["nodes", "edges"] {
        let list = elements[part].as_array_mut().expect("a list");
        list.retain(|element| !removed.contains(text(&element["data"], "id")));
        for element in list {
            for set in adjust["set"].as_array().into_iter().flatten() {
                if element["data"]["id"] != set["id"] {
                    continue;
                }
                let traffic = match &mut element["data"]["traffic"] {
                    Value::Array(list) => {
                        list.iter_mut().find(|t| t["protocol"] == set["protocol"]).expect("protocol")
                    }
                    traffic => traffic,
                };
                traffic["rates"][text(set, "rate")] = set["value"].clone();
            }
        }
    }
    let mut written = elements.to_string();
    for (golden, stored) in case["host_aliases"].as_object().into_iter().flatten() {
        written = written.replace(golden.as_str(), stored.as_str().unwrap_or(""));
    }
    serde_json::from_str(&written).expect("still JSON")
}

/// Order of keys does not matter, order of elements does.
pub(crate) fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted_map: BTreeMap<_, _> =
                map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            sorted_map.into_iter().collect::<serde_json::Map<_, _>>().into()
        }
        Value::Array(list) => list.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[test]
fn goldens_are_equal_to_the_letter() {
    let Some(folder) = crate::tests::conformance_folder("kiali-graph") else { return };
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let case: Value = serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
        let now_s = case["now"].as_i64().expect("now");
        let request = &case["request"];
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(
                request["params"]
                    .as_object()
                    .expect("params")
                    .iter()
                    .map(|(k, v)| (k, v.as_str().unwrap_or(""))),
            )
            .finish();
        let options = GraphOptions::parse(&Params::parse(&query), scope_of(text(request, "path")), now_s)
            .expect("valid");
        let document = graph(
            sums(rows_of(&case, now_s), &options),
            &options,
            &inventory_of(&case),
            &MeshConfig::default(),
            Flavour::Kiali,
        );
        let got = serde_json::to_value(&document).expect("serializable");
        for key in ["timestamp", "duration", "graphType"] {
            assert_eq!(got[key], case["expected_meta"][key], "{} {key}", path.display());
        }
        let (got, want) = (sorted(&got["elements"]), sorted(&expected(&case)));
        for part in ["nodes", "edges"] {
            let (got, want) = (got[part].as_array().expect("list"), want[part].as_array().expect("list"));
            for (got, want) in got.iter().zip(want) {
                assert_eq!(got, want, "{} {part}", path.display());
            }
            assert_eq!(got.len(), want.len(), "{} {part}", path.display());
        }
        seen += 1;
    }
    assert!(seen > 0, "no case in the folder");
}

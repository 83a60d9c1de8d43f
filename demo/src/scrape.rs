//! The proxies as scrape targets, with the labels that Kubernetes discovery would give them.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::topology::{
    BOOKINFO_NAMESPACE, DemoNetwork, GATEWAY_HOST, GATEWAY_NAME, GATEWAY_NAMESPACE, GATEWAY_POD, WORKLOADS,
    port,
};

/// How often the demo's proxies are to be scraped.
pub const SCRAPE_INTERVAL_S: u32 = 5;

/// One entry of a Prometheus `file_sd` document.
#[derive(Debug, Serialize)]
pub(crate) struct TargetGroup {
    targets: [String; 1],
    labels: Map<String, Value>,
}

/// All proxies of the demo: six sidecars and the gateway.
pub(crate) fn target_groups(network: DemoNetwork) -> Vec<TargetGroup> {
    let group = |host: u8, namespace: &str, pod: &str, pod_labels: &[(&str, &str)]| {
        let mut labels = Map::new();
        let mut add = |name: &str, value: &str| labels.insert(name.to_owned(), json!(value));
        add("__metrics_path__", "/stats/prometheus");
        add("__scrape_interval__", &format!("{SCRAPE_INTERVAL_S}s"));
        add("__scrape_timeout__", &format!("{}s", SCRAPE_INTERVAL_S - 1));
        add("job", "kubernetes-pods");
        add("namespace", namespace);
        add("pod", pod);
        for (name, value) in pod_labels {
            add(name, value);
        }
        TargetGroup { targets: [network.socket(host, port::PROXY_ADMIN).to_string()], labels }
    };
    let mut groups = vec![group(
        GATEWAY_HOST,
        GATEWAY_NAMESPACE,
        GATEWAY_POD,
        &[("app", GATEWAY_NAME), ("istio", "ingressgateway")],
    )];
    groups.extend(WORKLOADS.iter().map(|workload| {
        let labels = [("app", workload.application.service()), ("version", workload.version)];
        group(workload.host, BOOKINFO_NAMESPACE, workload.pod, &labels)
    }));
    groups
}

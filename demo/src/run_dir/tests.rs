use std::collections::BTreeSet;

use super::*;
use crate::supervisor::BackendAddresses;
use crate::topology::DemoNetwork;

fn config(run_dir: &Path) -> DemoConfig {
    DemoConfig {
        pharos_binary: "pharos".into(),
        proxy_binary: "pharos-proxy".into(),
        run_dir: run_dir.to_owned(),
        istio_config_dir: None,
        network: DemoNetwork::new(7, 9),
        gateway: None,
        requests_per_second: 20.0,
        backend: BackendAddresses {
            grpc: "127.0.0.1:4317".parse().unwrap(),
            zipkin: "127.0.0.1:9411".parse().unwrap(),
        },
    }
}

fn read(path: PathBuf) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_process_finds_its_settings_and_the_registry_leads_to_inbound_listeners() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::write(&config(folder.path())).unwrap();
    let mut inbound = BTreeSet::new();
    for workload in &WORKLOADS {
        let text = fs::read_to_string(run.workload(workload.name)).unwrap();
        let settings: WorkloadSettings = serde_saphyr::from_str(&text).unwrap();
        let proxy = read(run.proxy(workload.name));
        assert_eq!(proxy["node"]["workload"], workload.name);
        assert_eq!(proxy["inbound"][0]["app"], settings.listen.to_string());
        assert_eq!(proxy["outbound"][0]["listen"], settings.outbound.to_string());
        inbound.insert(proxy["inbound"][0]["listen"].as_str().unwrap().to_owned());
    }
    let registry = read(folder.path().join("registry.yaml"));
    let endpoints: BTreeSet<String> = registry["services"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|service| service["endpoints"].as_array().unwrap())
        .map(|endpoint| endpoint["address"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(endpoints, inbound);
    let text = fs::read_to_string(run.load()).unwrap();
    let load: LoadSettings = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(load.gateway.to_string(), "127.7.9.1:8080");
    assert_eq!(read(run.proxy(GATEWAY_NAME))["gateway"][0]["listen"], "127.7.9.1:8080");
}

#[test]
fn one_workload_reports_to_zipkin_and_both_header_families_are_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::write(&config(folder.path())).unwrap();
    let tracing = |name: &str| read(run.proxy(name))["telemetry"]["tracing"].clone();
    assert_eq!(tracing("details-v1")["zipkin"]["url"], "http://127.0.0.1:9411/api/v2/spans");
    assert_eq!(tracing("details-v1")["extract"], json!(["b3"]));
    assert_eq!(tracing(GATEWAY_NAME)["inject"], json!(["w3c"]));
    assert_eq!(tracing("productpage-v1")["inject"], json!(["b3", "w3c"]));
    assert_eq!(tracing("ratings-v1")["otlp"]["address"], "http://127.0.0.1:4317");
}

#[test]
fn the_scrape_targets_are_all_proxies_with_kubernetes_labels() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::write(&config(folder.path())).unwrap();
    let groups: Value = serde_json::from_str(&fs::read_to_string(run.scrape_targets()).unwrap()).unwrap();
    assert_eq!(groups.as_array().unwrap().len(), 7);
    let reviews = groups.as_array().unwrap().iter().find(|group| group["targets"][0] == "127.7.9.32:15020");
    let labels = &reviews.unwrap()["labels"];
    for (name, value) in [
        ("namespace", "bookinfo"),
        ("app", "reviews"),
        ("version", "v2"),
        ("__metrics_path__", "/stats/prometheus"),
        ("__scrape_interval__", "5s"),
    ] {
        assert_eq!(labels[name], value, "{name}");
    }
}

#[test]
fn a_lone_binary_writes_its_own_istio_folder_and_a_given_one_is_used_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::write(&config(folder.path())).unwrap();
    // Tests run in the crate's folder, where there is no deploy/demo.
    assert!(run.istio().starts_with(fs::canonicalize(folder.path()).unwrap()));
    assert_eq!(fs::read_dir(run.istio()).unwrap().count(), ISTIO_FILES.len());

    let given = tempfile::tempdir().unwrap();
    let with_folder = DemoConfig { istio_config_dir: Some(given.path().to_owned()), ..config(folder.path()) };
    assert_eq!(RunDir::write(&with_folder).unwrap().istio(), fs::canonicalize(given.path()).unwrap());
    assert_eq!(fs::read_dir(given.path()).unwrap().count(), 0);

    let missing = DemoConfig { istio_config_dir: Some("no/such/folder".into()), ..config(folder.path()) };
    let fault = RunDir::write(&missing).unwrap_err().to_string();
    assert!(fault.contains("no/such/folder"), "{fault}");
}

#[test]
fn every_istio_file_of_the_repository_is_carried_along() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demo");
    let there: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    assert_eq!(there, ISTIO_FILES.iter().map(|(name, _)| (*name).to_owned()).collect());
}

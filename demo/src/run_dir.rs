//! The files of one run: what the processes read, where they write, and the Istio configuration.
//!
//! ```text
//! RUN_DIR/
//!   registry.yaml          services and endpoints, for the proxies
//!   scrape-targets.json    the proxies, for a scraper (file_sd)
//!   proxies/NAME.yaml      settings of each proxy
//!   workloads/NAME.yaml    settings of each workload
//!   loadgenerator.yaml     settings of the load generator
//!   istio/                 the Istio configuration, where no folder of it was found elsewhere
//!   logs/NAME.log          what each process says
//! ```

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::{Value, json};

use crate::load::LoadSettings;
use crate::supervisor::DemoConfig;
use crate::topology::{
    Application, BOOKINFO_NAMESPACE, GATEWAY_HOST, GATEWAY_NAME, GATEWAY_NAMESPACE, GATEWAY_POD,
    LOAD_GENERATOR_HOST, Tracing, WORKLOADS, Workload, port,
};
use crate::workload::WorkloadSettings;

/// The Istio configuration that a lone binary carries.
const ISTIO_FILES: [(&str, &str); 4] = [
    ("gateway.yaml", include_str!("../../deploy/demo/gateway.yaml")),
    ("destination-rules.yaml", include_str!("../../deploy/demo/destination-rules.yaml")),
    ("reviews.yaml", include_str!("../../deploy/demo/reviews.yaml")),
    ("ratings.yaml", include_str!("../../deploy/demo/ratings.yaml")),
];

/// Where the Istio configuration is looked for when no folder is given.
const ISTIO_DIR_IN_THE_REPOSITORY: &str = "deploy/demo";

/// A run directory with all settings written.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    istio: PathBuf,
}

impl RunDir {
    /// Writes every file; what an earlier run left under the same names is replaced.
    pub(crate) fn write(config: &DemoConfig) -> anyhow::Result<Self> {
        for folder in ["proxies", "workloads", "logs"] {
            create(&config.run_dir.join(folder))?;
        }
        let path = absolute(&config.run_dir)?;
        let istio = istio_dir(config, &path)?;
        let run = Self { path, istio };
        run.write_yaml("registry.yaml", &registry(config))?;
        run.write_yaml(&format!("proxies/{GATEWAY_NAME}.yaml"), &run.gateway(config))?;
        for workload in &WORKLOADS {
            run.write_yaml(&format!("proxies/{}.yaml", workload.name), &run.sidecar(config, workload))?;
            run.write_yaml(&format!("workloads/{}.yaml", workload.name), &settings(config, workload))?;
        }
        let load = LoadSettings {
            gateway: config.gateway_address(),
            admin: config.network.socket(LOAD_GENERATOR_HOST, port::ADMIN),
            requests_per_second: config.requests_per_second,
        };
        run.write_yaml("loadgenerator.yaml", &load)?;
        let targets = serde_json::to_string_pretty(&crate::scrape::target_groups(config.network))?;
        run.write_text("scrape-targets.json", &targets)?;
        Ok(run)
    }

    pub(crate) fn istio(&self) -> &Path {
        &self.istio
    }

    pub(crate) fn scrape_targets(&self) -> PathBuf {
        self.path.join("scrape-targets.json")
    }

    pub(crate) fn proxy(&self, name: &str) -> PathBuf {
        self.path.join(format!("proxies/{name}.yaml"))
    }

    pub(crate) fn workload(&self, name: &str) -> PathBuf {
        self.path.join(format!("workloads/{name}.yaml"))
    }

    pub(crate) fn load(&self) -> PathBuf {
        self.path.join("loadgenerator.yaml")
    }

    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.path.join(format!("logs/{process}.log"))
    }

    fn gateway(&self, config: &DemoConfig) -> Value {
        json!({
            "node": {
                "workload": GATEWAY_NAME,
                "namespace": GATEWAY_NAMESPACE,
                "labels": { "app": GATEWAY_NAME, "istio": "ingressgateway" },
                "serviceAccount": "istio-ingressgateway-service-account",
                "instance": GATEWAY_POD,
                "ip": config.network.host(GATEWAY_HOST),
            },
            "gateway": [{ "listen": config.gateway_address(), "port": port::GATEWAY }],
            "admin": { "listen": config.network.socket(GATEWAY_HOST, port::PROXY_ADMIN) },
            "mesh": self.mesh(),
            "telemetry": telemetry(config, Tracing::OtlpW3c),
        })
    }

    fn sidecar(&self, config: &DemoConfig, workload: &Workload) -> Value {
        let at = |port| config.network.socket(workload.host, port);
        json!({
            "node": {
                "workload": workload.name,
                "namespace": BOOKINFO_NAMESPACE,
                "labels": labels(workload),
                "serviceAccount": service_account(workload.application),
                "instance": workload.pod,
                "ip": config.network.host(workload.host),
            },
            "inbound": [{
                "listen": at(port::INBOUND),
                "app": at(port::APPLICATION),
                "service": format!("{}.{BOOKINFO_NAMESPACE}.svc.cluster.local", workload.application.service()),
                "port": port::APPLICATION,
            }],
            "outbound": [{ "listen": at(port::OUTBOUND) }],
            "admin": { "listen": at(port::PROXY_ADMIN) },
            "mesh": self.mesh(),
            "telemetry": telemetry(config, workload.tracing),
        })
    }

    fn mesh(&self) -> Value {
        json!({ "configDir": self.istio, "registry": self.path.join("registry.yaml") })
    }

    fn write_yaml(&self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        self.write_text(name, &serde_saphyr::to_string(value)?)
    }

    fn write_text(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn registry(config: &DemoConfig) -> Value {
    let service = |application: Application| {
        let endpoints = WORKLOADS.iter().filter(|workload| workload.application == application);
        let endpoints: Vec<Value> = endpoints
            .map(|workload| {
                json!({
                    "address": config.network.socket(workload.host, port::INBOUND),
                    "workload": workload.name,
                    "labels": labels(workload),
                    "serviceAccount": service_account(application),
                })
            })
            .collect();
        json!({
            "name": application.service(),
            "namespace": BOOKINFO_NAMESPACE,
            "ports": [{ "number": port::APPLICATION, "name": "http", "protocol": "HTTP" }],
            "endpoints": endpoints,
        })
    };
    let services =
        [Application::Productpage, Application::Details, Application::Reviews, Application::Ratings];
    json!({ "services": services.map(service) })
}

fn labels(workload: &Workload) -> Value {
    json!({ "app": workload.application.service(), "version": workload.version })
}

fn service_account(application: Application) -> String {
    format!("bookinfo-{}", application.service())
}

fn telemetry(config: &DemoConfig, tracing: Tracing) -> Value {
    let grpc = format!("http://{}", config.backend.grpc);
    let tracing = match tracing {
        Tracing::OtlpW3c => {
            json!({ "otlp": { "address": grpc }, "extract": ["w3c"], "inject": ["w3c"] })
        }
        Tracing::OtlpB3AndW3c => {
            json!({ "otlp": { "address": grpc }, "extract": ["b3", "w3c"], "inject": ["b3", "w3c"] })
        }
        Tracing::ZipkinB3 => {
            let url = format!("http://{}/api/v2/spans", config.backend.zipkin);
            json!({ "zipkin": { "url": url }, "extract": ["b3"], "inject": ["b3"] })
        }
    };
    json!({ "accessLog": { "address": grpc }, "tracing": tracing })
}

fn settings(config: &DemoConfig, workload: &Workload) -> WorkloadSettings {
    let at = |port| -> SocketAddr { config.network.socket(workload.host, port) };
    WorkloadSettings {
        name: workload.name.to_owned(),
        application: workload.application,
        version: workload.version.to_owned(),
        pod: workload.pod.to_owned(),
        listen: at(port::APPLICATION),
        admin: at(port::ADMIN),
        outbound: at(port::OUTBOUND),
        median_service_time_us: workload.median_service_time_us,
    }
}

/// The folder that was given, else the repository's where the demo is started in it, else a copy of our own.
fn istio_dir(config: &DemoConfig, run_dir: &Path) -> anyhow::Result<PathBuf> {
    if let Some(given) = &config.istio_config_dir {
        if !given.is_dir() {
            bail!("{} is not a folder of Istio configuration", given.display());
        }
        return absolute(given);
    }
    let repository = Path::new(ISTIO_DIR_IN_THE_REPOSITORY);
    if ISTIO_FILES.iter().all(|(name, _)| repository.join(name).is_file()) {
        return absolute(repository);
    }
    let own = run_dir.join("istio");
    create(&own)?;
    for (name, text) in ISTIO_FILES {
        let path = own.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(own)
}

fn create(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))
}

#[cfg(test)]
mod tests;

//! A mesh's standard metrics as its proxies would expose them: counters and latency histograms per edge, reporter
//! and response code, with Istio's labels.

use pharos_proto::prometheus::remote_write_v1::{Label, Sample};
use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Istio's bucket bounds in milliseconds, as Prometheus writes them; the last is `+Inf`.
const BOUNDS_MS: [&str; 20] = [
    "0.5",
    "1.0",
    "5.0",
    "10.0",
    "25.0",
    "50.0",
    "100.0",
    "250.0",
    "500.0",
    "1000.0",
    "2500.0",
    "5000.0",
    "10000.0",
    "30000.0",
    "60000.0",
    "300000.0",
    "600000.0",
    "1800000.0",
    "3600000.0",
    "+Inf",
];

/// Of a channel: requests, the buckets, sum and count.
pub(crate) const SERIES_PER_CHANNEL: usize = BOUNDS_MS.len() + 3;

/// Response codes with their share of an edge's requests and Envoy's flags.
const CODES: [(&str, f64, &str); 3] = [("200", 0.97, "-"), ("404", 0.02, "-"), ("503", 0.01, "UH")];

/// Requests per second of the whole mesh.
const MESH_RPS: f64 = 5_000.0;
const ZIPF: f64 = 1.1;
const WORKLOADS_PER_NAMESPACE: usize = 20;

/// What one reporter counts of one edge and response code.
pub(crate) struct Channel {
    /// The encoded labels of each series, as the body of a `TimeSeries`.
    labels: Vec<Vec<u8>>,
    rps: f64,
    /// Share of requests that take at most the bound.
    within: [f64; BOUNDS_MS.len()],
    /// The scrape at which the proxy starts anew.
    restart: Option<usize>,
    requests: f64,
    buckets: [f64; BOUNDS_MS.len()],
    sum_ms: f64,
}

impl Channel {
    /// Counts what happened in the seconds up to scrape number `scrape`, then gives all series' values.
    pub(crate) fn scrape(&mut self, scrape: usize, seconds: f64, random: &mut StdRng, values: &mut Vec<f64>) {
        if self.restart == Some(scrape) {
            (self.requests, self.buckets, self.sum_ms) = (0.0, Default::default(), 0.0);
        }
        let day = 1.0 + 0.3 * (scrape as f64 / 40.0).sin();
        let new = poisson(self.rps * seconds * day, random);
        self.requests += new as f64;
        if new <= 64 {
            for _ in 0..new {
                let at: f64 = random.random();
                let bucket = self.within.partition_point(|share| *share < at).min(BOUNDS_MS.len() - 1);
                self.observe(bucket, 1.0);
            }
        } else {
            let (mut below, mut left) = (0.0, new as f64);
            for bucket in 0..BOUNDS_MS.len() {
                let share = (self.within[bucket] - below) / (1.0 - below).max(1e-12);
                below = self.within[bucket];
                let mean = left * share.clamp(0.0, 1.0);
                let noise = normal(random) * (mean * (1.0 - share).max(0.0)).sqrt();
                let count = if bucket + 1 == BOUNDS_MS.len() {
                    left
                } else {
                    (mean + noise).round().clamp(0.0, left)
                };
                left -= count;
                self.observe(bucket, count);
            }
        }
        values.push(self.requests);
        values.extend_from_slice(&self.buckets);
        values.push(self.sum_ms);
        values.push(self.requests);
    }

    fn observe(&mut self, bucket: usize, count: f64) {
        for counter in &mut self.buckets[bucket..] {
            *counter += count;
        }
        let typical_ms: f64 = BOUNDS_MS[bucket].parse().unwrap_or(1e6);
        self.sum_ms += count * (typical_ms * 0.7).ceil().min(4e6);
    }

    /// Appends a field `timeseries` of a write request with these samples of series number `series`.
    pub(crate) fn encode(&self, series: usize, samples: impl Iterator<Item = (i64, f64)>, out: &mut Vec<u8>) {
        let mut body = self.labels[series].clone();
        for (timestamp, value) in samples {
            put_field(2, &Sample { value, timestamp }.encode_to_vec(), &mut body);
        }
        put_field(1, &body, out);
    }
}

fn put_field(number: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    prost::encoding::encode_varint(body.len() as u64, out);
    out.extend_from_slice(body);
}

fn normal(random: &mut StdRng) -> f64 {
    let (a, b): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

fn poisson(mean: f64, random: &mut StdRng) -> u64 {
    if mean > 30.0 {
        return (mean + normal(random) * mean.sqrt()).round().max(0.0) as u64;
    }
    let (limit, mut product, mut count) = ((-mean).exp(), random.random::<f64>(), 0);
    while product > limit {
        product *= random.random::<f64>();
        count += 1;
    }
    count
}

/// The channels of `edges` edges: busy ones first, each workload with a few callers.
pub(crate) fn channels(edges: usize) -> Vec<Channel> {
    let mut random = StdRng::seed_from_u64(1);
    let workloads = (edges / 4).max(4);
    let weight = |edge: usize| 1.0 / ((edge + 1) as f64).powf(ZIPF);
    let total: f64 = (0..edges).map(weight).sum();
    let mut channels = Vec::new();
    for edge in 0..edges {
        // The callers of a workload are spread over the mesh, and no edge is there twice.
        let destination = edge % workloads;
        let source = (destination + 1 + (edge / workloads) * 7 + destination / 3) % workloads;
        let middle_ms: f64 = 2.0 * 100f64.powf(random.random());
        for reporter in ["source", "destination"] {
            let restart = (random.random::<f64>() < 0.02).then(|| random.random_range(1..400));
            for (code, share, flags) in CODES {
                let within = BOUNDS_MS.map(|bound| match bound.parse::<f64>() {
                    Ok(bound_ms) if bound_ms.is_finite() => {
                        1.0 / (1.0 + (-1.9 * (bound_ms / middle_ms).ln()).exp())
                    }
                    _ => 1.0,
                });
                channels.push(Channel {
                    labels: series_labels(source, destination, reporter, code, flags),
                    rps: MESH_RPS * weight(edge) / total * share,
                    within,
                    restart,
                    requests: 0.0,
                    buckets: Default::default(),
                    sum_ms: 0.0,
                });
            }
        }
    }
    channels
}

/// A workload's namespace and name.
fn workload(number: usize) -> (String, String) {
    (format!("team-{:02}", number / WORKLOADS_PER_NAMESPACE), format!("workload-{number:04}"))
}

fn series_labels(source: usize, destination: usize, reporter: &str, code: &str, flags: &str) -> Vec<Vec<u8>> {
    let (from_namespace, from) = workload(source);
    let (to_namespace, to) = workload(destination);
    let at = if reporter == "source" { source } else { destination };
    let (own_namespace, own) = workload(at);
    let host = format!("{to}.{to_namespace}.svc.cluster.local");
    let is_server = reporter == "destination";
    let base: Vec<(&str, String)> = vec![
        ("app", own.clone()),
        ("connection_security_policy", if is_server { "mutual_tls" } else { "unknown" }.into()),
        ("destination_app", to.clone()),
        ("destination_canonical_revision", "v1".into()),
        ("destination_canonical_service", to.clone()),
        ("destination_cluster", "Kubernetes".into()),
        ("destination_principal", format!("spiffe://cluster.local/ns/{to_namespace}/sa/{to}")),
        ("destination_service", host),
        ("destination_service_name", to.clone()),
        ("destination_service_namespace", to_namespace.clone()),
        ("destination_version", "v1".into()),
        ("destination_workload", to.clone()),
        ("destination_workload_namespace", to_namespace),
        ("instance", format!("10.{}.{}.{}:15020", at / 65_536, at / 256 % 256, at % 256)),
        ("job", "kubernetes-pods".into()),
        ("namespace", own_namespace),
        ("pod", format!("{own}-6d5f8c9b7d-{:05x}", at * 7_919 % 0xfffff)),
        ("reporter", reporter.into()),
        ("request_protocol", "http".into()),
        ("response_code", code.into()),
        ("response_flags", flags.into()),
        ("source_app", from.clone()),
        ("source_canonical_revision", "v1".into()),
        ("source_canonical_service", from.clone()),
        ("source_cluster", "Kubernetes".into()),
        ("source_principal", format!("spiffe://cluster.local/ns/{from_namespace}/sa/{from}")),
        ("source_version", "v1".into()),
        ("source_workload", from),
        ("source_workload_namespace", from_namespace),
    ];
    let encode = |name: &str, le: Option<&str>| {
        let mut labels = base.clone();
        labels.push(("__name__", name.into()));
        labels.extend(le.map(|le| ("le", le.to_string())));
        labels.sort();
        let mut body = Vec::new();
        for (name, value) in labels {
            put_field(1, &Label { name: name.into(), value }.encode_to_vec(), &mut body);
        }
        body
    };
    let duration = |suffix: &str| format!("istio_request_duration_milliseconds_{suffix}");
    let mut all = vec![encode("istio_requests_total", None)];
    all.extend(BOUNDS_MS.map(|le| encode(&duration("bucket"), Some(le))));
    all.push(encode(&duration("sum"), None));
    all.push(encode(&duration("count"), None));
    all
}

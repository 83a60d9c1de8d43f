//! The series that both are asked about: a small mesh, and the kinds of metrics that prometheus/compliance asks about.
//!
//! Samples lie a fraction of a second beside whole seconds, so that none lies on the edge of a window: there
//! Prometheus 2 counts it to the window and Prometheus 3 does not.

use pharos_proto::prometheus::remote_write_v1::{Label, Sample, TimeSeries, WriteRequest};

const INTERVAL_MS: i64 = 15_000;
/// Forty minutes and one sample.
const SAMPLES: i64 = 161;

/// A multiple of an hour that is not long ago.
pub(super) fn start_ms(now_ms: i64) -> i64 {
    now_ms / 3_600_000 * 3_600_000 - 3_600_000
}

#[derive(Default)]
pub(super) struct Data {
    start_ms: i64,
    series: Vec<TimeSeries>,
}

impl Data {
    pub(super) fn new(start_ms: i64) -> Data {
        let mut data = Data { start_ms, ..Data::default() };
        data.demo();
        data.mesh();
        data
    }

    /// All series, in requests of a bearable size.
    pub(super) fn requests(self) -> impl Iterator<Item = WriteRequest> {
        let mut series = self.series.into_iter().peekable();
        std::iter::from_fn(move || {
            series.peek()?;
            Some(WriteRequest { timeseries: series.by_ref().take(200).collect(), metadata: Vec::new() })
        })
    }

    /// A series with a value per sample, or none. Targets are scraped at different times.
    fn push(&mut self, name: &str, labels: &[(&str, &str)], target: i64, value: impl Fn(i64) -> Option<f64>) {
        let label = |(name, value): (&str, &str)| Label { name: name.into(), value: value.into() };
        let mut labels: Vec<Label> = labels.iter().copied().chain([("__name__", name)]).map(label).collect();
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        let offset_ms = 3_217 + target * 1_234;
        let samples = (0..SAMPLES).filter_map(|at| {
            Some(Sample { value: value(at)?, timestamp: self.start_ms + at * INTERVAL_MS + offset_ms })
        });
        self.series.push(TimeSeries { labels, samples: samples.collect(), ..TimeSeries::default() });
    }

    fn demo(&mut self) {
        for (number, instance) in ["demo-a:10000", "demo-b:10001", "demo-c:10002"].into_iter().enumerate() {
            let target = number as i64;
            let own = target as f64 + 1.0;
            let base = [("instance", instance), ("job", "demo")];
            let with = |extra: &[(&'static str, &'static str)]| [&base[..], extra].concat();
            for (at, kind) in ["free", "cached", "buffers", "used"].into_iter().enumerate() {
                let size = 1e9 / (at as f64 + own);
                self.push("demo_memory_usage_bytes", &with(&[("type", kind)]), target, |at| {
                    Some((size * (1.0 + 0.2 * (at as f64 / 9.0 + own).sin())).round())
                });
            }
            for (rate, mode) in [(11.3, "idle"), (2.7, "user"), (0.9, "system")] {
                // The second machine starts anew in the middle.
                self.push("demo_cpu_usage_seconds_total", &with(&[("mode", mode)]), target, |at| {
                    let since = if target == 1 && at >= 90 { at - 87 } else { at + 2_000 };
                    Some(since as f64 * rate * own + (at as f64).cos())
                });
            }
            for (path, weight) in [("/api/bar", 3.0), ("/api/foo", 7.0), ("/api/nonexistent", 0.1)] {
                for (method, status) in [("GET", "200"), ("POST", "200"), ("GET", "500")] {
                    let per_scrape = weight * own * if status == "200" { 5.0 } else { 0.4 };
                    let labels = [("method", method), ("path", path), ("status", status)];
                    self.histogram(
                        "demo_api_request_duration_seconds",
                        &with(&labels),
                        target,
                        per_scrape,
                        &[("0.0001", 0.1), ("0.01", 0.55), ("0.1", 0.9), ("1", 0.99), ("+Inf", 1.0)],
                    );
                }
            }
            self.push("demo_num_cpus", &base, target, |_| Some(4.0));
            self.push("demo_is_holiday", &base, target, |at| Some(f64::from(u8::from(at / 40 % 2 == 1))));
            // Gone for longer than the lookback, twice.
            self.push("demo_intermittent_metric", &base, target, |at| {
                (!(30..60).contains(&at) && !(100..130).contains(&at)).then_some(at as f64 * own)
            });
            self.push("demo_batch_last_success_timestamp_seconds", &base, target, |at| {
                Some(1.7e9 + (at / 20 * 300) as f64)
            });
            self.push("demo_temperature_celsius", &base, target, |at| {
                Some(12.5 * (at as f64 / 17.0 * own).sin() - own)
            });
            self.push("demo_odd_values", &base, target, |at| {
                Some(match (at + target) % 11 {
                    3 => f64::NAN,
                    5 => f64::INFINITY,
                    7 => f64::NEG_INFINITY,
                    other => other as f64 - 4.0,
                })
            });
            // Ends with a staleness marker at different times.
            self.push("demo_ended", &base, target, |at| match at.cmp(&(60 + 25 * target)) {
                std::cmp::Ordering::Less => Some(at as f64),
                std::cmp::Ordering::Equal => Some(pharos_model::stale_nan()),
                std::cmp::Ordering::Greater => None,
            });
        }
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        target: i64,
        per_scrape: f64,
        shares: &[(&str, f64)],
    ) {
        // Counts since long ago: extrapolation to before the first sample is not cut off at zero.
        let count = move |at: i64| ((at + 3_000) as f64 * per_scrape).floor();
        for (le, share) in shares {
            let labels = [labels, &[("le", *le)]].concat();
            self.push(&format!("{name}_bucket"), &labels, target, |at| Some((count(at) * share).floor()));
        }
        self.push(&format!("{name}_count"), labels, target, |at| Some(count(at)));
        self.push(&format!("{name}_sum"), labels, target, |at| Some(count(at) * 0.0371));
    }

    /// A handful of services that call each other, as their proxies tell of it.
    fn mesh(&mut self) {
        let edges = [
            ("istio-ingressgateway", "istio-system", "productpage-v1", "bookinfo"),
            ("productpage-v1", "bookinfo", "details-v1", "bookinfo"),
            ("productpage-v1", "bookinfo", "reviews-v1", "bookinfo"),
            ("productpage-v1", "bookinfo", "reviews-v2", "bookinfo"),
            ("reviews-v2", "bookinfo", "ratings-v1", "bookinfo"),
            ("unknown", "unknown", "details-v1", "bookinfo"),
        ];
        for (number, (from, from_namespace, to, to_namespace)) in edges.into_iter().enumerate() {
            let service = to.rsplit_once('-').map_or(to, |(service, _)| service);
            let host = format!("{service}.{to_namespace}.svc.cluster.local");
            let principal = |namespace: &str| format!("spiffe://cluster.local/ns/{namespace}/sa/default");
            let (source_principal, destination_principal) =
                (principal(from_namespace), principal(to_namespace));
            for (target, reporter) in ["source", "destination"].into_iter().enumerate() {
                if reporter == "source" && from == "unknown" {
                    continue;
                }
                let policy = if reporter == "destination" { "mutual_tls" } else { "unknown" };
                let edge = [
                    ("reporter", reporter),
                    ("source_workload", from),
                    ("source_canonical_service", from),
                    ("source_canonical_revision", "latest"),
                    ("source_workload_namespace", from_namespace),
                    ("source_principal", source_principal.as_str()),
                    ("source_app", from),
                    ("source_version", "v1"),
                    ("source_cluster", "Kubernetes"),
                    ("destination_workload", to),
                    ("destination_workload_namespace", to_namespace),
                    ("destination_principal", destination_principal.as_str()),
                    ("destination_app", service),
                    ("destination_version", "v1"),
                    ("destination_service", host.as_str()),
                    ("destination_canonical_service", service),
                    ("destination_canonical_revision", "v1"),
                    ("destination_service_name", service),
                    ("destination_service_namespace", to_namespace),
                    ("destination_cluster", "Kubernetes"),
                    ("connection_security_policy", policy),
                    ("app", if reporter == "source" { from } else { service }),
                ];
                let target = target as i64;
                for (code, flags, share) in
                    [("200", "-", 9.0), ("404", "-", 1.0), ("503", "UH", 0.3), ("0", "DC", 0.0)]
                {
                    let per_scrape = share * (number + 1) as f64;
                    let http =
                        [("request_protocol", "http"), ("response_code", code), ("response_flags", flags)];
                    let labels = [&edge[..], &http].concat();
                    self.push("istio_requests_total", &labels, target, |at| {
                        Some(((at + 5_000) as f64 * per_scrape).floor())
                    });
                    if code != "0" {
                        let shares = [
                            ("1", 0.1),
                            ("5", 0.4),
                            ("10", 0.7),
                            ("100", 0.97),
                            ("1000", 1.0),
                            ("+Inf", 1.0),
                        ];
                        for unit in ["request_duration_milliseconds", "request_bytes", "response_bytes"] {
                            self.histogram(&format!("istio_{unit}"), &labels, target, per_scrape, &shares);
                        }
                    }
                }
                let grpc = [
                    ("request_protocol", "grpc"),
                    ("response_code", "200"),
                    ("grpc_response_status", "14"),
                    ("response_flags", "-"),
                ];
                self.push("istio_requests_total", &[&edge[..], &grpc].concat(), target, |at| {
                    Some((at + 900) as f64)
                });
                let tcp = [("request_protocol", "tcp"), ("response_flags", "-")];
                for (at, name) in ["sent_bytes", "received_bytes", "connections_opened", "connections_closed"]
                    .into_iter()
                    .enumerate()
                {
                    let per_scrape = 17.0 * (at + number + 1) as f64;
                    let name = format!("istio_tcp_{name}_total");
                    self.push(&name, &[&edge[..], &tcp].concat(), target, |at| {
                        Some((at + 800) as f64 * per_scrape)
                    });
                }
                for (at, name) in ["request", "response"].into_iter().enumerate() {
                    let name = format!("istio_{name}_messages_total");
                    self.push(&name, &edge, target, |sample| Some((sample + 700) as f64 * (at + 2) as f64));
                }
            }
        }
        self.control_plane();
    }

    /// istiod, ztunnel and the containers' resources.
    fn control_plane(&mut self) {
        let istiod = [("app", "istiod"), ("pod", "istiod-0"), ("instance", "10.0.0.9:15014")];
        let with = |extra: &[(&'static str, &'static str)]| [&istiod[..], extra].concat();
        for (at, kind) in ["cds", "eds", "lds", "rds"].into_iter().enumerate() {
            let per_scrape = at as f64 + 1.5;
            self.push("pilot_xds_pushes", &with(&[("type", kind)]), 0, |at| {
                Some(((at + 4_000) as f64 * per_scrape).floor())
            });
        }
        for (at, name) in [
            "pilot_xds",
            "pilot_services",
            "pilot_virt_services",
            "process_virtual_memory_bytes",
            "process_resident_memory_bytes",
            "go_memstats_heap_inuse_bytes",
            "go_memstats_stack_inuse_bytes",
            "go_goroutines",
        ]
        .into_iter()
        .enumerate()
        {
            self.push(name, &istiod, 0, |sample| Some(100.0 * (at + 1) as f64 + (sample % 13) as f64));
        }
        for name in ["process_cpu_seconds_total", "galley_validation_passed", "pilot_k8s_cfg_events"] {
            self.push(name, &istiod, 0, |at| Some((at + 9_000) as f64 * 0.37));
        }
        let shares = [("0.1", 0.5), ("0.5", 0.8), ("1", 0.95), ("3", 1.0), ("+Inf", 1.0)];
        self.histogram("pilot_proxy_convergence_time", &istiod, 0, 2.5, &shares);
        for (component, tag) in
            [("pilot", "1.26.0"), ("proxy", "1.26.0"), ("proxy", "1.25.2"), ("ztunnel", "1.26.0")]
        {
            self.push("istio_build", &[("component", component), ("tag", tag)], 1, |_| Some(1.0));
        }
        for (at, container) in ["discovery", "istio-proxy", "ztunnel"].into_iter().enumerate() {
            let labels = [("container", container), ("pod", "istiod-0"), ("namespace", "istio-system")];
            let own = at as f64 + 1.0;
            self.push("container_cpu_usage_seconds_total", &labels, 2, |at| {
                Some((at + 7_000) as f64 * 0.21 * own)
            });
            self.push("container_memory_working_set_bytes", &labels, 2, |at| {
                Some(5e7 * own + (at % 7) as f64 * 1e5)
            });
        }
    }
}

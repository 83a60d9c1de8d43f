//! Every decoder under damaged input: it may refuse, it must not panic.

use pharos_model::{Attributes, LogRecord, Scope, Severity, UnixNanos, Value};
use pharos_proto::{
    envoy::service::accesslog::v3::StreamAccessLogsMessage,
    otlp::collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
};
use prost::Message;

use crate::{
    als, envoy,
    exposition::{Body, Entry, Format, HistogramForms, series_labels},
    otlp, remote_write, zipkin,
};

/// A small generator with a fixed start, so that a failure comes again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// `good` with a few bytes changed, removed, doubled, or its end cut off.
    fn damage(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..(at + self.below(8)).min(bytes.len()))),
                2 => bytes.insert(at.min(bytes.len()), [0, 0xff, b'"', b'{', b'-', b'9'][self.below(6)]),
                3 if !bytes.is_empty() => bytes[at] = 0xff,
                4 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                _ => {
                    let copy: Vec<u8> = bytes[at.min(bytes.len())..].iter().take(12).copied().collect();
                    bytes.splice(at..at, copy);
                }
            }
        }
        bytes
    }
}

fn check(good: &[u8], mut decode: impl FnMut(&[u8])) {
    decode(good);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3_000 {
        decode(&random.damage(good));
    }
}

const TRACES: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},"scopeSpans":[{"scope":{"name":"s"},"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","parentSpanId":"eee19b7ec3c1b173","name":"n","kind":2,"startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000000005","attributes":[{"key":"k","value":{"kvlistValue":{"values":[{"key":"x","value":{"arrayValue":{"values":[{"intValue":"7"},{"bytesValue":"AAE="}]}}}]}}}],"events":[{"timeUnixNano":"5","name":"e"}],"links":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}],"status":{"code":2}}]}]}]}"#;
const METRICS: &str = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"c","unit":"By/s","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{"timeUnixNano":"1700000000000000000","asInt":"5","exemplars":[{"asDouble":1}]}]}},{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1700000000000000000","count":"6","sum":3,"bucketCounts":[1,2,3],"explicitBounds":[5,25]}]}},{"name":"e","exponentialHistogram":{"aggregationTemporality":1,"dataPoints":[{"timeUnixNano":"1700000000000000000","count":3,"scale":3,"zeroCount":1,"positive":{"offset":-4,"bucketCounts":[1,1]},"negative":{"offset":2,"bucketCounts":[1]}}]}},{"name":"s","summary":{"dataPoints":[{"timeUnixNano":"1700000000000000000","count":2,"quantileValues":[{"quantile":0.5,"value":1.5}]}]}}]}]}]}"#;
const LOGS: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1700000000000000000","severityNumber":9,"body":{"stringValue":"x"},"traceId":"5b8efff798038103d269b633813fc60c","attributes":[{"key":"response_code","value":{"stringValue":"200"}},{"key":"response_flags","value":{"stringValue":"-"}},{"key":"authority","value":{"stringValue":"a:1"}}]}]}]}]}"#;

#[test]
fn otlp() {
    check(TRACES.as_bytes(), otlp::take_apart);
    check(METRICS.as_bytes(), otlp::take_apart);
    check(LOGS.as_bytes(), otlp::take_apart);
    check(&otlp::decode_json::<ExportTraceServiceRequest>(TRACES).encode_to_vec(), otlp::take_apart);
    check(&otlp::decode_json::<ExportMetricsServiceRequest>(METRICS).encode_to_vec(), otlp::take_apart);
    check(&otlp::decode_json::<ExportLogsServiceRequest>(LOGS).encode_to_vec(), otlp::take_apart);
}

#[test]
fn zipkin() {
    let json = br#"[{"traceId":"463ac35c9f6413ad","id":"a2fb4a1d1a96d312","parentId":"1","kind":"CLIENT","name":"n","timestamp":1700000000000000,"duration":5,"localEndpoint":{"serviceName":"a","ipv4":"1.2.3.4","port":80},"annotations":[{"timestamp":1700000000000001,"value":"v"}],"tags":{"a":"b","c":"d"},"shared":true},{"traceId":"463ac35c9f6413ad","id":"b"}]"#;
    for content_type in ["application/json", "application/x-protobuf"] {
        check(json, |bytes| drop(zipkin::decode(content_type, bytes, UnixNanos::now())));
    }
}

#[test]
fn remote_write() {
    check(&remote_write::sample_request(), remote_write::take_apart);
}

#[test]
fn als() {
    let message = als::sample_message().encode_to_vec();
    let node = envoy::ProxyNode::default();
    check(&message, |bytes| {
        if let Ok(message) = StreamAccessLogsMessage::decode(bytes) {
            if let Some(node) = message.identifier.as_ref().and_then(|identifier| identifier.node.as_ref()) {
                envoy::ProxyNode::new(node);
            }
            als::access_logs(&node, &message);
        }
    });
}

#[test]
fn access_log_lines() {
    let text = br#"[2020-11-25T21:26:18.409Z] "GET /status/418 HTTP/1.1" 418 DI,FI via_upstream - "-" 0 135 4 3 "1.2.3.4" "curl" "id" "httpbin:8000" "10.44.1.27:80" outbound|8000||httpbin.foo.svc.cluster.local 1.1.1.1:1 1.1.1.1:2 1.1.1.1:3 - default"#;
    let json = br#"{"start_time":"2020-11-25T21:26:18.409Z","method":"GET","response_code":418,"response_flags":"-","duration":4,"upstream_cluster":"inbound|80||","authority":"a.b"}"#;
    for good in [text.as_slice(), json.as_slice()] {
        check(good, |bytes| {
            let line = String::from_utf8_lossy(bytes).into_owned();
            drop(envoy::parse_line(&line));
            let record = LogRecord {
                time: UnixNanos(1),
                observed: UnixNanos(1),
                severity: Severity(0),
                severity_text: String::new(),
                body: Value::String(line),
                event_name: String::new(),
                trace_id: None,
                span_id: None,
                flags: 0,
                service: "a".into(),
                resource: Attributes::new().into(),
                scope: Scope::default().into(),
                attributes: Attributes::new(),
            };
            drop(envoy::access_log_of_record(&record));
        });
    }
}

#[test]
fn expositions() {
    let text = b"# HELP a It \\n is\n# TYPE a histogram\na_bucket{le=\"1\",b=\"x\\\"}y\"} 3 1.5 # {t=\"x\"} 0.5 2\n{\"my.name\",b=\"c\"} NaN -7\n# UNIT a s\n# EOF\n";
    let protobuf = crate::exposition::sample_families();
    for (body, format) in
        [(&text[..], Format::Text), (&text[..], Format::OpenMetrics), (&protobuf, Format::Protobuf)]
    {
        check(body, |bytes| {
            let Ok(body) = Body::read(bytes, format) else { return };
            drop(body.parse(HistogramForms { native: true, always_classic: true }, |entry| {
                if let Entry::Sample(sample) = entry {
                    drop(series_labels(sample.series));
                    for exemplar in sample.exemplars {
                        drop(series_labels(exemplar.labels));
                    }
                }
                Ok(())
            }));
        });
    }
}

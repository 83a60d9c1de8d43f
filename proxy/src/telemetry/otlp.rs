//! Spans by OTLP over gRPC.

use super::StartError;
use super::batch::{Backoff, Batches};
use super::span::{Span, Tag};
use crate::config::OtlpConfig;
use crate::node::Node;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter, SpanLinks};
use std::time::Duration;

/// Tries for one batch; then it is given up, so that newer spans get their turn.
const ATTEMPTS: u32 = 5;

pub(crate) struct Sender {
    exporter: OtlpExporter,
    scope: InstrumentationScope,
}

impl Sender {
    pub(crate) fn new(config: &OtlpConfig, node: &Node) -> Result<Self, StartError> {
        let mut exporter = OtlpExporter::builder()
            .with_tonic()
            .with_endpoint(&config.address)
            .with_timeout(Duration::from_secs(2))
            .build()
            .map_err(|error| StartError {
                field: "tracing.otlp.address",
                address: config.address.clone(),
                message: error.to_string(),
            })?;
        let attributes = [
            KeyValue::new("service.name", node.service_name.clone()),
            KeyValue::new("k8s.namespace.name", node.namespace.clone()),
            KeyValue::new("k8s.cluster.name", node.peer.cluster.clone()),
            KeyValue::new("service.version", node.peer.version.clone()),
        ];
        exporter.set_resource(&Resource::builder_empty().with_attributes(attributes).build());
        let scope =
            InstrumentationScope::builder("pharos-proxy").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self { exporter, scope })
    }

    pub(crate) async fn run(self, mut batches: Batches<Span>) {
        let mut backoff = Backoff::new();
        while let Some(batch) = batches.next().await {
            let spans: Vec<SpanData> = batch.into_iter().map(|span| self.span_data(span)).collect();
            let count = spans.len();
            let mut sent = false;
            for attempt in 1..=ATTEMPTS {
                match self.exporter.export(spans.clone()).await {
                    Ok(()) => {
                        backoff.reset();
                        sent = true;
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(%error, attempt, "spans were not taken");
                        if batches.stopping() {
                            break;
                        }
                        backoff.wait(batches.stop_token()).await;
                    }
                }
            }
            if !sent {
                tracing::warn!(spans = count, "spans given up: the OTLP receiver does not take them");
                batches.count_dropped(count);
            }
        }
    }

    fn span_data(&self, span: Span) -> SpanData {
        let context = span.context;
        let span_context = SpanContext::new(
            TraceId::from_bytes(context.trace_id.0),
            SpanId::from_bytes(context.span_id.0),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        );
        SpanData {
            span_context,
            parent_span_id: context.parent.map_or(SpanId::INVALID, |id| SpanId::from_bytes(id.0)),
            parent_span_is_remote: true,
            span_kind: match span.kind {
                pharos_model::SpanKind::Client => SpanKind::Client,
                _ => SpanKind::Server,
            },
            name: span.name.to_string().into(),
            start_time: span.start,
            end_time: span.start + span.duration,
            attributes: span.tags.into_iter().map(attribute).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if span.error { Status::error("") } else { Status::Unset },
            instrumentation_scope: self.scope.clone(),
        }
    }
}

fn attribute((key, value): (&'static str, Tag)) -> KeyValue {
    match value {
        Tag::Fixed(text) => KeyValue::new(key, text),
        Tag::Shared(text) => KeyValue::new(key, text),
        Tag::Own(text) => KeyValue::new(key, String::from(text)),
    }
}

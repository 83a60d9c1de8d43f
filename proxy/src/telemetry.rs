//! What the proxy tells: metrics that are scraped, access logs and spans that are sent.
//!
//! Queues are bounded and never block a request: what does not fit is dropped and counted in
//! `pharos_proxy_telemetry_dropped_total`.

mod access_log;
mod batch;
mod metrics;
mod otlp;
mod span;
mod zipkin;

pub(crate) use access_log::{LogEntry, entry};
pub(crate) use metrics::{Labels, Metrics, Observation};
pub(crate) use span::{Span, Tag};

use crate::config::TelemetryConfig;
use crate::node::Node;
use batch::Queue;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[derive(Debug)]
pub(crate) struct Telemetry {
    pub(crate) metrics: Arc<Metrics>,
    logs: Option<Queue<LogEntry>>,
    spans: Option<Queue<Span>>,
}

impl Telemetry {
    /// Starts the senders on `tasks`; after `stop` they send what is queued and end.
    pub(crate) fn start(
        config: &TelemetryConfig,
        node: &Arc<Node>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        let logs = match &config.access_log {
            None => None,
            Some(settings) => {
                let (queue, batches) = batch::queue(metrics.dropped("access_log"), stop.clone());
                let sender = access_log::Sender::new(settings, node)?;
                tasks.spawn(sender.run(batches));
                Some(queue)
            }
        };
        let tracing = &config.tracing;
        let spans = if let Some(settings) = &tracing.otlp {
            let (queue, batches) = batch::queue(metrics.dropped("span"), stop.clone());
            tasks.spawn(otlp::Sender::new(settings, node)?.run(batches));
            Some(queue)
        } else if let Some(settings) = &tracing.zipkin {
            let (queue, batches) = batch::queue(metrics.dropped("span"), stop.clone());
            tasks.spawn(zipkin::Sender::new(settings, node)?.run(batches));
            Some(queue)
        } else {
            None
        };
        Ok(Self { metrics, logs, spans })
    }

    pub(crate) fn wants_logs(&self) -> bool {
        self.logs.is_some()
    }

    pub(crate) fn wants_spans(&self) -> bool {
        self.spans.is_some()
    }

    pub(crate) fn log(&self, entry: LogEntry) {
        if let Some(queue) = &self.logs {
            queue.offer(entry);
        }
    }

    pub(crate) fn span(&self, span: Span) {
        if let Some(queue) = &self.spans {
            queue.offer(span);
        }
    }
}

/// An address that telemetry is to go to cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("telemetry.{field}: `{address}`: {message}")]
pub struct StartError {
    pub field: &'static str,
    pub address: String,
    pub message: String,
}

//! OpenTelemetry's protocol, over gRPC and HTTP, in protobuf and JSON.

mod config;
mod grpc;
mod http;
mod json;
mod log;
mod metric;
mod metric_name;
mod temporality;
mod trace;
mod value;

use std::sync::Arc;

use parking_lot::Mutex;
use pharos_model::UnixNanos;
use pharos_proto::otlp::collector::{
    logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse},
    metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse},
    trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse},
};
use pharos_storage::Batch;

use self::temporality::Accumulator;
pub(crate) use self::{config::OtlpConfig, http::router, trace::UNKNOWN_SERVICE};
use crate::{
    counters::Protocol,
    fault::Fault,
    intake::{Intake, Rejected},
};

/// The receiver behind both transports.
#[derive(Clone)]
pub(crate) struct OtlpReceiver {
    intake: Arc<Intake>,
    /// Running totals of series that are sent as deltas.
    deltas: Arc<Mutex<Accumulator>>,
    config: Arc<Mutex<Arc<OtlpConfig>>>,
}

impl OtlpReceiver {
    pub(crate) fn new(intake: Arc<Intake>, config: OtlpConfig) -> OtlpReceiver {
        OtlpReceiver { intake, deltas: Arc::default(), config: Arc::new(Mutex::new(Arc::new(config))) }
    }

    /// From the next request on.
    pub(crate) fn reconfigure(&self, config: OtlpConfig) {
        *self.config.lock() = Arc::new(config);
    }

    async fn traces(
        &self,
        protocol: Protocol,
        request: ExportTraceServiceRequest,
    ) -> Result<ExportTraceServiceResponse, Fault> {
        let spans = trace::spans(request, UnixNanos::now());
        let items = spans.rows.len();
        self.intake.append(protocol, Batch::Spans(spans.rows), items).await?;
        let partial_success =
            self.partial(protocol, spans.rejected).map(|(rejected_spans, error_message)| {
                ExportTracePartialSuccess { rejected_spans, error_message }
            });
        Ok(ExportTraceServiceResponse { partial_success })
    }

    async fn logs(
        &self,
        protocol: Protocol,
        request: ExportLogsServiceRequest,
    ) -> Result<ExportLogsServiceResponse, Fault> {
        let (logs, access_logs) = log::records(request, UnixNanos::now());
        let items = access_logs.len();
        self.intake.append(protocol, Batch::AccessLogs(access_logs), items).await?;
        let items = logs.rows.len();
        self.intake.append(protocol, Batch::Logs(logs.rows), items).await?;
        let partial_success =
            self.partial(protocol, logs.rejected).map(|(rejected_log_records, error_message)| {
                ExportLogsPartialSuccess { rejected_log_records, error_message }
            });
        Ok(ExportLogsServiceResponse { partial_success })
    }

    async fn metrics(
        &self,
        protocol: Protocol,
        request: ExportMetricsServiceRequest,
    ) -> Result<ExportMetricsServiceResponse, Fault> {
        let config = self.config.lock().clone();
        let mut series = metric::series(
            request,
            UnixNanos::now(),
            &config,
            &mut self.deltas.lock(),
            self.intake.start_times.as_deref(),
        );
        let items = series.rows.iter().map(|series| series.samples.len() + series.histograms.len()).sum();
        let refused = self.intake.append(protocol, Batch::Samples(series.rows), items).await?;
        series.rejected.merge(refused);
        let partial_success =
            self.partial(protocol, series.rejected).map(|(rejected_data_points, error_message)| {
                ExportMetricsPartialSuccess { rejected_data_points, error_message }
            });
        Ok(ExportMetricsServiceResponse { partial_success })
    }

    /// The two fields of every partial success; `None` when nothing was refused, as the protocol asks.
    fn partial(&self, protocol: Protocol, rejected: Rejected) -> Option<(i64, String)> {
        self.intake.counters.rejected(protocol, rejected.items);
        (!rejected.is_empty()).then(|| (rejected.items as i64, rejected.message()))
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use self::tests::{decode_json, take_apart};

use pharos_proto::otlp::collector::{
    logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse, logs_service_server},
    metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse, metrics_service_server},
    trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse, trace_service_server},
};
use prost::Message;
use tonic::{Request, Response, Status, codec::CompressionEncoding};

use super::OtlpReceiver;
use crate::{counters::Protocol, fault::Fault};

#[tonic::async_trait]
impl trace_service_server::TraceService for OtlpReceiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.answer(request.into_inner(), async |request| self.traces(Protocol::OtlpGrpc, request).await)
            .await
    }
}

#[tonic::async_trait]
impl logs_service_server::LogsService for OtlpReceiver {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.answer(request.into_inner(), async |request| self.logs(Protocol::OtlpGrpc, request).await).await
    }
}

#[tonic::async_trait]
impl metrics_service_server::MetricsService for OtlpReceiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.answer(request.into_inner(), async |request| self.metrics(Protocol::OtlpGrpc, request).await)
            .await
    }
}

impl OtlpReceiver {
    async fn answer<Q: Message, A>(
        &self,
        request: Q,
        take: impl AsyncFnOnce(Q) -> Result<A, Fault>,
    ) -> Result<Response<A>, Status> {
        // Over HTTP this is counted while the body is read; here the message has been read already.
        let _share = self.intake.budget.take(request.encoded_len())?;
        Ok(Response::new(take(request).await?))
    }

    /// The three Export services, which take gzip and zstd.
    pub(crate) fn grpc_routes(&self) -> tonic::service::Routes {
        let limit = self.intake.limits.max_body_bytes;
        let trace = trace_service_server::TraceServiceServer::new(self.clone())
            .max_decoding_message_size(limit)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        let logs = logs_service_server::LogsServiceServer::new(self.clone())
            .max_decoding_message_size(limit)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        let metrics = metrics_service_server::MetricsServiceServer::new(self.clone())
            .max_decoding_message_size(limit)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        tonic::service::Routes::new(trace).add_service(logs).add_service(metrics)
    }
}

use std::sync::Arc;

use axum::Router;
use pharos_model::MetricMetadata;
use pharos_proto::envoy::service::accesslog::v3::access_log_service_server::AccessLogServiceServer;
use pharos_storage::Storage;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;

use crate::{
    als::AlsReceiver,
    body::Limits,
    counters::Received,
    grpc,
    intake::Intake,
    otlp::{self, OtlpReceiver},
    remote_write,
    scrape::{self, DroppedTargets, ScrapeConfig, Statuses, TargetStatus},
    zipkin,
};

/// What a collector is told.
#[derive(Clone, Debug, Default)]
pub struct CollectorConfig {
    pub limits: Limits,
    pub scrape: ScrapeConfig,
    /// Whether a counter that says when it began gets a zero at that time (Prometheus' feature
    /// `created-timestamp-zero-ingestion`).
    pub start_time_zeros: bool,
}

/// All receivers over one store. Cheap to clone.
///
/// It binds no sockets: the server asks for a service or a router for each listener.
#[derive(Clone)]
pub struct Collector {
    intake: Arc<Intake>,
    otlp: OtlpReceiver,
    remote_write: remote_write::Receiver,
    scrape: Arc<watch::Sender<ScrapeConfig>>,
    statuses: Statuses,
}

impl Collector {
    pub fn new(config: CollectorConfig, storage: Storage) -> Collector {
        let intake = Arc::new(Intake::new(storage, config.limits, config.start_time_zeros));
        Collector {
            otlp: OtlpReceiver::new(intake.clone(), config.scrape.otlp.clone()),
            remote_write: remote_write::Receiver::new(intake.clone()),
            intake,
            scrape: Arc::new(watch::Sender::new(config.scrape)),
            statuses: Statuses::default(),
        }
    }

    /// OTLP's three Export services and Envoy's access-log service, for the gRPC listener (port 4317).
    pub fn grpc_routes(&self) -> tonic::service::Routes {
        let als = AccessLogServiceServer::new(AlsReceiver::new(self.intake.clone()))
            .max_decoding_message_size(self.intake.limits.max_body_bytes)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        grpc::with_answers(self.otlp.grpc_routes().add_service(als), self.intake.clone())
    }

    /// `POST /v1/traces`, `/v1/logs` and `/v1/metrics` (port 4318).
    pub fn otlp_http_router(&self) -> Router {
        otlp::router(self.otlp.clone())
    }

    /// `POST /api/v2/spans` (port 9411).
    pub fn zipkin_router(&self) -> Router {
        zipkin::router(self.intake.clone())
    }

    /// `POST /api/v1/write` (port 9090, beside Prometheus' query API).
    pub fn remote_write_router(&self) -> Router {
        remote_write::router(self.remote_write.clone())
    }

    /// Puts another configuration in force: jobs that are in it as before go on undisturbed.
    pub fn reconfigure(&self, scrape: ScrapeConfig) {
        self.otlp.reconfigure(scrape.otlp.clone());
        self.scrape.send_replace(scrape);
    }

    /// Scrapes the configured targets until `shutdown`.
    pub async fn run_scraper(&self, shutdown: CancellationToken) {
        scrape::run(self.scrape.subscribe(), self.intake.clone(), self.statuses.clone(), shutdown).await;
    }

    /// What is scraped, as it was configured.
    pub fn scrape_config(&self) -> ScrapeConfig {
        self.scrape.borrow().clone()
    }

    /// The targets that are scraped now.
    pub fn targets(&self) -> Vec<TargetStatus> {
        self.statuses.active()
    }

    /// What relabelling dropped, job by job.
    pub fn dropped_targets(&self) -> Vec<DroppedTargets> {
        self.statuses.dropped()
    }

    /// What the targets say of their metrics.
    pub fn target_metadata(&self) -> Vec<(TargetStatus, Arc<Vec<MetricMetadata>>)> {
        self.statuses.metadata()
    }

    /// What came in since the start, one entry for each protocol.
    pub fn counters(&self) -> Vec<Received> {
        self.intake.counters.snapshot()
    }
}

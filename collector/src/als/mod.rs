//! Envoy's Access Log Service: a proxy streams entries, and is answered only when it ends the stream.

mod entry;

use std::sync::Arc;

use pharos_proto::envoy::service::accesslog::v3::{
    StreamAccessLogsMessage, StreamAccessLogsResponse, access_log_service_server::AccessLogService,
};
use pharos_storage::Batch;
use tonic::{Request, Response, Status, Streaming};

use crate::{counters::Protocol, envoy::ProxyNode, fault::Fault, intake::Intake};

#[derive(Clone)]
pub(crate) struct AlsReceiver {
    intake: Arc<Intake>,
}

impl AlsReceiver {
    pub(crate) fn new(intake: Arc<Intake>) -> AlsReceiver {
        AlsReceiver { intake }
    }

    async fn take(&self, node: &ProxyNode, message: &StreamAccessLogsMessage) -> Result<(), Fault> {
        let logs = entry::access_logs(node, message);
        self.intake.counters.rejected(Protocol::Als, logs.rejected.items);
        if !logs.rejected.is_empty() {
            tracing::warn!(node = node.id, "access-log entries were left out: {}", logs.rejected.message());
        }
        let items = logs.rows.len();
        self.intake.append(Protocol::Als, Batch::AccessLogs(logs.rows), items).await.map(drop)
    }
}

#[tonic::async_trait]
impl AccessLogService for AlsReceiver {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<StreamAccessLogsMessage>>,
    ) -> Result<Response<StreamAccessLogsResponse>, Status> {
        let mut stream = request.into_inner();
        let mut node: Option<ProxyNode> = None;
        while let Some(message) = stream.message().await? {
            if let Some(identifier) = &message.identifier {
                node = Some(ProxyNode::new(&identifier.node.clone().unwrap_or_default()));
            }
            let Some(node) = &node else {
                return Err(Fault::Malformed("the stream's first message has no identifier".into()).into());
            };
            // The service has no word for 'later': not reading on makes the proxy wait. Envoy buffers, then drops and
            // counts what it dropped.
            loop {
                match self.take(node, &message).await {
                    Ok(()) => break,
                    Err(Fault::Later { retry_after, .. }) => tokio::time::sleep(retry_after).await,
                    Err(fault) => return Err(fault.into()),
                }
            }
        }
        Ok(Response::new(StreamAccessLogsResponse {}))
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use self::{entry::access_logs, tests::sample_message};

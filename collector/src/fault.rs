use std::time::Duration;

use pharos_proto::rpc;
use prost::Message;

/// Why a request was not taken. Each protocol renders it in its own form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The sender's data is wrong; sending it again cannot help.
    #[error("{0}")]
    Malformed(String),
    #[error("{0}")]
    UnsupportedMedia(String),
    #[error("{0}")]
    TooLarge(String),
    /// Come back later; nothing was kept.
    #[error("{message}")]
    Later { message: String, retry_after: Duration },
    #[error("{0}")]
    Internal(String),
}

impl Fault {
    pub(crate) fn http_status(&self) -> http::StatusCode {
        match self {
            Fault::Malformed(_) => http::StatusCode::BAD_REQUEST,
            Fault::UnsupportedMedia(_) => http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Fault::TooLarge(_) => http::StatusCode::PAYLOAD_TOO_LARGE,
            Fault::Later { .. } => http::StatusCode::SERVICE_UNAVAILABLE,
            Fault::Internal(_) => http::StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whole seconds for `Retry-After`, at least one.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        match self {
            Fault::Later { retry_after, .. } => {
                Some(retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)).map(|s| s.max(1))
            }
            _ => None,
        }
    }

    fn grpc_code(&self) -> tonic::Code {
        match self {
            Fault::Malformed(_) | Fault::UnsupportedMedia(_) => tonic::Code::InvalidArgument,
            // Without RetryInfo a client must not try again.
            Fault::TooLarge(_) => tonic::Code::ResourceExhausted,
            Fault::Later { .. } => tonic::Code::Unavailable,
            Fault::Internal(_) => tonic::Code::Internal,
        }
    }

    /// gRPC's error model, as OTLP wants it over HTTP and in gRPC's details.
    pub(crate) fn rpc_status(&self) -> rpc::Status {
        let detail =
            |type_url: &str, value: Vec<u8>| prost_types::Any { type_url: type_url.to_string(), value };
        let details = match self {
            Fault::Later { retry_after, .. } => {
                let retry_delay = prost_types::Duration::try_from(*retry_after).ok();
                vec![detail(rpc::RETRY_INFO_TYPE_URL, rpc::RetryInfo { retry_delay }.encode_to_vec())]
            }
            Fault::Malformed(message) => {
                let violation =
                    rpc::bad_request::FieldViolation { field: String::new(), description: message.clone() };
                let bad = rpc::BadRequest { field_violations: vec![violation] };
                vec![detail(rpc::BAD_REQUEST_TYPE_URL, bad.encode_to_vec())]
            }
            _ => Vec::new(),
        };
        rpc::Status { code: self.grpc_code() as i32, message: self.to_string(), details }
    }
}

impl From<Fault> for tonic::Status {
    fn from(fault: Fault) -> tonic::Status {
        let details = fault.rpc_status().encode_to_vec();
        tonic::Status::with_details(fault.grpc_code(), fault.to_string(), details.into())
    }
}

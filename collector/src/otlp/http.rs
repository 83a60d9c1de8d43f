use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    response::{IntoResponse, Response},
    routing::post,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pharos_proto::otlp::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
    trace::v1::ExportTraceServiceResponse,
};
use prost::Message;
use serde_json::json;

use super::{
    OtlpReceiver,
    json::{FromJson, decode},
};
use crate::{body, counters::Protocol, fault::Fault};

/// `POST /v1/traces`, `/v1/logs`, `/v1/metrics`.
pub(crate) fn router(receiver: OtlpReceiver) -> Router {
    Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/logs", post(logs))
        .route("/v1/metrics", post(metrics))
        // Our own limits apply, to the wire and to what is decompressed.
        .layer(DefaultBodyLimit::disable())
        .with_state(receiver)
}

async fn traces(State(receiver): State<OtlpReceiver>, headers: HeaderMap, body: Body) -> Response {
    export(&receiver, &headers, body, async |request| receiver.traces(Protocol::OtlpHttp, request).await)
        .await
}

async fn logs(State(receiver): State<OtlpReceiver>, headers: HeaderMap, body: Body) -> Response {
    export(&receiver, &headers, body, async |request| receiver.logs(Protocol::OtlpHttp, request).await).await
}

async fn metrics(State(receiver): State<OtlpReceiver>, headers: HeaderMap, body: Body) -> Response {
    export(&receiver, &headers, body, async |request| receiver.metrics(Protocol::OtlpHttp, request).await)
        .await
}

/// The request's encoding, which is the answer's too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Option<Encoding> {
        let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        match value.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "application/x-protobuf" => Some(Encoding::Protobuf),
            "application/json" => Some(Encoding::Json),
            _ => None,
        }
    }

    fn answer(self, status: StatusCode, body: Vec<u8>) -> Response {
        let content_type = match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        };
        (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
    }
}

/// A response message whose JSON form we write.
trait Answer: Message {
    fn json(&self) -> serde_json::Value;
}

macro_rules! answer {
    ($($type:ty, $field:ident, $key:literal;)*) => {$(
        impl Answer for $type {
            fn json(&self) -> serde_json::Value {
                match &self.partial_success {
                    None => json!({}),
                    Some(partial) => json!({"partialSuccess": {
                        $key: partial.$field.to_string(),
                        "errorMessage": partial.error_message,
                    }}),
                }
            }
        }
    )*};
}

answer! {
    ExportTraceServiceResponse, rejected_spans, "rejectedSpans";
    ExportLogsServiceResponse, rejected_log_records, "rejectedLogRecords";
    ExportMetricsServiceResponse, rejected_data_points, "rejectedDataPoints";
}

async fn export<Q: Message + FromJson, A: Answer>(
    receiver: &OtlpReceiver,
    headers: &HeaderMap,
    body: Body,
    take: impl AsyncFnOnce(Q) -> Result<A, Fault>,
) -> Response {
    let Some(encoding) = Encoding::of(headers) else {
        receiver.intake.counters.failed(Protocol::OtlpHttp);
        let fault =
            Fault::UnsupportedMedia("Content-Type must be application/x-protobuf or application/json".into());
        return refuse(Encoding::Json, &fault);
    };
    let taken = async {
        let intake = &receiver.intake;
        let payload = body::read(headers, body, &intake.limits, &intake.budget).await?;
        let request = match encoding {
            Encoding::Protobuf => Q::decode(payload.bytes.clone()).map_err(|error| {
                Fault::Malformed(format!("the body is not an OTLP request in protobuf: {error}"))
            }),
            Encoding::Json => decode(&payload.bytes),
        };
        take(request?).await
    };
    match taken.await {
        Ok(answer) => {
            let body = match encoding {
                Encoding::Protobuf => answer.encode_to_vec(),
                Encoding::Json => answer.json().to_string().into_bytes(),
            };
            encoding.answer(StatusCode::OK, body)
        }
        Err(fault) => {
            receiver.intake.counters.failed(Protocol::OtlpHttp);
            refuse(encoding, &fault)
        }
    }
}

/// Every error's body is a `google.rpc.Status` in the encoding of the request.
fn refuse(encoding: Encoding, fault: &Fault) -> Response {
    let status = fault.rpc_status();
    let body = match encoding {
        Encoding::Protobuf => status.encode_to_vec(),
        Encoding::Json => json!({"code": status.code, "message": status.message}).to_string().into_bytes(),
    };
    let mut response = encoding.answer(fault.http_status(), body);
    if let Some(seconds) = fault.retry_after_s() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

//! Bad input of every protocol gets the protocol's own error, which names the fault, and the server goes on.

use anyhow::{Context, Result, ensure};
use pharos_proto::envoy::service::accesslog::v3::{
    StreamAccessLogsMessage, access_log_service_client::AccessLogServiceClient,
};
use prost::Message;
use reqwest::{Client, StatusCode};

use crate::backend::{Pharos, get_json};

/// One bad request: where it goes, what it says, and what must come back.
struct Case {
    name: &'static str,
    listener: &'static str,
    path: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    status: StatusCode,
    /// Words of the answer that name the fault.
    says: &'static [&'static str],
}

fn cases() -> Vec<Case> {
    let bad = StatusCode::BAD_REQUEST;
    let protobuf = "application/x-protobuf";
    let json = "application/json";
    let form = "application/x-www-form-urlencoded";
    let case = |name, listener, path, content_type, body: &[u8], status, says| Case {
        name,
        listener,
        path,
        content_type,
        body: body.to_vec(),
        status,
        says,
    };
    vec![
        case("OTLP protobuf cut short", "otlp-http", "/v1/traces", protobuf, &[0x0a, 0x20, 0x01], bad, &[]),
        case("OTLP JSON that is none", "otlp-http", "/v1/traces", json, b"{\"resourceSpans\": [", bad, &["message"]),
        case(
            "OTLP JSON with an enum's name",
            "otlp-http",
            "/v1/traces",
            json,
            br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"a","kind":"SPAN_KIND_SERVER"}]}]}]}"#,
            bad,
            &["kind"],
        ),
        case("OTLP of no known type", "otlp-http", "/v1/logs", "text/plain", b"hi", StatusCode::UNSUPPORTED_MEDIA_TYPE, &[]),
        case("Zipkin that is no list", "zipkin", "/api/v2/spans", json, br#"{"traceId":"1"}"#, bad, &["list"]),
        case(
            "Zipkin span without an id",
            "zipkin",
            "/api/v2/spans",
            json,
            br#"[{"traceId":"463ac35c9f6413ad48485a3953bb6124"}]"#,
            bad,
            &["id"],
        ),
        case("remote write that is not snappy", "prometheus", "/api/v1/write", protobuf, b"plain", bad, &["snappy"]),
        case(
            "remote write that is not protobuf",
            "prometheus",
            "/api/v1/write",
            protobuf,
            &snap::raw::Encoder::new().compress_vec(&[0xff, 0xff]).expect("snappy"),
            bad,
            &["protobuf"],
        ),
        case("SQL with a typing error", "ui", "/api/v1/sql", json, br#"{"query": "selec 1"}"#, bad, &["selec"]),
        case("SQL that names no table", "ui", "/api/v1/sql", json, br#"{"query": "select * from nothing"}"#, bad, &["nothing"]),
        case("SQL that would write", "ui", "/api/v1/sql", json, br#"{"query": "create table a (b int)"}"#, bad, &[]),
        case("SQL request without a query", "ui", "/api/v1/sql", json, br#"{"q": "select 1"}"#, bad, &["query"]),
        case("PromQL with a typing error", "prometheus", "/api/v1/query", form, b"query=sum(up", bad, &["bad_data", "1:"]),
        case("PromQL of the wrong type", "prometheus", "/api/v1/query", form, b"query=rate(up)", bad, &["bad_data", "range vector"]),
        case("PromQL range without a step", "prometheus", "/api/v1/query_range", form, b"query=up&start=1&end=2", bad, &["step"]),
    ]
}

async fn check(pharos: &Pharos, case: Case) -> Result<()> {
    let response = Client::new()
        .post(pharos.url(case.listener, case.path))
        .header("content-type", case.content_type)
        .body(case.body)
        .send()
        .await?;
    let status = response.status();
    let text = String::from_utf8_lossy(&response.bytes().await?).into_owned();
    ensure!(status == case.status, "{}: {status}: {text}", case.name);
    ensure!(!text.trim().is_empty(), "{}: an empty answer", case.name);
    for word in case.says {
        ensure!(text.contains(word), "{}: {text:?} does not say {word:?}", case.name);
    }
    Ok(())
}

#[tokio::test]
async fn malformed_input_is_named_and_the_server_goes_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pharos = Pharos::serve(folder.path(), &[])?;
    for case in cases() {
        check(&pharos, case).await?;
    }
    als(&pharos).await?;
    for (listener, path) in [
        ("jaeger", "/api/traces?service=a&minDuration=5"),
        ("ui", "/api/namespaces/graph?namespaces=a&duration=x"),
    ] {
        let response = reqwest::get(pharos.url(listener, path)).await?;
        ensure!(response.status() == StatusCode::BAD_REQUEST, "{path}: {}", response.status());
    }
    let status = get_json(&pharos.url("ui", "/api/v1/status")).await?;
    ensure!(status["uptimeS"].is_number(), "{status}");
    Ok(())
}

/// Envoy's stream: no identifier in the first message, and bytes that are no message at all.
async fn als(pharos: &Pharos) -> Result<()> {
    let channel = tonic::transport::Endpoint::new(pharos.url("otlp-grpc", ""))?.connect().await?;
    let mut client = AccessLogServiceClient::new(channel);
    let stream = futures::stream::iter([StreamAccessLogsMessage::default()]);
    let status =
        client.stream_access_logs(stream).await.err().context("a stream without an identifier was taken")?;
    ensure!(
        status.code() == tonic::Code::InvalidArgument && status.message().contains("identifier"),
        "{status:?}"
    );

    let garbage = [[0u8, 0, 0, 0, 3].as_slice(), &[0xff; 3]].concat();
    let response = Client::builder()
        .http2_prior_knowledge()
        .build()?
        .post(pharos.url("otlp-grpc", "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(garbage)
        .send()
        .await?;
    let in_headers = response.headers().get("grpc-status").cloned();
    ensure!(response.status().is_success(), "{}", response.status());
    ensure!(in_headers.is_none_or(|code| code != "0"), "bytes that are no message were taken");
    // A good stream still passes.
    let good = StreamAccessLogsMessage::decode(&b"\x0a\x06\x12\x04test"[..])?;
    client.stream_access_logs(futures::stream::iter([good])).await?;
    Ok(())
}

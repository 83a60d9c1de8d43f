//! Requests whose every part is chosen by the test.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tokio::net::TcpStream;

pub(crate) type Body = BoxBody<Bytes, std::convert::Infallible>;

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let lines: Vec<_> =
            self.headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect();
        if lines.is_empty() { None } else { Some(lines.join(",")) }
    }

    /// The endpoint that answered.
    pub(crate) fn endpoint(&self) -> Option<String> {
        self.header("x-endpoint")
    }
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// A request for `authority`, to be sent to any address.
pub(crate) fn request(method: &str, authority: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut builder = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(path)
        .header("host", authority);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(full("")).unwrap()
}

pub(crate) fn get(authority: &str, path: &str) -> Request<Body> {
    request("GET", authority, path, &[])
}

/// Sends over HTTP/1 on a connection of its own.
pub(crate) async fn send(to: SocketAddr, request: Request<Body>) -> hyper::Result<Answer> {
    let stream = TcpStream::connect(to).await.expect("the proxy listens");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let answer = read(sender.send_request(request).await?).await;
    driver.abort();
    answer
}

/// Sends over HTTP/2 with prior knowledge on a connection of its own.
pub(crate) async fn send_h2(to: SocketAddr, mut request: Request<Body>) -> hyper::Result<Answer> {
    let authority = request.headers_mut().remove("host").unwrap();
    let path = request.uri().path_and_query().unwrap().as_str();
    *request.uri_mut() = format!("http://{}{path}", authority.to_str().unwrap()).parse().unwrap();
    *request.version_mut() = Version::HTTP_2;
    let stream = TcpStream::connect(to).await.expect("the proxy listens");
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let answer = read(sender.send_request(request).await?).await;
    driver.abort();
    answer
}

async fn read(response: Response<hyper::body::Incoming>) -> hyper::Result<Answer> {
    let (head, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: collected.to_bytes(), trailers })
}

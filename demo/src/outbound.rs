//! How a workload calls another service: by name, through its own sidecar.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::truth::{CALLER_HEADER, Truth, WORKLOAD_HEADER};

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// What came of a call. `code` 0: no answer (refused, reset, timed out, too long).
pub(crate) struct Called {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A call to make.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Name of the service that is meant, as the truth counts it.
    pub(crate) service: &'a str,
    /// What stands in `Host`; it is how the proxy knows where the request is to go.
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    /// The route that `path` is of.
    pub(crate) route: &'static str,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) timeout: Duration,
}

/// Makes calls through one proxy and counts them.
#[derive(Clone)]
pub(crate) struct Outbound {
    client: Client<HttpConnector, Full<Bytes>>,
    proxy: SocketAddr,
    caller: HeaderValue,
    truth: Truth,
}

impl Outbound {
    /// Calls go out from the address `from`, to `proxy`.
    pub(crate) fn new(from: IpAddr, proxy: SocketAddr, caller: &str, truth: Truth) -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_local_address(Some(from));
        connector.set_connect_timeout(Some(Duration::from_secs(2)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            // Every attempt is counted, so none may be made behind our back.
            .retry_canceled_requests(false)
            .build(connector);
        Ok(Self { client, proxy, caller: HeaderValue::from_str(caller)?, truth })
    }

    /// Sends the call and waits for the whole answer.
    pub(crate) async fn call(&self, call: Call<'_>) -> Called {
        let counted = self.truth.send(call.service, call.route);
        let timeout = call.timeout;
        match tokio::time::timeout(timeout, self.exchange(call)).await {
            Ok(Ok(called)) => {
                let workload = called.headers.get(WORKLOAD_HEADER).and_then(|name| name.to_str().ok());
                counted.finish(called.code, workload);
                called
            }
            // Both drop `counted`, which counts the call as unanswered.
            Ok(Err(_)) | Err(_) => Called { code: 0, headers: HeaderMap::new(), body: Bytes::new() },
        }
    }

    async fn exchange(&self, call: Call<'_>) -> anyhow::Result<Called> {
        let uri: Uri = format!("http://{}{}", self.proxy, call.path).parse()?;
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = call.headers;
        request.headers_mut().insert(HOST, HeaderValue::from_str(call.host)?);
        request.headers_mut().insert(CALLER_HEADER, self.caller.clone());
        let (head, body) = self.client.request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(anyhow::Error::from_boxed)?;
        Ok(Called { code: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
    }
}

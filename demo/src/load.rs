//! The load generator: an open-loop client of the ingress gateway.
//!
//! It starts requests on schedule whether or not earlier ones were answered, so a slow mesh gets the same load as
//! a fast one and its waiting shows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HeaderValue, SET_COOKIE, USER_AGENT};
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::http_server::{Answer, Asked, Responder, json, serve, text};
use crate::outbound::{Call, Outbound};
use crate::topology::LOAD_GENERATOR_NAME;
use crate::truth::Truth;
use crate::workload::{Admin, bind, productpage_template};

/// The highest rate that may be asked for.
pub const MAX_REQUESTS_PER_SECOND: f64 = 10_000.0;
/// Requests under way; at this many, further ones are skipped and counted as skipped.
const MAX_IN_FLIGHT: usize = 2_000;
const TIMEOUT: Duration = Duration::from_secs(15);
/// The user whose requests the demo's VirtualService routes by header.
const USER: &str = "jason";

/// Settings of the load generator's process; a YAML file in the run directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LoadSettings {
    /// The ingress gateway.
    pub gateway: SocketAddr,
    /// Where `/healthz`, `/truth` and `/rate` are; requests go out from the same address.
    pub admin: SocketAddr,
    /// 0 to [`MAX_REQUESTS_PER_SECOND`]; 0 pauses.
    pub requests_per_second: f64,
}

/// What a visitor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visit {
    /// Anybody asks for a path.
    Anonymous(&'static str),
    /// jason asks for a path, logged in.
    User(&'static str),
    LogIn,
    LogOut,
}

/// Visits with their shares, in thousandths. jason is rare, so that the split over the versions of reviews stays
/// close to the weights of the VirtualService, which do not apply to him.
const MIX: [(Visit, u32); 9] = [
    (Visit::Anonymous("/productpage"), 710),
    (Visit::User("/productpage"), 20),
    (Visit::Anonymous("/api/v1/products"), 60),
    (Visit::Anonymous("/api/v1/products/0"), 80),
    (Visit::Anonymous("/api/v1/products/0/reviews"), 50),
    (Visit::Anonymous("/api/v1/products/0/ratings"), 50),
    (Visit::Anonymous("/static/bookinfo.css"), 20),
    (Visit::LogIn, 5),
    (Visit::LogOut, 5),
];

const USER_AGENTS: [&str; 3] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
    "curl/8.9.1",
];

fn draw() -> Visit {
    let mut left = rand::rng().random_range(0..MIX.iter().map(|(_, share)| share).sum());
    for (visit, share) in MIX {
        if left < share {
            return visit;
        }
        left -= share;
    }
    Visit::Anonymous("/productpage")
}

/// The load generator with its admin socket bound.
pub(crate) struct BoundLoad {
    admin: TcpListener,
    rate: watch::Sender<f64>,
    truth: Truth,
    visitor: Visitor,
}

impl BoundLoad {
    /// # Errors
    /// When the admin address is taken or the rate is out of range.
    pub(crate) async fn bind(settings: LoadSettings) -> anyhow::Result<Self> {
        let rate = valid_rate(settings.requests_per_second).map_err(anyhow::Error::msg)?;
        let admin = bind(settings.admin).await?;
        let truth = Truth::new(LOAD_GENERATOR_NAME);
        let outbound =
            Outbound::new(settings.admin.ip(), settings.gateway, LOAD_GENERATOR_NAME, truth.clone())?;
        let host = settings.gateway.to_string().into();
        let visitor = Visitor { outbound, host, session: Arc::default() };
        Ok(Self { admin, rate: watch::Sender::new(rate), truth, visitor })
    }

    /// Sends until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let skipped = Arc::new(AtomicU64::new(0));
        let rate = self.rate.subscribe();
        let admin =
            LoadAdmin { rate: self.rate, skipped: Arc::clone(&skipped), admin: Admin { truth: self.truth } };
        let listening = tokio::spawn(serve(self.admin, Arc::new(admin), stop.clone()));
        send(&self.visitor, rate, &skipped, stop).await;
        let _ = listening.await;
    }
}

async fn send(
    visitor: &Visitor,
    mut rate: watch::Receiver<f64>,
    skipped: &AtomicU64,
    stop: CancellationToken,
) {
    let in_flight = Arc::new(());
    loop {
        let now = *rate.borrow_and_update();
        let mut ticks = (now > 0.0).then(|| interval(Duration::from_secs_f64(1.0 / now)));
        if let Some(ticks) = &mut ticks {
            // A tick that came late is made up for: the rate holds over time.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        }
        loop {
            let tick = async {
                match &mut ticks {
                    Some(ticks) => drop(ticks.tick().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = rate.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = tick => {
                    if Arc::strong_count(&in_flight) > MAX_IN_FLIGHT {
                        skipped.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let (visitor, held) = (visitor.clone(), Arc::clone(&in_flight));
                    tokio::spawn(async move {
                        visitor.make(draw()).await;
                        drop(held);
                    });
                }
            }
        }
    }
}

/// Makes visits; jason's session is shared by all of his.
#[derive(Clone)]
struct Visitor {
    outbound: Outbound,
    host: Arc<str>,
    session: Arc<Mutex<Option<HeaderValue>>>,
}

impl Visitor {
    async fn make(&self, visit: Visit) {
        match visit {
            Visit::Anonymous(path) => drop(self.get(path, None).await),
            Visit::User(path) => {
                let session = self.session.lock().clone();
                match session {
                    Some(session) => drop(self.get(path, Some(session)).await),
                    None => self.log_in().await,
                }
            }
            Visit::LogIn => self.log_in().await,
            Visit::LogOut => {
                let session = self.session.lock().take();
                drop(self.get("/logout", session).await);
            }
        }
    }

    async fn log_in(&self) {
        let mut headers = self.headers(None);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let body = Bytes::from(format!("username={USER}&passwd=anything"));
        let called = self.call(Method::POST, "/login", headers, body).await;
        // Only the pair itself goes back to the server, not its attributes.
        let cookie = called
            .headers
            .get(SET_COOKIE)
            .and_then(|cookie| cookie.to_str().ok())
            .and_then(|cookie| cookie.split(';').next())
            .and_then(|pair| HeaderValue::from_str(pair).ok());
        if cookie.is_some() {
            *self.session.lock() = cookie;
        }
    }

    async fn get(&self, path: &'static str, session: Option<HeaderValue>) -> crate::outbound::Called {
        self.call(Method::GET, path, self.headers(session), Bytes::new()).await
    }

    async fn call(
        &self,
        method: Method,
        path: &'static str,
        headers: HeaderMap,
        body: Bytes,
    ) -> crate::outbound::Called {
        let route = productpage_template(path);
        let call = Call {
            method,
            service: "productpage",
            host: &self.host,
            path,
            route,
            headers,
            body,
            timeout: TIMEOUT,
        };
        self.outbound.call(call).await
    }

    fn headers(&self, session: Option<HeaderValue>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let agent = USER_AGENTS.get(rand::rng().random_range(0..USER_AGENTS.len())).unwrap_or(&"curl/8.9.1");
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if let Some(session) = session {
            headers.insert(COOKIE, session);
        }
        headers
    }
}

pub(crate) fn valid_rate(rate: f64) -> Result<f64, String> {
    if (0.0..=MAX_REQUESTS_PER_SECOND).contains(&rate) && (rate == 0.0 || rate >= 0.001) {
        return Ok(rate);
    }
    Err(format!("{rate} requests a second: give 0 (pause), or 0.001 to {MAX_REQUESTS_PER_SECOND}"))
}

/// The workloads' `/healthz` and `/truth`, and `/rate`: `GET` tells the rate, `PUT` with a number sets it.
struct LoadAdmin {
    rate: watch::Sender<f64>,
    skipped: Arc<AtomicU64>,
    admin: Admin,
}

impl Responder for LoadAdmin {
    async fn answer(&self, asked: Asked) -> Answer {
        if asked.path() != "/rate" {
            return self.admin.answer(asked).await;
        }
        if asked.method == Method::PUT {
            let rate = std::str::from_utf8(&asked.body)
                .map_err(|_| "the body is not text".to_owned())
                .and_then(|text| text.trim().parse().map_err(|_| format!("{text:?} is not a number")))
                .and_then(valid_rate);
            match rate {
                Ok(rate) => drop(self.rate.send_replace(rate)),
                Err(fault) => return json(StatusCode::BAD_REQUEST, &json!({ "error": fault })),
            }
        } else if asked.method != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "/rate takes GET and PUT");
        }
        let rate = *self.rate.borrow();
        let skipped = self.skipped.load(Ordering::Relaxed);
        json(StatusCode::OK, &json!({ "requestsPerSecond": rate, "skipped": skipped }))
    }
}

#[cfg(test)]
mod tests;

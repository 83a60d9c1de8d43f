//! One Bookinfo workload: its application, its admin port, its truth.

mod details;
mod page;
mod productpage;
mod ratings;
mod reviews;
mod route;

pub(crate) use route::productpage_template;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::header::HeaderValue;
use http::{HeaderName, Method, StatusCode};
use rand::Rng;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::forwarded_headers::forwarded;
use crate::http_server::{Answer, Asked, Responder, json, serve, text};
use crate::outbound::{Call, Called, Outbound};
use crate::topology::{Application, port};
use crate::truth::{CALLER_HEADER, Truth, WORKLOAD_HEADER};
use route::Route;

/// Settings of one workload process; a YAML file in the run directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkloadSettings {
    /// Deployment name, `reviews-v2`.
    pub name: String,
    pub application: Application,
    pub version: String,
    pub pod: String,
    /// Where the application listens.
    pub listen: SocketAddr,
    /// Where `/healthz` and `/truth` are.
    pub admin: SocketAddr,
    /// The sidecar's outbound listener.
    pub outbound: SocketAddr,
    /// Median of the time that the application takes of its own; it varies about log-normally.
    pub median_service_time_us: u32,
}

/// A workload with its two sockets bound.
pub(crate) struct BoundWorkload {
    application: TcpListener,
    admin: TcpListener,
    served: Arc<Served>,
}

impl BoundWorkload {
    /// # Errors
    /// When an address is taken, naming it.
    pub(crate) async fn bind(settings: WorkloadSettings) -> anyhow::Result<Self> {
        let application = bind(settings.listen).await?;
        let admin = bind(settings.admin).await?;
        let truth = Truth::new(&settings.name);
        let outbound = Outbound::new(settings.listen.ip(), settings.outbound, &settings.name, truth.clone())?;
        let name = HeaderValue::from_str(&settings.name)?;
        let ratings = ratings::Store::default();
        let served = Arc::new(Served { settings, name, truth, outbound, ratings });
        Ok(Self { application, admin, served })
    }

    /// Serves both until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let admin = Arc::new(Admin { truth: self.served.truth.clone() });
        tokio::join!(serve(self.application, self.served, stop.clone()), serve(self.admin, admin, stop),);
    }
}

pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// What the applications share.
struct Served {
    settings: WorkloadSettings,
    name: HeaderValue,
    truth: Truth,
    outbound: Outbound,
    ratings: ratings::Store,
}

impl Responder for Served {
    async fn answer(&self, asked: Asked) -> Answer {
        let route = Route::of(self.settings.application, asked.path());
        let end_user = match self.settings.application {
            Application::Productpage => productpage::user(&asked),
            _ => asked.header("end-user").map(str::to_owned),
        };
        let received = self.truth.receive(asked.header(CALLER_HEADER), route.template(), end_user.as_deref());
        let mut answer = self.answer_route(route, &asked, end_user.as_deref()).await;
        answer.headers_mut().insert(HeaderName::from_static(WORKLOAD_HEADER), self.name.clone());
        received.finish(answer.status().as_u16(), None);
        answer
    }
}

impl Served {
    async fn answer_route(&self, route: Route<'_>, asked: &Asked, end_user: Option<&str>) -> Answer {
        if !matches!(route, Route::Health | Route::Static(_) | Route::Unknown) {
            self.serve_time().await;
        }
        match route {
            Route::Health => json(
                StatusCode::OK,
                &serde_json::json!({ "status": format!("{} is healthy", self.settings.application.service()) }),
            ),
            Route::Details(id) => details::answer(id, asked),
            Route::Reviews(id) => reviews::answer(self, id, asked).await,
            Route::Ratings(id) => self.ratings.answer(id, asked),
            Route::Unknown => text(StatusCode::NOT_FOUND, "no such page"),
            page => productpage::answer(self, page, asked, end_user).await,
        }
    }

    /// Stands for the store that the application reads: without it every percentile would be the loopback's.
    async fn serve_time(&self) {
        let median = f64::from(self.settings.median_service_time_us);
        if median > 0.0 {
            tokio::time::sleep(Duration::from_micros(log_normal(median, 0.5) as u64)).await;
        }
    }

    /// Asks another service on behalf of `asked`, with Bookinfo's headers taken along.
    async fn ask(&self, asked: &Asked, end_user: Option<&str>, question: Question<'_>) -> Called {
        let mut headers = forwarded(&asked.headers);
        if let Some(user) = end_user.and_then(|user| HeaderValue::from_str(user).ok()) {
            headers.insert("end-user", user);
        }
        let host = format!("{}:{}", question.service.service(), port::APPLICATION);
        let call = Call {
            method: Method::GET,
            service: question.service.service(),
            host: &host,
            path: question.path,
            route: Route::of(question.service, question.path).template(),
            headers,
            body: bytes::Bytes::new(),
            timeout: question.timeout,
        };
        self.outbound.call(call).await
    }
}

struct Question<'a> {
    service: Application,
    path: &'a str,
    timeout: Duration,
}

/// A draw from the log-normal distribution with this median; `sigma` is that of the logarithm. Never more than
/// twenty medians.
fn log_normal(median: f64, sigma: f64) -> f64 {
    let mut random = rand::rng();
    // Box-Muller; 1 - u is in (0, 1], so the logarithm is finite.
    let (u, v): (f64, f64) = (random.random(), random.random());
    let normal = (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos();
    median * (sigma * normal).exp().min(20.0)
}

/// The answer to an id that is no number, in Bookinfo's form.
fn not_a_number() -> Answer {
    json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": "please provide a numeric product id" }))
}

fn method_not_allowed() -> Answer {
    text(StatusCode::METHOD_NOT_ALLOWED, "this page does not take that method")
}

/// `/healthz` and `/truth`.
pub(crate) struct Admin {
    pub(crate) truth: Truth,
}

impl Responder for Admin {
    async fn answer(&self, asked: Asked) -> Answer {
        match asked.path() {
            "/healthz" => text(StatusCode::OK, "ok"),
            "/truth" => json(StatusCode::OK, &self.truth.report()),
            _ => text(StatusCode::NOT_FOUND, "there is /healthz and /truth"),
        }
    }
}

#[cfg(test)]
mod tests;

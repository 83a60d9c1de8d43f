//! Real workloads on real sockets; in the place of their sidecars stands a switchboard that passes a request on to
//! the service named in `Host` and remembers it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use http::{HeaderMap, Method};
use parking_lot::Mutex;

use super::*;
use crate::forwarded_headers::FORWARDED;
use crate::truth::{Counted, Received, Sent, TruthReport};

#[derive(Default)]
struct Switchboard {
    services: OnceLock<BTreeMap<&'static str, SocketAddr>>,
    /// Every request that was passed on: host, path, headers.
    passed: Mutex<Vec<(String, String, HeaderMap)>>,
    /// Services in whose place the switchboard answers 500, as a fault filter does.
    broken: Mutex<Vec<&'static str>>,
}

impl Responder for Switchboard {
    async fn answer(&self, asked: Asked) -> Answer {
        let host = asked.header("host").unwrap_or_default().to_owned();
        self.passed.lock().push((host.clone(), asked.path().to_owned(), asked.headers.clone()));
        let service = host.strip_suffix(":9080").unwrap_or(&host);
        if self.broken.lock().contains(&service) {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "fault filter abort");
        }
        let Some(address) = self.services.get().and_then(|services| services.get(service)) else {
            return text(StatusCode::BAD_GATEWAY, "no such service");
        };
        let mut headers = asked.headers;
        headers.remove("host");
        let (status, headers, body) =
            exchange(*address, asked.method, &asked.uri.to_string(), headers, "").await;
        let mut answer = Answer::new(http_body_util::Full::new(body));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        answer
    }
}

async fn exchange(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: HeaderMap,
    body: &'static str,
) -> (StatusCode, HeaderMap, bytes::Bytes) {
    use http_body_util::BodyExt;
    let client =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let mut request =
        http::Request::new(http_body_util::Full::new(bytes::Bytes::from_static(body.as_bytes())));
    *request.method_mut() = method;
    *request.uri_mut() = format!("http://{address}{path}").parse().unwrap();
    *request.headers_mut() = headers;
    let (head, body) = client.request(request).await.unwrap().into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

/// Bookinfo with reviews of one version.
struct Shop {
    switchboard: Arc<Switchboard>,
    applications: BTreeMap<&'static str, SocketAddr>,
    admins: BTreeMap<&'static str, SocketAddr>,
    _stop: tokio_util::sync::DropGuard,
}

impl Shop {
    async fn open(reviews_version: &str) -> Self {
        let stop = CancellationToken::new();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let switchboard = Arc::new(Switchboard::default());
        let listener = bind(any).await.unwrap();
        let outbound = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::clone(&switchboard), stop.clone()));
        let (mut applications, mut admins) = (BTreeMap::new(), BTreeMap::new());
        for application in
            [Application::Productpage, Application::Details, Application::Reviews, Application::Ratings]
        {
            let version = if application == Application::Reviews { reviews_version } else { "v1" };
            let bound = BoundWorkload::bind(WorkloadSettings {
                name: format!("{}-{version}", application.service()),
                application,
                version: version.to_owned(),
                pod: format!("{}-{version}-pod", application.service()),
                listen: any,
                admin: any,
                outbound,
                median_service_time_us: 0,
            })
            .await
            .unwrap();
            applications.insert(application.service(), bound.application.local_addr().unwrap());
            admins.insert(application.service(), bound.admin.local_addr().unwrap());
            tokio::spawn(bound.run(stop.clone()));
        }
        switchboard.services.set(applications.clone()).unwrap();
        Self { switchboard, applications, admins, _stop: stop.drop_guard() }
    }

    async fn get(
        &self,
        service: &str,
        path: &str,
        headers: &[(&'static str, &'static str)],
    ) -> (StatusCode, String) {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let (status, _, body) = exchange(self.applications[service], Method::GET, path, headers, "").await;
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn truth(&self, service: &str) -> TruthReport {
        let (status, _, body) =
            exchange(self.admins[service], Method::GET, "/truth", HeaderMap::new(), "").await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice(&body).unwrap()
    }
}

fn json_of(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn the_api_answers_as_bookinfo_does() {
    let shop = Shop::open("v2").await;
    let check = async |service: &str, path: &str, status: u16, field: &str, expected: serde_json::Value| {
        let (got, body) = shop.get(service, path, &[]).await;
        assert_eq!(got.as_u16(), status, "{service}{path}: {body}");
        assert_eq!(json_of(&body).pointer(field), Some(&expected), "{service}{path} {field}: {body}");
    };
    check("details", "/details/0", 200, "/author", "William Shakespeare".into()).await;
    check("details", "/details/7", 200, "/id", 7.into()).await;
    check("details", "/details/x", 400, "/error", "please provide a numeric product id".into()).await;
    check("ratings", "/ratings/0", 200, "/ratings/Reviewer1", 5.into()).await;
    check("ratings", "/health", 200, "/status", "ratings is healthy".into()).await;
    check("reviews", "/reviews/0", 200, "/reviews/0/rating/stars", 5.into()).await;
    check("reviews", "/reviews/0", 200, "/reviews/1/rating/color", "black".into()).await;
    check("reviews", "/reviews/0", 200, "/podname", "reviews-v2-pod".into()).await;
    check("productpage", "/api/v1/products", 200, "/0/title", "The Comedy of Errors".into()).await;
    check("productpage", "/api/v1/products/0", 200, "/ISBN-10", "1234567890".into()).await;
    check("productpage", "/api/v1/products/0/reviews", 200, "/reviews/1/rating/stars", 4.into()).await;
    check("productpage", "/api/v1/products/0/ratings", 200, "/ratings/Reviewer2", 4.into()).await;
    check("productpage", "/api/v1/products/x", 400, "/error", "please provide a numeric product id".into())
        .await;
    assert_eq!(shop.get("details", "/reviews/0", &[]).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_page_holds_details_and_reviews_and_says_what_is_missing() {
    let shop = Shop::open("v3").await;
    let (status, page) = shop.get("productpage", "/productpage", &[]).await;
    assert_eq!(status, StatusCode::OK);
    for part in
        ["The Comedy of Errors", "1234567890", "Reviewer1", "stars red", "★★★★☆", "reviews-v3-pod", "Sign in"]
    {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
    *shop.switchboard.broken.lock() = vec!["ratings", "details"];
    let (status, page) = shop.get("productpage", "/productpage", &[]).await;
    assert_eq!(status, StatusCode::OK);
    for part in ["product details are currently unavailable", "Ratings service is currently unavailable"] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
    let (status, body) = shop.get("productpage", "/api/v1/products/0", &[]).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("currently unavailable"), "{body}");
}

#[tokio::test]
async fn v1_shows_no_stars_and_asks_nobody() {
    let shop = Shop::open("v1").await;
    let (_, body) = shop.get("reviews", "/reviews/0", &[]).await;
    assert_eq!(json_of(&body).pointer("/reviews/0/rating"), None);
    assert!(shop.switchboard.passed.lock().is_empty());
}

#[tokio::test]
async fn every_hop_forwards_the_headers_of_the_list_and_no_other() {
    let shop = Shop::open("v2").await;
    let mut headers: Vec<(&'static str, &'static str)> =
        FORWARDED.iter().filter(|name| **name != "cookie").map(|name| (*name, "value-of-it")).collect();
    headers.extend([("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"), ("x-private", "no")]);
    headers.push(("cookie", "theme=dark"));
    shop.get("productpage", "/productpage", &headers).await;

    let passed = shop.switchboard.passed.lock();
    let hops: Vec<(&str, &str)> =
        passed.iter().map(|(host, path, _)| (host.as_str(), path.as_str())).collect();
    assert_eq!(
        hops,
        [("details:9080", "/details/0"), ("reviews:9080", "/reviews/0"), ("ratings:9080", "/ratings/0")]
    );
    for (host, _, got) in passed.iter() {
        for name in FORWARDED {
            let expected = if name == "cookie" { "theme=dark" } else { "value-of-it" };
            assert_eq!(
                got.get(name).and_then(|value| value.to_str().ok()),
                Some(expected),
                "{name} to {host}"
            );
        }
        for name in ["b3", "x-private"] {
            assert_eq!(got.get(name), None, "{name} to {host}");
        }
    }
}

#[tokio::test]
async fn a_login_becomes_the_end_user_of_every_hop() {
    let shop = Shop::open("v2").await;
    let productpage = shop.applications["productpage"];
    let (status, headers, _) =
        exchange(productpage, Method::POST, "/login", HeaderMap::new(), "username=jason&passwd=x").await;
    assert_eq!((status, headers["location"].to_str().unwrap()), (StatusCode::FOUND, "/productpage"));
    assert!(headers["set-cookie"].to_str().unwrap().starts_with("session=jason;"));

    let (_, page) = shop.get("productpage", "/productpage", &[("cookie", "a=b; session=jason")]).await;
    assert!(page.contains("Sign out"), "{page}");
    for (host, _, headers) in shop.switchboard.passed.lock().iter() {
        assert_eq!(headers["end-user"], "jason", "to {host}");
    }
    let (status, headers, _) = exchange(productpage, Method::GET, "/logout", HeaderMap::new(), "").await;
    assert_eq!(status, StatusCode::FOUND);
    assert!(headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn a_user_name_that_could_forge_a_header_or_markup_is_refused() {
    let shop = Shop::open("v1").await;
    for body in ["username=%0d%0aset-cookie:x", "username=<b>", "username=", "", "name=jason"] {
        let (status, headers, _) =
            exchange(shop.applications["productpage"], Method::POST, "/login", HeaderMap::new(), body).await;
        assert_eq!((status, headers.get("set-cookie")), (StatusCode::BAD_REQUEST, None), "{body}");
    }
    let (_, page) = shop.get("productpage", "/productpage", &[("cookie", "session=<script>")]).await;
    assert!(!page.contains("<script>") && page.contains("Sign in"), "{page}");
}

#[tokio::test]
async fn ratings_can_be_set_and_wrong_ones_are_named() {
    let shop = Shop::open("v2").await;
    let post = async |body| {
        let (status, _, answer) =
            exchange(shop.applications["ratings"], Method::POST, "/ratings/3", HeaderMap::new(), body).await;
        (status.as_u16(), String::from_utf8(answer.to_vec()).unwrap())
    };
    assert_eq!(post(r#"{"Reviewer1": 2}"#).await.0, 200);
    for (body, fault) in [(r#"{"Reviewer1": 9}"#, "1 to 5"), ("stars", "JSON"), ("", "JSON")] {
        let (status, answer) = post(body).await;
        assert!(status == 400 && answer.contains(fault), "{body}: {status} {answer}");
    }
    let (_, body) = shop.get("ratings", "/ratings/3", &[]).await;
    assert_eq!(json_of(&body).pointer("/ratings/Reviewer1"), Some(&2.into()));
}

#[tokio::test]
async fn both_ends_of_a_call_count_it_alike() {
    let shop = Shop::open("v2").await;
    for _ in 0..3 {
        shop.get("productpage", "/productpage", &[("x-demo-caller", "loadgenerator")]).await;
    }
    shop.switchboard.broken.lock().push("ratings");
    shop.get("productpage", "/productpage", &[("cookie", "session=jason")]).await;

    let received = |from: &str, path: &str, end_user: Option<&str>, code, count| Counted {
        key: Received {
            from: from.to_owned(),
            path: path.to_owned(),
            end_user: end_user.map(str::to_owned),
            code,
        },
        count,
    };
    let sent = |to: &str, workload: Option<&str>, path: &str, code, count| Counted {
        key: Sent { to: to.to_owned(), workload: workload.map(str::to_owned), path: path.to_owned(), code },
        count,
    };
    let productpage = shop.truth("productpage").await;
    assert_eq!(
        productpage.received,
        [
            received("loadgenerator", "/productpage", None, 200, 3),
            received("unknown", "/productpage", Some("jason"), 200, 1),
        ]
    );
    assert_eq!(
        productpage.sent,
        [
            sent("details", Some("details-v1"), "/details/{id}", 200, 4),
            sent("reviews", Some("reviews-v2"), "/reviews/{id}", 200, 4),
        ]
    );
    let reviews = shop.truth("reviews").await;
    assert_eq!(
        reviews.received,
        [
            received("productpage-v1", "/reviews/{id}", None, 200, 3),
            received("productpage-v1", "/reviews/{id}", Some("jason"), 200, 1),
        ]
    );
    assert_eq!(
        reviews.sent,
        [
            sent("ratings", None, "/ratings/{id}", 500, 1),
            sent("ratings", Some("ratings-v1"), "/ratings/{id}", 200, 3),
        ]
    );
    let ratings = shop.truth("ratings").await;
    assert_eq!(ratings.received, [received("reviews-v2", "/ratings/{id}", None, 200, 3)]);
    assert_eq!((ratings.sent.len(), ratings.in_flight), (0, 0));
}

#[tokio::test]
async fn a_sidecar_that_is_gone_counts_as_unanswered() {
    let stop = CancellationToken::new();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let gone = {
        let listener = bind(any).await.unwrap();
        listener.local_addr().unwrap()
    };
    let bound = BoundWorkload::bind(WorkloadSettings {
        name: "productpage-v1".to_owned(),
        application: Application::Productpage,
        version: "v1".to_owned(),
        pod: "pod".to_owned(),
        listen: any,
        admin: any,
        outbound: gone,
        median_service_time_us: 0,
    })
    .await
    .unwrap();
    let (address, truth) = (bound.application.local_addr().unwrap(), bound.served.truth.clone());
    tokio::spawn(bound.run(stop.clone()));
    let (status, _, _) =
        exchange(address, Method::GET, "/api/v1/products/0/ratings", HeaderMap::new(), "").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let sent = truth.report().sent;
    assert_eq!((sent[0].key.code, sent[0].count, sent[0].key.workload.as_deref()), (0, 1, None));
    stop.cancel();
}

#[test]
fn service_times_lie_around_their_median() {
    let mut draws: Vec<f64> = (0..4_001).map(|_| log_normal(1_000.0, 0.5)).collect();
    draws.sort_by(f64::total_cmp);
    assert!((900.0..1_110.0).contains(&draws[2_000]), "median {}", draws[2_000]);
    assert!(draws[0] > 0.0 && draws[4_000] <= 20_000.0);
}

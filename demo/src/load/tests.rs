use std::collections::BTreeMap;

use super::*;
use crate::truth::TruthReport;

/// Stands for the gateway: logs visitors in as productpage does, counts paths and cookies.
#[derive(Default)]
struct Shop(Mutex<BTreeMap<(String, Option<String>), u64>>);

impl Responder for Shop {
    async fn answer(&self, asked: Asked) -> Answer {
        let key = (asked.path().to_owned(), asked.header("cookie").map(str::to_owned));
        *self.0.lock().entry(key).or_default() += 1;
        let mut answer = text(StatusCode::OK, "welcome");
        if asked.path() == "/login" {
            let cookie = HeaderValue::from_static("session=jason; Path=/; HttpOnly");
            answer.headers_mut().insert(SET_COOKIE, cookie);
        }
        answer
    }
}

async fn shop(stop: &CancellationToken) -> (Arc<Shop>, SocketAddr) {
    let shop = Arc::new(Shop::default());
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::clone(&shop), stop.clone()));
    (shop, address)
}

#[tokio::test]
async fn sends_at_the_rate_until_told_otherwise_and_counts_every_request() {
    let stop = CancellationToken::new();
    let (shop, gateway) = shop(&stop).await;
    let settings =
        LoadSettings { gateway, admin: "127.0.0.1:0".parse().unwrap(), requests_per_second: 2_000.0 };
    let load = BoundLoad::bind(settings).await.unwrap();
    let (rate, truth) = (load.rate.clone(), load.truth.clone());
    let running = tokio::spawn(load.run(stop.clone()));
    let sum = |report: &TruthReport| report.sent.iter().map(|counted| counted.count).sum::<u64>();
    // Long enough that jason has come back with his cookie.
    let jasons = || shop.0.lock().keys().any(|(_, cookie)| cookie.is_some());
    while sum(&truth.report()) < 300 || !jasons() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rate.send_replace(0.0);
    while truth.report().in_flight > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let report = truth.report();
    assert!(report.sent.iter().all(|counted| counted.key.code == 200 && counted.key.to == "productpage"));
    assert_eq!(sum(&report), shop.0.lock().values().sum::<u64>());
    for ((path, cookie), _) in shop.0.lock().iter() {
        assert!(cookie.is_none() || cookie.as_deref() == Some("session=jason"), "{path} {cookie:?}");
    }
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn the_rate_is_set_over_http_and_nonsense_is_refused() {
    let skipped = Arc::new(AtomicU64::new(3));
    let admin =
        LoadAdmin { rate: watch::Sender::new(20.0), skipped, admin: Admin { truth: Truth::new("load") } };
    let put = async |body: &'static str| {
        let asked = Asked {
            method: Method::PUT,
            uri: "/rate".parse().unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        };
        admin.answer(asked).await.status().as_u16()
    };
    assert_eq!(put("150.5\n").await, 200);
    for nonsense in ["", "fast", "-1", "NaN", "inf", "1e9"] {
        assert_eq!(put(nonsense).await, 400, "{nonsense:?}");
    }
    assert_eq!(*admin.rate.borrow(), 150.5);
    assert_eq!(put("0").await, 200);
}

#[test]
fn the_mix_draws_every_visit() {
    assert_eq!(MIX.iter().map(|(_, share)| share).sum::<u32>(), 1_000);
    let drawn: Vec<Visit> = (0..20_000).map(|_| draw()).collect();
    for (visit, share) in MIX {
        let count = drawn.iter().filter(|drawn| **drawn == visit).count() as f64;
        let expected = 20.0 * f64::from(share);
        assert!((count - expected).abs() < 6.0 * expected.sqrt() + 1.0, "{visit:?}: {count} for {expected}");
    }
}

//! Files that change while the proxy runs.

use crate::http_client::{get, send};
use crate::world::{Backend, Behaviour, PATIENCE, outbound, virtual_service};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

async fn status_becomes(at: SocketAddr, wanted: u16) {
    let start = Instant::now();
    while send(at, get("reviews:9080", "/")).await.unwrap().status != wanted {
        assert!(start.elapsed() < PATIENCE, "the status did not become {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn stat(admin: SocketAddr, name: &str) -> String {
    let answer = send(admin, get("localhost", "/stats/prometheus")).await.unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
}

#[tokio::test]
async fn an_edit_takes_effect_and_a_bad_one_changes_nothing() {
    let reviews = Backend::start("reviews-v1", Behaviour::default()).await;
    let (world, proxy, at) = outbound(&[&reviews], "").await;
    assert_eq!(send(at, get("reviews:9080", "/")).await.unwrap().status, 200);
    world.write_istio(&virtual_service("reviews", "[{ directResponse: { status: 418 } }]"));
    status_becomes(at, 418).await;
    world.write_istio(&virtual_service("reviews", "[{ directResponse: { status: 419 }, tiemout: 3s }]"));
    let start = Instant::now();
    while stat(proxy.addresses().admin, "pharos_proxy_config_rejected_total").await == "0" {
        assert!(start.elapsed() < PATIENCE, "the bad edit was not noticed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(send(at, get("reviews:9080", "/")).await.unwrap().status, 418);
    world.write_istio("");
    status_becomes(at, 200).await;
    assert_eq!(reviews.connections(), 1, "connections outlive the change");
}

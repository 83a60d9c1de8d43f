//! Alerts over sockets: Alertmanagers that an HTTP server tells of, tokens, TLS.

use std::{
    io::{Read, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    AlertingConfig, Alertmanagers,
    discovery::name_server::{A, NAME_SERVER, RData, RecordType, Zone, name_server},
    wire_tests::{JSON, Peer, certificates},
};

fn managers(alertmanager: &Value, base: &Path) -> Alertmanagers {
    let config = AlertingConfig::parse(&json!({ "alertmanagers": [alertmanager] }).to_string(), base);
    let managers = Alertmanagers::default();
    managers.apply(&config.expect("good"));
    managers
}

async fn until_active(managers: &Alertmanagers, url: &str) {
    until_all_active(managers, &[url]).await;
}

async fn until_all_active(managers: &Alertmanagers, urls: &[&str]) {
    let found = async {
        while managers.active().iter().map(|one| one.url().to_owned()).collect::<Vec<_>>() != urls {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.unwrap_or_else(|_| panic!("{urls:?}"));
}

#[tokio::test]
async fn an_http_server_tells_of_alertmanagers_that_ask_for_a_token() {
    let (teller, first, second) = (Peer::default(), Peer::default(), Peer::default());
    let told_by = teller.start().await;
    let (first_at, second_at) = (first.start().await, second.start().await);
    let list = |address: &str| json!([{ "targets": [address], "labels": { "folder": "am" } }]);
    teller.says("/sd", 200, JSON, &list(&first_at).to_string());
    let token = r#"{"access_token": "t1", "token_type": "bearer", "expires_in": 3600}"#;
    teller.says("/token", 200, JSON, token);
    first.says("/am", 200, JSON, "");
    second.says("/am", 400, JSON, "no room");
    let alertmanager = json!({
        "oauth2": { "client_id": "c", "client_secret": "s", "token_url": format!("http://{told_by}/token") },
        "relabel_configs": [
            { "source_labels": ["folder"], "target_label": "__alerts_path__", "replacement": "/$1" },
        ],
        "http_sd_configs": [
            { "url": format!("http://{told_by}/sd"), "refresh_interval": "50ms", "bearer_token": "b" },
        ],
    });
    let managers = managers(&alertmanager, Path::new(""));
    until_active(&managers, &format!("http://{first_at}/am")).await;
    for alerts in ["[1]", "[2]"] {
        assert_eq!(managers.active()[0].push(alerts.into()).await, Ok(()));
    }
    assert_eq!(first.bodies("/am"), ["[1]", "[2]"]);
    assert_eq!(first.headers("/am", "authorization"), ["Bearer t1", "Bearer t1"]);
    assert_eq!(first.headers("/am", "content-type"), ["application/json"; 2]);
    // One token for both, and another one for the list.
    assert_eq!(teller.bodies("/token").len(), 1);
    assert_eq!(teller.headers("/sd", "authorization").first().map(String::as_str), Some("Bearer b"));

    // Another list, another Alertmanager; a list that is none changes nothing.
    teller.says("/sd", 200, JSON, &list(&second_at).to_string());
    until_active(&managers, &format!("http://{second_at}/am")).await;
    let refused = managers.active()[0].push(b"[3]".to_vec()).await.expect_err("refused");
    assert_eq!(refused, "bad response status 400 Bad Request: no room");
    teller.says("/sd", 500, JSON, "");
    let asked = teller.bodies("/sd").len();
    while teller.bodies("/sd").len() < asked + 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(managers.active()[0].url(), format!("http://{second_at}/am"));
    managers.apply(&AlertingConfig::default());
}

/// Alerts go where a name server says, and stay there while it fails.
#[tokio::test]
async fn a_name_server_tells_of_alertmanagers() {
    let (alertmanager, zone) = (Peer::default(), Zone::default());
    let address = alertmanager.start().await;
    alertmanager.says("/am/api/v2/alerts", 200, JSON, "");
    let (_, port) = address.split_once(':').expect("a port");
    let at = |last: u8| Some(vec![RData::A(A::new(127, 0, 0, last))]);
    let says = |name: &'static str, records: Option<Vec<RData>>| {
        zone.lock().insert((name, RecordType::A), records);
    };
    says("alerts.test.", at(1));
    NAME_SERVER.set(name_server(zone.clone()).await).expect("the only test with one");
    let port: u16 = port.parse().expect("a port");
    let config = json!({
        "path_prefix": "/am",
        "dns_sd_configs": [
            { "names": ["alerts.test", "more.test"], "type": "A", "port": port, "refresh_interval": "20ms" },
        ],
    });
    let managers = managers(&config, Path::new(""));
    let url = |last: u8| format!("http://127.0.0.{last}:{port}/am/api/v2/alerts");
    until_active(&managers, &url(1)).await;
    assert_eq!(managers.active()[0].push(b"[1]".to_vec()).await, Ok(()));
    assert_eq!(alertmanager.bodies("/am/api/v2/alerts"), ["[1]"]);

    says("alerts.test.", at(2));
    until_active(&managers, &url(2)).await;
    // A name whose server fails keeps what it had while another one changes; a name that is gone has nothing.
    says("alerts.test.", None);
    says("more.test.", at(3));
    until_all_active(&managers, &[&url(2), &url(3)]).await;
    zone.lock().clear();
    until_all_active(&managers, &[]).await;
    managers.apply(&AlertingConfig::default());
}

/// An Alertmanager over TLS that asks for a certificate of its clients.
struct TlsAlertmanager {
    process: Child,
    port: u16,
    /// What it was sent, decrypted.
    requests: Receiver<String>,
}

impl Drop for TlsAlertmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl TlsAlertmanager {
    fn start(folder: &Path) -> TlsAlertmanager {
        let mut process = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "server.pem", "-key", "server.key"])
            .args(["-CAfile", "ca.pem", "-Verify", "1", "-verify_return_error"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let (mut said, mut answers) =
            (process.stdout.take().expect("an output"), process.stdin.take().expect("an input"));
        let (accepts, port) = channel();
        let (send, requests) = channel();
        std::thread::spawn(move || {
            let (mut text, mut bytes) = (String::new(), [0; 4096]);
            while let Ok(count @ 1..) = said.read(&mut bytes) {
                text.push_str(&String::from_utf8_lossy(&bytes[..count]));
                if let Some((_, rest)) = text.split_once("ACCEPT 127.0.0.1:")
                    && let Some((port, rest)) = rest.split_once('\n')
                {
                    let _ = accepts.send(port.parse().expect("a port"));
                    text = rest.to_owned();
                }
                if text.contains("\r\n\r\n[]") {
                    let _ = send.send(std::mem::take(&mut text));
                    answer(&mut answers);
                }
            }
        });
        let port = port.recv().expect("the port");
        TlsAlertmanager { process, port, requests }
    }
}

fn answer(out: &mut ChildStdin) {
    out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").expect("taken");
    out.flush().expect("taken");
}

#[tokio::test]
async fn alerts_go_over_tls_with_a_certificate_of_the_client() {
    let folder = tempfile::tempdir().expect("a folder");
    if !certificates(folder.path()) {
        return;
    }
    let server = TlsAlertmanager::start(folder.path());
    let address = format!("127.0.0.1:{}", server.port);
    let push = async |tls: Value| {
        let alertmanager = json!({
            "scheme": "https", "timeout": "60s", "tls_config": tls, "static_configs": [{ "targets": [address] }],
        });
        managers(&alertmanager, folder.path()).active()[0].push(b"[]".to_vec()).await
    };
    let client = json!({ "ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.key" });
    assert_eq!(push(client).await, Ok(()));
    let request = server.requests.recv().expect("a request");
    assert!(request.contains("POST /api/v2/alerts HTTP/1.1\r\n"), "{request}");
    for (tls, words) in [
        (
            json!({ "ca_file": "stranger.pem", "cert_file": "client.pem", "key_file": "client.key" }),
            "certificate",
        ),
        (json!({ "ca_file": "ca.pem" }), ""),
        (json!({ "ca_file": "absent.pem" }), "absent.pem"),
    ] {
        let fault = push(tls.clone()).await.expect_err("no way in");
        assert!(fault.contains(words), "{tls}: {fault}");
    }
    assert!(server.requests.try_recv().is_err(), "nothing came in by those");
}

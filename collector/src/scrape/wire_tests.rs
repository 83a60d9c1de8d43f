//! Scraping and discovery over sockets: TLS, proxies, credentials, and configurations that change meanwhile.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use http::header;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{ScrapeConfig, tests::until};
use crate::{CollectorConfig, bench::Bench};

/// A server that keeps what it was asked, and answers by path.
#[derive(Clone, Default)]
pub(super) struct Peer(Arc<Mutex<PeerState>>);

#[derive(Default)]
struct PeerState {
    /// Status, content type, body.
    answers: BTreeMap<String, (u16, &'static str, String)>,
    /// Path, headers, body.
    requests: Vec<(String, HeaderMap, String)>,
}

pub(super) const TEXT: &str = "text/plain; version=0.0.4";
pub(super) const JSON: &str = "application/json";

impl Peer {
    pub(super) async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        address
    }

    pub(super) fn says(&self, path: &str, status: u16, content_type: &'static str, body: &str) {
        self.0.lock().answers.insert(path.into(), (status, content_type, body.into()));
    }

    /// The header of each request for `path`, empty where it had none.
    pub(super) fn headers(&self, path: &str, name: &str) -> Vec<String> {
        let state = self.0.lock();
        let of_path = state.requests.iter().filter(|(asked, ..)| asked == path);
        of_path
            .map(|(_, headers, _)| headers.get(name).map_or("", |value| value.to_str().unwrap()).into())
            .collect()
    }

    pub(super) fn bodies(&self, path: &str) -> Vec<String> {
        let state = self.0.lock();
        state.requests.iter().filter(|(asked, ..)| asked == path).map(|(.., body)| body.clone()).collect()
    }
}

async fn answer(State(peer): State<Peer>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut state = peer.0.lock();
    state.requests.push((uri.path().into(), headers, String::from_utf8_lossy(&body).into_owned()));
    match state.answers.get(uri.path()) {
        Some((status, content_type, body)) => {
            (StatusCode::from_u16(*status).unwrap(), [(header::CONTENT_TYPE, *content_type)], body.clone())
                .into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A collector that scrapes every 200 ms.
struct Scraping {
    bench: Bench,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

fn parse(jobs: &str, base: &Path) -> Result<ScrapeConfig, super::ScrapeConfigError> {
    let global = "global: {scrape_interval: 200ms, scrape_timeout: 200ms}";
    ScrapeConfig::parse(&format!("{global}\nscrape_configs: [{jobs}]"), base)
}

impl Scraping {
    async fn start(jobs: &str, base: &Path) -> Scraping {
        let scrape = parse(jobs, base).unwrap();
        let bench = Bench::with(CollectorConfig { scrape, ..CollectorConfig::default() }).await;
        let shutdown = CancellationToken::new();
        let running = tokio::spawn({
            let (collector, shutdown) = (bench.collector.clone(), shutdown.clone());
            async move { collector.run_scraper(shutdown).await }
        });
        Scraping { bench, shutdown, running }
    }

    /// Waits for a sample whose line begins so and contains that.
    async fn sample(&mut self, start: &str, part: &str) -> String {
        let [(sample, _)] = self.samples([(start, part)]).await;
        sample
    }

    /// Waits for a sample of each kind, in whatever order they come; with each, all lines that were stored with it.
    async fn samples<const N: usize>(&mut self, wanted: [(&str, &str); N]) -> [(String, Vec<String>); N] {
        let mut found: [Option<(String, Vec<String>)>; N] = [const { None }; N];
        while found.iter().any(Option::is_none) {
            let lines = until(&mut self.bench, "", |lines| !lines.is_empty()).await.lines();
            for ((start, part), found) in wanted.iter().zip(&mut found) {
                let fits = |line: &&String| line.starts_with(start) && line.contains(part);
                if let (None, Some(sample)) = (&found, lines.iter().find(fits)) {
                    *found = Some((sample.clone(), lines.clone()));
                }
            }
        }
        found.map(Option::unwrap)
    }

    /// Why the only target's last scrape failed.
    fn error(&self) -> String {
        let targets = self.bench.collector.targets();
        targets[0].last_scrape.as_ref().and_then(|last| last.error.clone()).unwrap_or_default()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
    }
}

#[tokio::test]
async fn credentials_and_headers_are_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("secret", "from-file\n");
    for (yaml, name, expected) in [
        ("basic_auth: {username: u, password: p}", "authorization", "Basic dTpw"),
        ("basic_auth: {username: u, password_file: secret}", "authorization", "Basic dTpmcm9tLWZpbGU="),
        ("authorization: {credentials: abc}", "authorization", "Bearer abc"),
        ("authorization: {type: Token, credentials_file: secret}", "authorization", "Token from-file"),
        ("bearer_token_file: secret", "authorization", "Bearer from-file"),
        ("http_headers: {X-Tenant: {values: [t1]}}", "x-tenant", "t1"),
        ("http_headers: {X-Tenant: {files: [secret]}}", "x-tenant", "from-file"),
        ("scrape_timeout: 150ms", "x-prometheus-scrape-timeout-seconds", "0.15"),
        ("enable_compression: false", "accept-encoding", "identity"),
    ] {
        let peer = Peer::default();
        peer.says("/metrics", 200, TEXT, "a 1\n");
        let jobs =
            format!("{{job_name: j, {yaml}, static_configs: [{{targets: ['{}']}}]}}", peer.start().await);
        let mut scraping = Scraping::start(&jobs, folder.path()).await;
        scraping.sample("a{", " 1 @").await;
        assert_eq!(peer.headers("/metrics", name)[0], expected, "{yaml}");
        if yaml.contains("_file") {
            // A file of a secret is read again.
            file("secret", "changed");
            let old = peer.headers("/metrics", name).len();
            while peer.headers("/metrics", name).len() < old + 2 {
                scraping.sample("a{", " 1 @").await;
            }
            let last = peer.headers("/metrics", name).pop().unwrap();
            assert!(last.contains("changed") || last == "Basic dTpjaGFuZ2Vk", "{yaml}: {last}");
            file("secret", "from-file\n");
        }
        scraping.stop().await;
    }
}

#[tokio::test]
async fn tokens_of_oauth2_are_kept_until_they_expire() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "s e:cret").unwrap();
    let peer = Peer::default();
    let address = peer.start().await;
    peer.says("/metrics", 200, TEXT, "a 1\n");
    peer.says("/token", 200, JSON, r#"{"access_token": "t1", "token_type": "bearer", "expires_in": 3600}"#);
    let jobs = |client: &str| {
        format!(
            "{{job_name: j, static_configs: [{{targets: ['{address}']}}], oauth2: {{client_id: {client}, client_secret_file: secret, token_url: 'http://{address}/token', scopes: [read, 'all'], endpoint_params: {{audience: pharos}}}}}}"
        )
    };
    let mut scraping = Scraping::start(&jobs("c"), folder.path()).await;
    while peer.headers("/metrics", "authorization").len() < 3 {
        scraping.sample("a{", " 1 @").await;
    }
    assert_eq!(peer.headers("/metrics", "authorization")[..3], ["Bearer t1", "Bearer t1", "Bearer t1"]);
    // Asked for again only by a scrape that was over before it had its first token.
    let asked = peer.bodies("/token");
    assert!(asked.iter().all(|form| form == "grant_type=client_credentials&scope=read+all&audience=pharos"));
    scraping.sample("a{", " 1 @").await;
    assert_eq!(peer.bodies("/token").len(), asked.len());
    // `c:s+e%3Acret`
    assert!(peer.headers("/token", "authorization").iter().all(|sent| sent == "Basic YzpzK2UlM0FjcmV0"));

    // Another secret, and a token that is as good as expired, ask anew.
    peer.says("/token", 200, JSON, r#"{"access_token": "t2", "expires_in": 5}"#);
    std::fs::write(folder.path().join("secret"), "other").unwrap();
    while peer.headers("/metrics", "authorization").last().is_some_and(|sent| sent != "Bearer t2") {
        scraping.sample("a{", " 1 @").await;
    }
    let asked = peer.bodies("/token").len();
    while peer.bodies("/token").len() < asked + 2 {
        scraping.sample("a{", " 1 @").await;
    }

    // A server that takes the secret in the form alone, and one that refuses it.
    peer.says("/token", 401, JSON, "{}");
    until_error(&mut scraping, "/token: server returned HTTP status 401").await;
    let forms = peer.bodies("/token");
    assert!(forms.iter().any(|form| form.ends_with("&client_id=c&client_secret=other")), "{forms:?}");
    peer.says("/token", 200, JSON, "not a token");
    until_error(&mut scraping, "is no token").await;
    scraping.stop().await;

    for (yaml, words) in [
        ("oauth2: {token_url: 'http://x'}", "client_id"),
        ("oauth2: {client_id: a}", "token_url"),
        ("oauth2: {client_id: a, token_url: 'no url'}", "no url"),
        (
            "oauth2: {client_id: a, token_url: 'http://x', client_secret: b, client_secret_file: c}",
            "at most one",
        ),
        ("oauth2: {client_id: a, token_url: 'http://x'}, basic_auth: {}", "at most one"),
        ("oauth2: {client_id: a, token_url: 'http://x', grant: b}", "grant"),
    ] {
        let error = parse(&format!("{{job_name: j, {yaml}}}"), Path::new(".")).unwrap_err().to_string();
        assert!(error.contains(words), "{yaml}: {error}");
    }
}

async fn until_error(scraping: &mut Scraping, words: &str) {
    let wait = async {
        while !scraping.error().contains(words) {
            scraping.sample("up{", " @").await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the fault that was waited for");
}

#[tokio::test]
async fn targets_from_an_http_server() {
    let (peer, target) = (Peer::default(), Peer::default());
    target.says("/metrics", 200, TEXT, "a 1\n");
    let (url, target_address) = (format!("http://{}/sd", peer.start().await), target.start().await);
    let list =
        |zone: &str| format!(r#"[{{"targets": ["{target_address}"], "labels": {{"zone": "{zone}"}}}}]"#);
    peer.says("/sd", 200, JSON, &list("z1"));
    let jobs = format!(
        "{{job_name: j, http_sd_configs: [{{url: '{url}', refresh_interval: 100ms, bearer_token: t}}], relabel_configs: [{{source_labels: [__meta_url], target_label: url}}]}}"
    );
    let mut scraping = Scraping::start(&jobs, Path::new(".")).await;
    let line = scraping.sample("a{", " 1 @").await;
    assert!(line.contains("zone=\"z1\"") && line.contains(&format!("url=\"{url}\"")), "{line}");
    for (name, expected) in
        [("authorization", "Bearer t"), ("accept", JSON), ("x-prometheus-refresh-interval-seconds", "0.1")]
    {
        assert_eq!(peer.headers("/sd", name)[0], expected);
    }
    // What fails changes nothing.
    for (status, content_type, body) in
        [(500, JSON, "[]"), (200, TEXT, "[]"), (200, JSON, "{"), (200, JSON, "[{\"target\": []}]")]
    {
        peer.says("/sd", status, content_type, body);
        let asked = peer.bodies("/sd").len();
        while peer.bodies("/sd").len() < asked + 2 {
            scraping.sample("a{", "zone=\"z1\"").await;
        }
        assert_eq!(scraping.bench.collector.targets().len(), 1, "{status} {content_type} {body}");
    }
    peer.says("/sd", 200, JSON, &list("z2"));
    scraping.sample("a{", "zone=\"z2\"").await;
    peer.says("/sd", 200, JSON, "[]");
    scraping.sample("up{", "zone=\"z2\"} stale @").await;
    assert!(scraping.bench.collector.targets().is_empty());
    scraping.stop().await;
}

#[tokio::test]
async fn a_changed_configuration_is_applied() {
    let (peer, other) = (Peer::default(), Peer::default());
    let (address, other_address) = (peer.start().await, other.start().await);
    peer.says("/metrics", 200, TEXT, "a 1\nb 2\n");
    other.says("/metrics", 200, TEXT, "c 3\n");
    let job = |name: &str, target: &str, more: &str| {
        format!("{{job_name: {name}, static_configs: [{{targets: ['{target}']}}]{more}}}")
    };
    let stays = job("stays", &address, "");
    let first = format!("{stays}, {}", job("goes", &other_address, ""));
    let mut scraping = Scraping::start(&first, Path::new(".")).await;
    scraping.sample("c{", "job=\"goes\"").await;
    scraping.sample("a{", "job=\"stays\"").await;
    let last_scrapes = |scraping: &Scraping| {
        let targets = scraping.bench.collector.targets();
        let mut jobs: Vec<(String, bool)> =
            targets.into_iter().map(|target| (target.job, target.last_scrape.is_some())).collect();
        jobs.sort();
        jobs
    };

    // A job is gone, and its series end; another is new; a third goes on undisturbed.
    let second =
        format!("{stays}, {}", job("new", &address, ", scrape_interval: 100ms, scrape_timeout: 100ms"));
    scraping.bench.collector.reconfigure(parse(&second, Path::new(".")).unwrap());
    let [_, (ended, _)] = scraping.samples([("a{", "job=\"new\""), ("up{", " stale @")]).await;
    assert!(ended.contains("job=\"goes\""), "{ended}");
    let jobs = last_scrapes(&scraping);
    assert_eq!(jobs.iter().map(|(job, _)| job.as_str()).collect::<Vec<_>>(), ["new", "stays"]);
    assert!(jobs[1].1, "what stays keeps its last scrape");

    // A job that is otherwise: its targets go on under the new rules, without an end.
    let drop_b = ", metric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}, {target_label: rule, replacement: new}]";
    scraping.bench.collector.reconfigure(parse(&job("stays", &address, drop_b), Path::new(".")).unwrap());
    let [(_, scrape), (ended, _)] = scraping.samples([("a{", "rule=\"new\""), ("up{", " stale @")]).await;
    assert!(!scrape.iter().any(|line| line.starts_with("b{")), "{scrape:?}");
    assert!(ended.contains("job=\"new\""), "{ended}");
    assert_eq!(last_scrapes(&scraping).len(), 1);
    scraping.stop().await;
}

/// Lets requests through, and keeps the first line of each.
async fn proxy(seen: Arc<Mutex<Vec<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            tokio::spawn(pass_on(client, seen.clone()));
        }
    });
    address
}

async fn pass_on(mut client: TcpStream, seen: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let line = head.lines().next().unwrap().to_string();
    seen.lock().push(line.clone());
    let target = line.split(' ').nth(1).unwrap();
    let mut server = match line.starts_with("CONNECT ") {
        true => {
            let server = TcpStream::connect(target).await?;
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            server
        }
        false => {
            let rest = target.strip_prefix("http://").unwrap();
            let (host, _) = rest.split_once('/').unwrap();
            let mut server = TcpStream::connect(host).await?;
            server.write_all(head.replacen(&format!("http://{host}"), "", 1).as_bytes()).await?;
            server
        }
    };
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}

#[tokio::test]
async fn requests_go_through_a_proxy() {
    let peer = Peer::default();
    let address = peer.start().await;
    peer.says("/metrics", 200, TEXT, "a 1\n");
    let seen = Arc::default();
    let proxy = proxy(Arc::clone(&seen)).await;
    let target = format!("static_configs: [{{targets: ['{address}']}}]");
    let jobs = format!("{{job_name: j, proxy_url: 'http://{proxy}', {target}}}");
    let mut scraping = Scraping::start(&jobs, Path::new(".")).await;
    scraping.sample("a{", " 1 @").await;
    scraping.stop().await;
    let lines = std::mem::take(&mut *seen.lock());
    assert_eq!(lines.first(), Some(&format!("GET http://{address}/metrics HTTP/1.1")));

    let jobs = format!("{{job_name: j, proxy_url: 'http://{proxy}', no_proxy: '127.0.0.0/8', {target}}}");
    let mut scraping = Scraping::start(&jobs, Path::new(".")).await;
    scraping.sample("a{", " 1 @").await;
    scraping.stop().await;
    assert!(seen.lock().is_empty(), "{:?}", seen.lock());
}

/// A server of one file over TLS that asks for a certificate of its clients.
struct TlsServer {
    process: Child,
    port: u16,
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes those of a server and of its client in a folder, by an authority `ca`, beside that of a `stranger`. False where
/// there is no openssl.
pub(super) fn certificates(folder: &Path) -> bool {
    let openssl = |arguments: &str| {
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
        match made {
            Ok(made) => {
                assert!(made.status.success(), "{arguments}: {}", String::from_utf8_lossy(&made.stderr));
                true
            }
            Err(error) => {
                eprintln!("absent: openssl ({error})");
                false
            }
        }
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    for name in ["ca", "stranger"] {
        if !openssl(&format!("req -x509 {key} -keyout {name}.key -out {name}.pem -subj /CN={name}")) {
            return false;
        }
    }
    for (name, names) in [("server", "DNS:mesh.test,IP:127.0.0.1"), ("client", "DNS:client.test")] {
        let san = format!("-addext subjectAltName={names}");
        openssl(&format!(
            "req -x509 {key} -CA ca.pem -CAkey ca.key -keyout {name}.key -out {name}.pem -subj /CN={name} -addext basicConstraints=critical,CA:FALSE {san}"
        ));
    }
    true
}

impl TlsServer {
    /// `None` where there is no openssl.
    fn start(folder: &Path) -> Option<TlsServer> {
        if !certificates(folder) {
            return None;
        }
        std::fs::write(
            folder.join("metrics"),
            format!("HTTP/1.0 200 ok\r\nContent-type: {TEXT}\r\n\r\na 1\n"),
        )
        .unwrap();
        let mut process = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "server.pem", "-key", "server.key"])
            .args(["-CAfile", "ca.pem", "-Verify", "1", "-verify_return_error", "-HTTP"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect("a line with the port").unwrap();
            if let Some(address) = line.strip_prefix("ACCEPT ") {
                break address.rsplit(':').next().unwrap().parse().unwrap();
            }
        };
        // Read what else it says, or it waits for that.
        std::thread::spawn(move || lines.for_each(drop));
        Some(TlsServer { process, port })
    }
}

#[tokio::test]
async fn tls_with_a_private_authority_and_a_certificate_of_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = TlsServer::start(folder.path()) else { return };
    let seen = Arc::default();
    let proxy = proxy(Arc::clone(&seen)).await;
    let client = "cert_file: client.pem, key_file: client.key";
    let address = format!("127.0.0.1:{}", server.port);
    for (tls, more, expected) in [
        (format!("ca_file: ca.pem, {client}"), String::new(), Ok(())),
        (format!("ca_file: ca.pem, server_name: mesh.test, {client}"), String::new(), Ok(())),
        (format!("insecure_skip_verify: true, {client}"), String::new(), Ok(())),
        (format!("ca_file: ca.pem, {client}"), format!("proxy_url: 'http://{proxy}',"), Ok(())),
        (
            format!("ca_file: ca.pem, server_name: elsewhere.test, {client}"),
            String::new(),
            Err("not valid for name"),
        ),
        (format!("ca_file: stranger.pem, {client}"), String::new(), Err("certificate")),
        ("ca_file: ca.pem".into(), String::new(), Err("")),
        ("ca_file: ca.pem, cert_file: stranger.pem, key_file: stranger.key".into(), String::new(), Err("")),
        (format!("ca_file: absent.pem, {client}"), String::new(), Err("absent.pem")),
    ] {
        let jobs = format!(
            "{{job_name: j, scheme: https, scrape_interval: 2s, scrape_timeout: 2s, {more} tls_config: {{{tls}}}, static_configs: [{{targets: ['{address}']}}]}}"
        );
        let mut scraping = Scraping::start(&jobs, folder.path()).await;
        match expected {
            Ok(()) => {
                scraping.sample("a{", " 1 @").await;
            }
            Err(words) => {
                scraping.sample("up{", " 0 @").await;
                until_error(&mut scraping, words).await;
            }
        }
        scraping.stop().await;
    }
    assert_eq!(seen.lock().first(), Some(&format!("CONNECT {address} HTTP/1.1")));
}

//! Routing behaviour, case by case, from a suite that lives outside of the repository:
//! `CONFORMANCE_DIR`, default `../shared/conformance` beside the workspace.

use crate::http_client::{Answer, request, send};
use crate::receivers::{Inbox, LogRow, access_logs};
use crate::world::{Backend, Behaviour, PATIENCE, World};
use pharos_proxy::Proxy;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Cases that fail today, and why. A case that passes although it stands here fails the test.
const KNOWN_WRONG: &[(&str, &str)] = &[
    ("pool-overflow", "circuit breaking is not built yet"),
    ("outlier-consecutive-5xx-ejects", "outlier detection is not built yet"),
    ("outlier-all-ejected-no-panic", "outlier detection is not built yet"),
];

/// Cases under way at once: most of a case is waiting.
const PARALLEL: usize = 12;
const ATTEMPTS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routing_behaves_as_the_suite_says() {
    let dir = match std::env::var_os("CONFORMANCE_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance"),
    }
    .join("routing");
    if !dir.is_dir() {
        eprintln!("routing conformance: absent ({})", dir.display());
        return;
    }
    let environment = Arc::new(read(&dir.join("environment.yaml")));
    let mut cases = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "yaml")) {
        cases.extend(read(file)["cases"].as_array().cloned().unwrap_or_default());
    }
    assert!(cases.len() >= 160, "only {} cases in {}", cases.len(), dir.display());
    let only = std::env::var("CASE").ok();
    let slots = Arc::new(tokio::sync::Semaphore::new(PARALLEL));
    let mut running = tokio::task::JoinSet::new();
    for case in cases {
        let name = case["name"].as_str().unwrap().to_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let (environment, slots) = (environment.clone(), slots.clone());
        running.spawn(async move {
            let _slot = slots.acquire_owned().await.unwrap();
            let faults = verdict(&environment, &case).await;
            (name, (case, faults))
        });
    }
    let mut results = BTreeMap::new();
    for (name, (case, mut faults)) in running.join_all().await {
        // Cases with times and shares in them suffer from their neighbours and from chance: a failure has to show alone,
        // again and again.
        for _ in 0..ATTEMPTS {
            if !faults.is_empty() && !KNOWN_WRONG.iter().any(|(known, _)| *known == name) {
                faults = verdict(&environment, &case).await;
            }
        }
        results.insert(name, faults);
    }
    let known: HashMap<&str, &str> = KNOWN_WRONG.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, faults) in &results {
        match (known.get(name.as_str()), faults.is_empty()) {
            (None, true) | (Some(_), false) => {}
            (None, false) => wrong.push(format!("{name}: {}", faults.join("; "))),
            (Some(reason), true) => wrong.push(format!("{name}: passes, but is known as wrong ({reason})")),
        }
    }
    eprintln!("routing conformance: {} cases, {} known wrong", results.len(), KNOWN_WRONG.len());
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), results.len(), wrong.join("\n"));
}

async fn verdict(environment: &Arc<Value>, case: &Value) -> Vec<String> {
    let (environment, case) = (environment.clone(), case.clone());
    let verdict = tokio::spawn(async move { run(&environment, &case).await }).await;
    verdict.unwrap_or_else(|panic| vec![format!("the case broke off: {panic}")])
}

fn read(path: &std::path::Path) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn pairs(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn duration(value: &Value) -> Duration {
    let text = text(value);
    match text.strip_suffix("ms") {
        Some(ms) => Duration::from_millis(ms.parse().unwrap()),
        None => Duration::from_secs_f64(text.strip_suffix('s').unwrap().parse().unwrap()),
    }
}

/// A whole case: its world, its steps, its faults.
async fn run(environment: &Value, case: &Value) -> Vec<String> {
    let mut backends = Vec::new();
    for endpoint in list(&environment["services"]).iter().flat_map(|s| list(&s["endpoints"])) {
        let name = text(&endpoint["name"]);
        backends.push(Backend::start(name, behaviour(&case["backends"][name])).await);
    }
    let mut istio = String::new();
    for document in list(&case["config"]) {
        let mut written = document.to_string();
        for backend in &backends {
            let (ip, port) = (backend.address.ip(), backend.address.port());
            written = written.replace(&format!("\"${{port:{}}}\"", backend.name), &port.to_string());
            written = written.replace(&format!("${{endpoint:{}}}", backend.name), &ip.to_string());
        }
        istio.push_str(&format!("---\n{written}\n"));
    }
    let world = World::new(&registry(environment, &backends), &istio);
    let steps: Vec<&Value> = match case["steps"].as_array() {
        Some(steps) => steps.iter().collect(),
        None => vec![case],
    };
    let (logs_at, logs, _logs_task) = access_logs("127.0.0.1:0".parse().unwrap()).await;
    let ports: Vec<u16> = steps.iter().map(|step| port_of(step)).collect();
    let proxy = proxy(environment, case, &world, &ports, logs_at).await;
    let listeners =
        if case["via"] == "gateway" { &proxy.addresses().gateway } else { &proxy.addresses().outbound };
    let mut faults = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        if !step["wait"].is_null() {
            tokio::time::sleep(duration(&step["wait"])).await;
        }
        let run = Step { case, step, number, to: listeners[number], backends: &backends, logs: &logs };
        faults.extend(run.run().await);
    }
    proxy.stop().await;
    faults
}

fn port_of(step: &Value) -> u16 {
    step["request"]["port"].as_u64().map_or(9080, |port| port as u16)
}

fn behaviour(written: &Value) -> Behaviour {
    let mut behaviour = Behaviour::default();
    if let Some(statuses) = written["statuses"].as_array() {
        behaviour.statuses = statuses.iter().map(|s| s.as_u64().unwrap() as u16).collect();
    }
    if let Some(delays) = written["delays"].as_array() {
        behaviour.delays = delays.iter().map(duration).collect();
    }
    if written["delay"].is_string() {
        behaviour.delays = vec![duration(&written["delay"])];
    }
    behaviour.refuse = written["refuse"] == true;
    behaviour.accept_then_close = written["accept_then_close"] == true;
    let headers = pairs(&written["response_headers"]);
    behaviour.headers = headers.map(|(k, v)| (k.clone(), text(v).to_owned())).collect();
    behaviour
}

fn registry(environment: &Value, backends: &[Backend]) -> String {
    let address = |name: &str| backends.iter().find(|b| b.name == name).unwrap().address.to_string();
    let services: Vec<Value> = list(&environment["services"])
        .iter()
        .map(|service| {
            let endpoints: Vec<Value> = list(&service["endpoints"])
                .iter()
                .map(|endpoint| {
                    let name = text(&endpoint["name"]);
                    json!({ "address": address(name), "workload": name, "labels": endpoint["labels"] })
                })
                .collect();
            json!({
                "name": service["name"],
                "namespace": service["namespace"],
                "ports": service["ports"],
                "endpoints": endpoints,
            })
        })
        .collect();
    json!({ "services": services }).to_string()
}

/// One listener per step, in order.
async fn proxy(environment: &Value, case: &Value, world: &World, ports: &[u16], logs: SocketAddr) -> Proxy {
    let (node, key) = if case["via"] == "gateway" {
        (&environment["gateway"], "gateway")
    } else if case["client"].is_object() {
        (&case["client"], "outbound")
    } else {
        (&environment["default_client"], "outbound")
    };
    let listeners: Vec<Value> =
        ports.iter().map(|port| json!({ "listen": "127.0.0.1:0", "port": port })).collect();
    let settings = [
        ("node", json!({ "workload": "client", "namespace": node["namespace"], "labels": node["labels"] })),
        (key, Value::from(listeners)),
        ("telemetry", json!({ "accessLog": { "address": format!("http://{logs}") } })),
    ];
    let lines: Vec<String> = settings.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    world.proxy(&lines.join("\n")).await
}

/// One request as it went.
struct Sent {
    answer: Answer,
    log: LogRow,
    took: Duration,
}

struct Step<'a> {
    case: &'a Value,
    step: &'a Value,
    number: usize,
    to: SocketAddr,
    backends: &'a [Backend],
    logs: &'a Inbox<LogRow>,
}

impl Step<'_> {
    fn id(&self, index: usize) -> String {
        format!("{}-{}-{index}", text(&self.case["name"]), self.number)
    }

    async fn run(&self) -> Vec<String> {
        let repeat = self.step["repeat"].as_u64().unwrap_or(1) as usize;
        let concurrency = self.step["request"]["concurrency"].as_u64().unwrap_or(1) as usize;
        // Only the sending is in a row: waiting for each log row before the next request would take ages.
        let lane = Arc::new(tokio::sync::Semaphore::new(concurrency));
        let all = (0..repeat).map(|index| {
            let lane = lane.clone();
            async move {
                let permit = lane.acquire_owned().await.unwrap();
                self.send(index, permit).await
            }
        });
        let sent = futures::future::join_all(all).await;
        self.check(&sent).await
    }

    /// Gives its place back as soon as the answer is there.
    async fn send(&self, index: usize, permit: tokio::sync::OwnedSemaphorePermit) -> Sent {
        let wanted = &self.step["request"];
        let fill = |value: &Value| text(value).replace("${i}", &index.to_string());
        let id = self.id(index);
        let mut headers = vec![("x-request-id".to_owned(), id.clone())];
        headers.extend(pairs(&wanted["headers"]).map(|(name, value)| (name.to_lowercase(), fill(value))));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let outgoing =
            request(text(&wanted["method"]), &fill(&wanted["authority"]), &fill(&wanted["path"]), &headers);
        let start = Instant::now();
        let answer = send(self.to, outgoing).await.expect("the proxy answers");
        let took = start.elapsed();
        drop(permit);
        let rows = self.logs.wait_for(&id, |rows| rows.iter().any(|row| row.request_id() == id)).await;
        let log = rows.into_iter().find(|row| row.request_id() == id).unwrap();
        Sent { answer, log, took }
    }

    async fn check(&self, sent: &[Sent]) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, expected) in pairs(&self.step["expect"]) {
            if let Err(fault) = self.check_one(key, expected, sent).await {
                faults.push(format!("{key}: {fault}"));
            }
        }
        faults
    }

    fn tolerance(&self) -> f64 {
        self.step["expect"]["tolerance"].as_f64().unwrap_or(0.0)
    }

    /// Shares of a property over all requests against those expected.
    fn shares(&self, expected: &Value, of: impl Iterator<Item = String>) -> Result<(), String> {
        let mut counts = BTreeMap::<String, usize>::new();
        of.for_each(|value| *counts.entry(value).or_default() += 1);
        let total: usize = counts.values().sum();
        let share = |name: &str| counts.get(name).map_or(0.0, |count| *count as f64 / total as f64);
        let fits = pairs(expected)
            .all(|(name, wanted)| (share(name) - wanted.as_f64().unwrap()).abs() <= self.tolerance() + 1e-4);
        let strangers = counts.keys().any(|name| expected.get(name).is_none());
        if fits && !strangers { Ok(()) } else { Err(format!("got {counts:?}, want {expected}")) }
    }

    async fn check_one(&self, key: &str, expected: &Value, sent: &[Sent]) -> Result<(), String> {
        let want =
            |ok: bool, got: String| if ok { Ok(()) } else { Err(format!("got {got}, want {expected}")) };
        let each = |check: &dyn Fn(&Sent) -> (bool, String)| {
            sent.iter().map(check).find(|(ok, _)| !ok).map_or(Ok(()), |(_, got)| want(false, got))
        };
        let statuses: Vec<u64> = sent.iter().map(|s| u64::from(s.answer.status)).collect();
        let count = |code: &str| statuses.iter().filter(|s| s.to_string() == code).count() as u64;
        let all_seen = || self.backends.iter().flat_map(|b| b.seen());
        match key {
            "tolerance" => Ok(()),
            "status" => each(&|s| (json!(s.answer.status) == *expected, s.answer.status.to_string())),
            "statuses" => self.shares(expected, statuses.iter().map(u64::to_string)),
            "statuses_present" => want(
                list(expected).iter().all(|s| statuses.contains(&s.as_u64().unwrap())),
                format!("{statuses:?}"),
            ),
            "status_max_count" => want(
                pairs(expected).all(|(code, max)| count(code) <= max.as_u64().unwrap()),
                format!("{statuses:?}"),
            ),
            "min_count" => want(
                pairs(expected).all(|(code, min)| count(code) >= min.as_u64().unwrap()),
                format!("{statuses:?}"),
            ),
            "destinations" if pairs(expected).next().is_none() => {
                let reached = all_seen().count();
                want(reached == 0, format!("{reached} requests that reached an endpoint"))
            }
            "destinations" => self.shares(expected, sent.iter().filter_map(|s| s.answer.endpoint())),
            "distinct_destinations" => {
                let distinct: std::collections::BTreeSet<_> =
                    sent.iter().map(|s| s.answer.endpoint()).collect();
                want(json!(distinct.len()) == *expected, format!("{distinct:?}"))
            }
            "clusters" => self.shares(expected, sent.iter().map(|s| s.log.cluster().to_owned())),
            "upstream_cluster" => each(&|s| (s.log.cluster() == text(expected), s.log.cluster().to_owned())),
            "route_name" => each(&|s| (s.log.route_name() == text(expected), s.log.route_name().to_owned())),
            "response_code_details" => {
                each(&|s| (s.log.details() == text(expected), s.log.details().to_owned()))
            }
            "response_flags" => each(&|s| (s.log.flags() == text(expected), s.log.flags())),
            "response_flags_contains" => {
                each(&|s| (s.log.flags().split(',').any(|f| f == text(expected)), s.log.flags()))
            }
            "response_flags_any" => each(&|s| {
                (s.log.flags().split(',').any(|f| list(expected).contains(&json!(f))), s.log.flags())
            }),
            "duration_ms" => each(&|s| {
                let ms = s.took.as_millis() as u64;
                (within(expected, ms), format!("{ms} ms"))
            }),
            "attempts" => {
                let closed: usize =
                    self.backends.iter().filter(|b| b.closes_at_once()).map(Backend::connections).sum();
                let attempts = ((all_seen().count() + closed) / sent.len()) as u64;
                want(within(expected, attempts), attempts.to_string())
            }
            // A refused connection is seen by the one who is refused only.
            "connect_attempts" => {
                each(&|s| (within(expected, u64::from(s.log.attempts())), s.log.attempts().to_string()))
            }
            "upstream_connections" => {
                let connections: usize = self.backends.iter().map(Backend::connections).sum();
                want(within(expected, connections as u64), connections.to_string())
            }
            "upstream" => all_seen()
                .map(|seen| {
                    let mut faults = Vec::new();
                    for (key, wanted) in pairs(expected) {
                        match key.as_str() {
                            "path" if seen.path != text(wanted) => faults.push(format!("path {}", seen.path)),
                            "authority" if seen.authority != text(wanted) => {
                                faults.push(format!("authority {}", seen.authority));
                            }
                            "headers" => faults.extend(pairs(wanted).filter_map(|(name, value)| {
                                let got = seen.header(name).map(|v| v.replace(", ", ","));
                                (got.as_deref() != Some(text(value))).then(|| format!("{name} is {got:?}"))
                            })),
                            "headers_absent" => faults.extend(list(wanted).iter().filter_map(|name| {
                                seen.header(text(name)).map(|value| format!("{name} is {value:?}"))
                            })),
                            _ => {}
                        }
                    }
                    want(faults.is_empty(), faults.join(", "))
                })
                .find(Result::is_err)
                .unwrap_or_else(|| want(all_seen().next().is_some(), "no request upstream".to_owned())),
            "response" => sent
                .iter()
                .map(|s| {
                    let faults = response_faults(expected, &s.answer);
                    want(faults.is_empty(), faults.join(", "))
                })
                .find(Result::is_err)
                .unwrap_or(Ok(())),
            "redirect" => each(&|s| {
                let location = s.answer.header("location").unwrap_or_default();
                (location == text(&expected["location"]), location)
            }),
            "mirrors" => self.mirrors(expected, sent).await,
            "on_status" => sent
                .iter()
                .filter_map(|s| Some((s, expected.get(s.answer.status.to_string())?)))
                .map(|(s, wanted)| {
                    let mut faults = response_faults(wanted, &s.answer);
                    if wanted["response_flags"].is_string()
                        && s.log.flags() != text(&wanted["response_flags"])
                    {
                        faults.push(format!("flags {}", s.log.flags()));
                    }
                    want(faults.is_empty(), faults.join(", "))
                })
                .find(Result::is_err)
                .unwrap_or(Ok(())),
            other => Err(format!("the runner does not know `{other}`")),
        }
    }

    /// Copies: what endpoints saw beyond the requests that they answered.
    async fn mirrors(&self, expected: &Value, sent: &[Sent]) -> Result<(), String> {
        let answered =
            |name: &str| sent.iter().filter(|s| s.answer.endpoint().as_deref() == Some(name)).count();
        let share = || -> BTreeMap<String, f64> {
            let copies = self.backends.iter().map(|b| {
                (b.name.clone(), b.seen().len().saturating_sub(answered(&b.name)) as f64 / sent.len() as f64)
            });
            copies.filter(|(_, share)| *share > 0.0).collect()
        };
        let fits = |got: &BTreeMap<String, f64>| {
            pairs(expected).all(|(name, wanted)| {
                let share = got.get(name).copied().unwrap_or_default();
                (share - wanted.as_f64().unwrap()).abs() <= self.tolerance() + 1e-4
            }) && got.keys().all(|name| expected.get(name).is_some())
        };
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if fits(&share()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("got {:?}, want {expected}", share()))
    }
}

fn response_faults(expected: &Value, answer: &Answer) -> Vec<String> {
    let mut faults = Vec::new();
    for (key, wanted) in pairs(expected) {
        match key.as_str() {
            "body" if answer.body != text(wanted) => faults.push(format!("body {:?}", answer.body)),
            "headers" => faults.extend(pairs(wanted).filter_map(|(name, value)| {
                let got = answer.header(name).map(|v| v.replace(", ", ","));
                (got.as_deref() != Some(text(value))).then(|| format!("{name} is {got:?}"))
            })),
            "headers_absent" => faults.extend(
                list(wanted)
                    .iter()
                    .filter_map(|name| answer.header(text(name)).map(|value| format!("{name} is {value:?}"))),
            ),
            "set_cookie" => {
                let cookie = answer.header("set-cookie").unwrap_or_default();
                let parts: Vec<&str> = cookie.split(';').map(str::trim).collect();
                let named = parts[0].starts_with(&format!("{}=", text(&wanted["name"])));
                let path = parts.contains(&format!("Path={}", text(&wanted["path"])).as_str());
                let age = parts.contains(&format!("Max-Age={}", wanted["max_age"]).as_str());
                if !(named && path && age) {
                    faults.push(format!("cookie {cookie:?}"));
                }
            }
            _ => {}
        }
    }
    faults
}

/// A number, or `min` and `max`.
fn within(expected: &Value, got: u64) -> bool {
    match expected.as_u64() {
        Some(exact) => got == exact,
        None => {
            got >= expected["min"].as_u64().unwrap_or(0)
                && got <= expected["max"].as_u64().unwrap_or(u64::MAX)
        }
    }
}

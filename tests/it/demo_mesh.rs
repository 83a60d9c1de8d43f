//! The demo, held against the truth: each of its processes counts what it sent and got, and the graph, the access logs
//! and the counters must say the same.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::backend::{
    Pharos, eventually, get_json, processes_with, resident_anonymous_bytes, scraped_after, sql, sql_count,
    unix_s,
};

/// A network of its own, so that a demo that somebody is looking at goes on.
const NETWORK: &str = "127.0.77";
const LOAD_TIME: Duration = Duration::from_secs(60);
/// 40 a second, and 5 seconds between scrapes.
const REQUESTS_A_SCRAPE: i64 = 200;
/// Last octet of each process that counts.
const HOSTS: [u8; 7] = [2, 10, 20, 31, 32, 33, 40];
const LOAD: u8 = 2;

/// (who tells, source workload, destination, response code) → requests. The destination is a service as the client
/// asked for it, or a workload as the server knows itself.
type Counts = BTreeMap<(&'static str, String, String, String), i64>;

/// What the processes counted. The gateway counts nothing itself: what the load generator sent, it received, and what
/// productpage received, it sent.
async fn truth() -> Result<Counts> {
    let mut counts = Counts::new();
    let mut add = |key: (&'static str, String, String, String), entry: &Value| {
        *counts.entry(key).or_default() += entry["count"].as_i64().unwrap_or_default();
    };
    for host in HOSTS {
        let report = get_json(&format!("http://{NETWORK}.{host}:9081/truth")).await?;
        let workload = report["workload"].as_str().context("no workload")?.to_string();
        ensure!(report["inFlight"] == 0, "{workload} has requests in flight");
        for sent in report["sent"].as_array().context("nothing sent")? {
            let to = sent["to"].as_str().unwrap_or_default().to_string();
            let source = if host == LOAD { "istio-ingressgateway".into() } else { workload.clone() };
            let to = if host == LOAD { "productpage".into() } else { to };
            add(("source", source, to, sent["code"].to_string()), sent);
        }
        for received in report["received"].as_array().context("nothing received")? {
            let from = received["from"].as_str().unwrap_or_default();
            let from = if from == "loadgenerator" { "istio-ingressgateway" } else { from };
            add(("destination", from.into(), workload.clone(), received["code"].to_string()), received);
        }
    }
    Ok(counts)
}

/// The same, as the table of access logs has it.
async fn logged(pharos: &Pharos) -> Result<Counts> {
    let query = "select reporter, source_workload, \
                 case when reporter = 'source' then destination_service_name else destination_workload end, \
                 cast(response_code as varchar), count(*) from access_logs group by 1, 2, 3, 4";
    let mut counts = Counts::new();
    for row in sql(pharos, query).await? {
        let text = |column: usize| row[column].as_str().unwrap_or_default().to_string();
        let reporter = if text(0) == "source" { "source" } else { "destination" };
        counts.insert((reporter, text(1), text(2), text(3)), row[4].as_i64().context("no count")?);
    }
    Ok(counts)
}

/// The same, as the counters have it now.
async fn counted(pharos: &Pharos) -> Result<Counts> {
    let mut counts = Counts::new();
    for (reporter, destination) in
        [("source", "destination_service_name"), ("destination", "destination_workload")]
    {
        let query = format!(
            "sum by (source_workload, {destination}, response_code) (istio_requests_total{{reporter=\"{reporter}\"}})"
        );
        let url = pharos.url("prometheus", "/api/v1/query");
        let answer: Value =
            reqwest::Client::new().post(url).form(&[("query", query)]).send().await?.json().await?;
        for series in answer["data"]["result"].as_array().with_context(|| answer.to_string())? {
            let label = |name: &str| series["metric"][name].as_str().unwrap_or_default().to_string();
            let value: f64 = series["value"][1].as_str().unwrap_or_default().parse()?;
            counts.insert(
                (reporter, label("source_workload"), label(destination), label("response_code")),
                value as i64,
            );
        }
    }
    Ok(counts)
}

async fn set_rate(requests_per_second: u32) -> Result<()> {
    let url = format!("http://{NETWORK}.{LOAD}:9081/rate");
    let response = reqwest::Client::new().put(url).body(requests_per_second.to_string()).send().await?;
    ensure!(response.status().is_success(), "{}", response.text().await?);
    Ok(())
}

/// Stops the load and waits until the logs and the counters both have caught up with the truth.
async fn settle(pharos: &Pharos) -> Result<Counts> {
    set_rate(0).await?;
    eventually("access logs and counters that equal the truth", async || {
        let truth = truth().await?;
        for (name, seen) in [("access logs", logged(pharos).await?), ("counters", counted(pharos).await?)] {
            for key in truth.keys().chain(seen.keys()) {
                let [want, got] = [&truth, &seen].map(|counts| counts.get(key).copied().unwrap_or(0));
                ensure!(want == got, "{key:?}: {want} in truth, {got} in the {name}");
            }
        }
        Ok(truth)
    })
    .await
}

/// Requests per (reporter, source workload, destination workload) in the graph of `start_s` to `end_s`.
async fn drawn(pharos: &Pharos, start_s: u64, end_s: u64) -> Result<(Counts, Value)> {
    let seconds = end_s - start_s;
    let path = format!(
        "/api/v1/graph?namespaces=bookinfo,istio-system&graphType=workload&injectServiceNodes=false\
         &duration={seconds}s&queryTime={end_s}"
    );
    let graph = get_json(&pharos.url("ui", &path)).await?;
    let nodes: BTreeMap<&str, &str> = graph["elements"]["nodes"]
        .as_array()
        .context("no nodes")?
        .iter()
        .filter_map(|node| {
            Some((node["data"]["id"].as_str()?, node["data"]["workload"].as_str().unwrap_or("unknown")))
        })
        .collect();
    let mut counts = Counts::new();
    for edge in graph["elements"]["edges"].as_array().context("no edges")? {
        let end = |name: &str| {
            nodes.get(edge["data"][name].as_str().unwrap_or_default()).copied().unwrap_or("?").to_string()
        };
        for reporter in ["source", "destination"] {
            if let Some(requests) = edge["data"]["pharos"]["reporters"][reporter]["requests"].as_f64() {
                let key = (reporter, end("source"), end("target"), String::new());
                *counts.entry(key).or_default() += requests.round() as i64;
            }
        }
    }
    Ok((counts, graph))
}

/// The server's view, whatever the code: what a graph's edge between two workloads shows.
fn between_workloads(counts: &Counts) -> BTreeMap<(String, String), i64> {
    let mut sums = BTreeMap::new();
    for ((reporter, from, to, _), count) in counts {
        if *reporter == "destination" {
            *sums.entry((from.clone(), to.clone())).or_default() += count;
        }
    }
    sums
}

#[tokio::test]
async fn the_graph_of_the_demo_equals_the_truth() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pharos = Pharos::demo(folder.path(), &["--network", NETWORK, "--rps", "40"])?;
    eventually("calls on every edge of Bookinfo", async || {
        let edges = between_workloads(&counted(&pharos).await?).len();
        ensure!(edges >= 7, "{edges} edges");
        Ok(())
    })
    .await?;
    // The window starts between two roll-ups of ten seconds and without load, so that its borders cut nothing in two.
    let before = settle(&pharos).await?;
    let start_s = (unix_s()? + 1).next_multiple_of(10);
    scraped_after(&pharos, start_s).await?;

    set_rate(40).await?;
    tokio::time::sleep(LOAD_TIME).await;
    // Faults are thrown by chance: the load goes on until there were some.
    eventually("injected faults in the graph", async || {
        let (_, graph) = drawn(&pharos, start_s, unix_s()? + 1).await?;
        injected_faults_show(&pharos, &graph).await
    })
    .await?;
    let resident = resident_anonymous_bytes(pharos.pid())?;
    let after = settle(&pharos).await?;

    let (drawn, _) = drawn(&pharos, start_s, unix_s()? + 1).await?;
    let [before_sums, after_sums, drawn_sums] = [&before, &after, &drawn].map(between_workloads);
    ensure!(after_sums.len() >= 7, "calls of Bookinfo are missing: {after_sums:?}");
    for (ends, total) in &after_sums {
        let want = total - before_sums.get(ends).copied().unwrap_or(0);
        let got = drawn_sums.get(ends).copied().unwrap_or(0);
        // A code that was not seen before the window has a counter whose first value is lost.
        let new_codes =
            after.iter().filter(|(key, _)| key.0 == "destination" && (&key.1, &key.2) == (&ends.0, &ends.1));
        let first_values: i64 = new_codes
            .filter(|(key, _)| !before.contains_key(*key))
            .map(|(_, count)| (*count).min(REQUESTS_A_SCRAPE))
            .sum();
        ensure!(
            (want - first_values..=want).contains(&got),
            "{ends:?}: {want} requests in truth, {got} in the graph"
        );
    }

    split_is_80_10_10(&after_sums)?;
    every_hop_is_in_one_trace(&pharos).await?;
    ensure!(resident < 300 << 20, "the backend holds {} MB", resident >> 20);
    for proxy in proxies_of(pharos.pid())? {
        let bytes = resident_anonymous_bytes(proxy)?;
        ensure!(bytes < 20 << 20, "a proxy holds {} MB", bytes >> 20);
    }
    // The demo stops its processes before it ends itself.
    pharos.interrupt()?;
    let left = processes_with(folder.path().to_str().context("a path")?)?;
    ensure!(left.is_empty(), "{left:?} outlive Ctrl-C");
    let load = std::net::TcpStream::connect(format!("{NETWORK}.{LOAD}:9081"));
    ensure!(load.is_err(), "the load goes on after Ctrl-C");
    Ok(())
}

/// jason always gets v2, so that the split holds for what is left; six standard deviations keep chance out.
fn split_is_80_10_10(sums: &BTreeMap<(String, String), i64>) -> Result<()> {
    let to = |workload: &str| {
        sums.get(&("productpage-v1".to_string(), workload.to_string())).copied().unwrap_or(0) as f64
    };
    let (v1, v3) = (to("reviews-v1"), to("reviews-v3"));
    let (share, both) = (1.0 / 9.0, v1 + v3);
    let deviation = (both * share * (1.0 - share)).sqrt();
    ensure!(
        both > 100.0 && (v3 - both * share).abs() < 6.0 * deviation,
        "reviews v1 got {v1}, v3 got {v3}: not 80 to 10"
    );
    ensure!(to("reviews-v2") > v3 - 6.0 * deviation, "reviews v2 got {}", to("reviews-v2"));
    Ok(())
}

async fn injected_faults_show(pharos: &Pharos, graph: &Value) -> Result<()> {
    for flag in ["DI", "FI"] {
        let query = format!(
            "select count(*) from access_logs where response_flags like '%{flag}%' and reporter = 'source' \
             and destination_service_name = 'ratings'"
        );
        ensure!(sql_count(pharos, &query).await? > 0, "no access log has {flag}");
        let edges = graph["elements"]["edges"].as_array().context("no edges")?;
        let shown = edges.iter().any(|edge| edge["data"]["pharos"]["flags"].to_string().contains(flag));
        ensure!(shown, "no edge of the graph shows {flag}");
    }
    Ok(())
}

/// A page with reviews of v3 passes the gateway and four workloads: two spans at the gateway, two for each call between
/// sidecars and one at the gateway's target, over OTLP and Zipkin, W3C and B3.
async fn every_hop_is_in_one_trace(pharos: &Pharos) -> Result<()> {
    // The first requests may come before all workloads are there.
    let query = "select trace_id from access_logs where reporter = 'destination' and response_code = 200 \
                 and trace_id is not null group by trace_id having bool_or(source_workload = 'reviews-v3') \
                 and bool_or(destination_service_name = 'details') order by min(time) limit 1";
    let rows = sql(pharos, query).await?;
    let trace_id = rows
        .first()
        .and_then(|row| row[0].as_str())
        .context("no call of reviews-v3 has a trace id")?
        .to_string();
    let trace = get_json(&pharos.url("jaeger", &format!("/api/traces/{trace_id}"))).await?;
    let trace = &trace["data"][0];
    let spans = trace["spans"].as_array().context("no spans")?;
    let mut services: Vec<_> = trace["processes"]
        .as_object()
        .context("no processes")?
        .values()
        .filter_map(|process| process["serviceName"].as_str())
        .collect();
    services.sort_unstable();
    services.dedup();
    let wanted = [
        "details.bookinfo",
        "istio-ingressgateway.istio-system",
        "productpage.bookinfo",
        "ratings.bookinfo",
        "reviews.bookinfo",
    ];
    ensure!(services == wanted, "services of trace {trace_id}: {services:?}");
    // gateway: server, client; productpage: server, 2 clients; details: server; reviews: server, client; ratings: server.
    ensure!(spans.len() == 9, "trace {trace_id} has {} spans", spans.len());
    let ids: Vec<_> = spans.iter().map(|span| &span["spanID"]).collect();
    let parents: Vec<_> = spans
        .iter()
        .flat_map(|span| span["references"].as_array().into_iter().flatten())
        .map(|parent| &parent["spanID"])
        .collect();
    ensure!(parents.len() == 8, "one span is the root, {} have a parent", parents.len());
    ensure!(parents.iter().all(|parent| ids.contains(parent)), "a parent of trace {trace_id} is missing");
    Ok(())
}

/// The pharos-proxy processes that `supervisor` started.
fn proxies_of(supervisor: u32) -> Result<Vec<u32>> {
    let mut proxies = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((_, after_name)) = stat.rsplit_once(") ") else { continue };
        let parent = after_name.split_whitespace().nth(1).and_then(|parent| parent.parse().ok());
        if parent == Some(supervisor) && stat.contains("(pharos-proxy)") {
            proxies.push(pid);
        }
    }
    ensure!(proxies.len() == 7, "{} proxies run, 7 should", proxies.len());
    Ok(proxies)
}

//! What a process sent and got, counted by the process itself, so that a graph can be held against it.
//!
//! The counts never depend on a proxy: a caller of ours names itself in `x-demo-caller`, an answer of ours names
//! its workload in `x-demo-workload`, and both are counted where they are read.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Request header by which a process of the demo names itself to the one that it calls.
pub const CALLER_HEADER: &str = "x-demo-caller";
/// Response header by which a workload names itself to its caller.
pub const WORKLOAD_HEADER: &str = "x-demo-workload";

/// Distinct keys that are kept apart; what comes after is counted under a key of `other`s.
const MAX_KEYS: usize = 2_000;
const MAX_NAME_BYTES: usize = 64;

/// Requests that a workload got. `code` 0: the caller went away before it was answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    /// The caller's workload name, `unknown` when it named none.
    pub from: String,
    /// The route, as in `/reviews/{id}`.
    pub path: String,
    /// The `end-user` header.
    pub end_user: Option<String>,
    pub code: u16,
}

/// Requests that a workload sent. `code` 0: no answer came (refused, reset, timed out).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// The service that was asked, as in `reviews`.
    pub to: String,
    /// The workload that answered; null when a proxy answered in its place, or nobody.
    pub workload: Option<String>,
    /// The route, as in `/reviews/{id}`.
    pub path: String,
    pub code: u16,
}

/// A key with its count; flat in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted<K> {
    #[serde(flatten)]
    pub key: K,
    pub count: u64,
}

/// The JSON that `/truth` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TruthReport {
    /// The process that counted.
    pub workload: String,
    pub received: Vec<Counted<Received>>,
    pub sent: Vec<Counted<Sent>>,
    /// Requests got or sent whose end is not known yet; the counts are final when it is 0 and load has stopped.
    pub in_flight: u64,
}

#[derive(Default)]
struct Counts {
    received: BTreeMap<Received, u64>,
    sent: BTreeMap<Sent, u64>,
    in_flight: u64,
}

/// The counts of one process.
#[derive(Clone)]
pub(crate) struct Truth {
    workload: Arc<str>,
    counts: Arc<Mutex<Counts>>,
}

impl Truth {
    pub(crate) fn new(workload: &str) -> Self {
        Self { workload: workload.into(), counts: Arc::default() }
    }

    /// Starts a request that came in; it counts with code 0 if the guard is dropped before the code is known.
    pub(crate) fn receive(&self, from: Option<&str>, path: &'static str, end_user: Option<&str>) -> InFlight {
        let from = from.map_or_else(|| "unknown".to_owned(), name);
        let key = Received { from, path: path.to_owned(), end_user: end_user.map(name), code: 0 };
        self.start(Key::Received(key))
    }

    /// Starts a request that goes out; it counts with code 0 if the guard is dropped before the answer is here.
    pub(crate) fn send(&self, to: &str, path: &'static str) -> InFlight {
        self.start(Key::Sent(Sent { to: name(to), workload: None, path: path.to_owned(), code: 0 }))
    }

    fn start(&self, key: Key) -> InFlight {
        self.counts.lock().in_flight += 1;
        InFlight { truth: self.clone(), key: Some(key) }
    }

    fn end(&self, key: Key) {
        let mut counts = self.counts.lock();
        counts.in_flight = counts.in_flight.saturating_sub(1);
        match key {
            Key::Received(key) => {
                let other = Received { from: other(), path: other(), end_user: None, code: key.code };
                add(&mut counts.received, key, other);
            }
            Key::Sent(key) => {
                let other = Sent { to: other(), workload: None, path: other(), code: key.code };
                add(&mut counts.sent, key, other);
            }
        }
    }

    pub(crate) fn report(&self) -> TruthReport {
        fn list<K: Clone>(counts: &BTreeMap<K, u64>) -> Vec<Counted<K>> {
            counts.iter().map(|(key, count)| Counted { key: key.clone(), count: *count }).collect()
        }
        let counts = self.counts.lock();
        TruthReport {
            workload: self.workload.to_string(),
            received: list(&counts.received),
            sent: list(&counts.sent),
            in_flight: counts.in_flight,
        }
    }
}

fn name(text: &str) -> String {
    text.chars().take(MAX_NAME_BYTES).collect()
}

fn other() -> String {
    "other".to_owned()
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, other: K) {
    let key = if counts.len() < MAX_KEYS || counts.contains_key(&key) { key } else { other };
    *counts.entry(key).or_default() += 1;
}

enum Key {
    Received(Received),
    Sent(Sent),
}

/// A request whose end is not known yet.
#[must_use = "dropping it counts the request as unanswered"]
pub(crate) struct InFlight {
    truth: Truth,
    key: Option<Key>,
}

impl InFlight {
    /// Counts the request under the code that ended it; `workload` says who answered a request that was sent.
    pub(crate) fn finish(mut self, code: u16, workload: Option<&str>) {
        match &mut self.key {
            Some(Key::Received(key)) => key.code = code,
            Some(Key::Sent(key)) => {
                key.code = code;
                key.workload = workload.map(name);
            }
            None => {}
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.truth.end(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_peer_route_and_code() {
        let truth = Truth::new("reviews-v2");
        for code in [200, 200, 503] {
            truth.receive(Some("productpage-v1"), "/reviews/{id}", Some("jason")).finish(code, None);
        }
        truth.send("ratings", "/ratings/{id}").finish(200, Some("ratings-v1"));
        drop(truth.send("ratings", "/ratings/{id}"));
        let waiting = truth.receive(None, "/reviews/{id}", None);

        let report = serde_json::to_value(truth.report()).unwrap();
        let expected = serde_json::json!({
            "workload": "reviews-v2",
            "received": [
                {"from": "productpage-v1", "path": "/reviews/{id}", "endUser": "jason", "code": 200, "count": 2},
                {"from": "productpage-v1", "path": "/reviews/{id}", "endUser": "jason", "code": 503, "count": 1},
            ],
            "sent": [
                {"to": "ratings", "workload": null, "path": "/ratings/{id}", "code": 0, "count": 1},
                {"to": "ratings", "workload": "ratings-v1", "path": "/ratings/{id}", "code": 200, "count": 1},
            ],
            "inFlight": 1,
        });
        assert_eq!(report, expected);
        drop(waiting);
        assert_eq!(truth.report().in_flight, 0);
    }

    #[test]
    fn a_flood_of_names_stays_bounded_and_loses_no_request() {
        let truth = Truth::new("ratings-v1");
        for number in 0..MAX_KEYS + 500 {
            truth.receive(Some(&format!("caller-{number}")), "/ratings/{id}", None).finish(200, None);
        }
        let report = truth.report();
        assert!(report.received.len() <= MAX_KEYS + 1);
        assert_eq!(report.received.iter().map(|counted| counted.count).sum::<u64>(), (MAX_KEYS + 500) as u64);
    }
}

//! List, then watch: how a client of Kubernetes follows the objects of a kind.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{FIRST_WAIT, Kind, LONGEST_WAIT, Selector, api_server::ApiServer, object::Object};
use crate::scrape::{
    chain,
    discovery::{MAX_LIST_BYTES, Teller},
};

/// What is followed: a kind of objects, in a namespace or everywhere.
pub(super) struct Watch {
    pub(super) kind: Kind,
    /// Without the server.
    path: String,
    /// Of every request.
    selectors: Vec<(&'static str, String)>,
}

/// What became of the objects of a watch.
#[derive(Debug)]
pub(super) enum Change {
    /// These are all of them.
    Listed(Vec<Object>),
    Put(Box<Object>),
    Gone(Box<Object>),
}

/// Objects in an answer; more are asked for.
const PAGE: u32 = 500;

/// An answer to a list comes within this.
const LIST_PATIENCE: Duration = Duration::from_secs(60);

/// The server ends a watch after this, and another begins.
const WATCH_SECONDS: u64 = 300;

enum Failed {
    /// The version that we know is too old: all has to be listed again.
    VersionGone,
    Other(String),
}

impl Watch {
    pub(super) fn new(kind: Kind, namespace: Option<&str>, selector: Option<&Selector>) -> Watch {
        let (group, resource) = kind.path();
        let path = match namespace {
            Some(namespace) => format!("/{group}/namespaces/{namespace}/{resource}"),
            None => format!("/{group}/{resource}"),
        };
        let selectors = selector.into_iter().flat_map(|selector| {
            [("labelSelector", selector.label.clone()), ("fieldSelector", selector.field.clone())]
        });
        Watch { kind, path, selectors: selectors.filter(|(_, text)| !text.is_empty()).collect() }
    }
}

/// For ever: the caller drops it. While the server cannot be asked, what was known stays.
pub(super) async fn follow(
    server: Arc<ApiServer>,
    watch: Watch,
    number: usize,
    changes: mpsc::Sender<(usize, Change)>,
    teller: Teller,
) {
    let follower = Follower { server: &server, watch: &watch, number, changes };
    // What was seen last; nothing before the first list.
    let mut version = None;
    let mut last_fault = None;
    let mut wait = FIRST_WAIT;
    loop {
        let started = Instant::now();
        let outcome = match &mut version {
            None => match follower.list().await {
                Ok(listed) => {
                    version = Some(listed);
                    Ok(true)
                }
                Err(failed) => Err(failed),
            },
            Some(version) => follower.watch(version).await,
        };
        let fault = match outcome {
            Ok(progress) => {
                teller.fault(&mut last_fault, None);
                // A server that ends each watch at once is not asked again at once.
                if progress || started.elapsed() > LONGEST_WAIT {
                    wait = FIRST_WAIT;
                    continue;
                }
                None
            }
            Err(Failed::VersionGone) => {
                version = None;
                None
            }
            Err(Failed::Other(fault)) => Some(format!("{}{}: {fault}", server.url, watch.path)),
        };
        if fault.is_some() {
            teller.fault(&mut last_fault, fault);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    metadata: ListMetadata,
    items: Option<Vec<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

/// Kubernetes' own form of an error.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
}

const GONE: u16 = 410;

impl Status {
    fn failed(self, http: http::StatusCode) -> Failed {
        match (self.code, http.as_u16()) {
            (GONE, _) | (_, GONE) => Failed::VersionGone,
            _ if self.message.is_empty() => Failed::Other(format!("server returned HTTP status {http}")),
            _ => Failed::Other(self.message),
        }
    }
}

struct Follower<'a> {
    server: &'a ApiServer,
    watch: &'a Watch,
    number: usize,
    changes: mpsc::Sender<(usize, Change)>,
}

impl Follower<'_> {
    /// Tells of all objects; the version at which they were so.
    async fn list(&self) -> Result<String, Failed> {
        let mut objects = Vec::new();
        let mut next = String::new();
        loop {
            let mut query = vec![("limit", PAGE.to_string())];
            if !next.is_empty() {
                query.push(("continue", next));
            }
            let body = tokio::time::timeout(LIST_PATIENCE, async {
                let mut response = self.ask(&query).await?;
                whole(&mut response).await
            });
            let body = body
                .await
                .unwrap_or_else(|_| Err(Failed::Other(format!("no answer within {LIST_PATIENCE:?}"))))?;
            let list: List = serde_json::from_slice(&body)
                .map_err(|error| Failed::Other(format!("the answer is no list of objects: {error}")))?;
            objects.extend(list.items.unwrap_or_default().into_iter().filter_map(|item| self.object(item)));
            next = list.metadata.next;
            if next.is_empty() {
                self.tell(Change::Listed(objects)).await;
                return Ok(list.metadata.resource_version);
            }
        }
    }

    /// Tells of changes after `version`, which follows them, until the server ends it. Whether there were any.
    async fn watch(&self, version: &mut String) -> Result<bool, Failed> {
        let query = [
            ("watch", "1".to_string()),
            ("resourceVersion", version.clone()),
            ("allowWatchBookmarks", "true".to_string()),
            ("timeoutSeconds", WATCH_SECONDS.to_string()),
        ];
        // A connection that died without a word must not be waited for.
        let patience = Duration::from_secs(WATCH_SECONDS) + LONGEST_WAIT;
        let silent = |_| Failed::Other(format!("nothing came within {patience:?}"));
        let mut response = tokio::time::timeout(patience, self.ask(&query)).await.map_err(silent)??;
        let mut progress = false;
        let mut buffer: Vec<u8> = Vec::new();
        loop {
            let chunk = tokio::time::timeout(patience, response.chunk()).await.map_err(silent)?;
            let Some(chunk) = chunk.map_err(|error| Failed::Other(chain(&error)))? else {
                return Ok(progress);
            };
            // Only what is new can end a line.
            let mut searched = buffer.len();
            buffer.extend_from_slice(&chunk);
            let mut start = 0;
            while let Some(end) = buffer.iter().skip(searched).position(|byte| *byte == b'\n') {
                let end = searched + end;
                let line = buffer.get(start..end).unwrap_or_default();
                if !line.trim_ascii().is_empty() {
                    self.event(line, version).await?;
                    progress = true;
                }
                start = end + 1;
                searched = start;
            }
            buffer.drain(..start);
            if buffer.len() > MAX_LIST_BYTES {
                return Err(Failed::Other(format!("an event is larger than {MAX_LIST_BYTES} bytes")));
            }
        }
    }

    async fn event(&self, line: &[u8], version: &mut String) -> Result<(), Failed> {
        let event: Event = serde_json::from_slice(line)
            .map_err(|error| Failed::Other(format!("the answer is no watch event: {error}")))?;
        if event.kind == "ERROR" {
            let status = Status::deserialize(event.object).unwrap_or_default();
            return Err(match status.failed(http::StatusCode::OK) {
                Failed::Other(fault) => Failed::Other(format!("the watch failed: {fault}")),
                gone => gone,
            });
        }
        let Some(object) = self.object(event.object) else { return Ok(()) };
        if !object.metadata.resource_version.is_empty() {
            version.clone_from(&object.metadata.resource_version);
        }
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => self.tell(Change::Put(Box::new(object))).await,
            "DELETED" => self.tell(Change::Gone(Box::new(object))).await,
            // A bookmark has a version alone.
            _ => {}
        }
        Ok(())
    }

    async fn ask(&self, query: &[(&str, String)]) -> Result<reqwest::Response, Failed> {
        let url = format!("{}{}", self.server.url, self.watch.path);
        let request = self.server.client.get(&url).await.map_err(Failed::Other)?;
        let request = request
            .query(query)
            .query(&self.watch.selectors)
            .header(http::header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(|error| Failed::Other(chain(&error)))?;
        if response.status() == http::StatusCode::OK {
            return Ok(response);
        }
        let http = response.status();
        let body = whole(&mut response).await.unwrap_or_default();
        Err(serde_json::from_slice::<Status>(&body).unwrap_or_default().failed(http))
    }

    /// One that cannot be read costs only itself.
    fn object(&self, value: Value) -> Option<Object> {
        let read = Object::read(value);
        if let Err(error) = &read {
            tracing::warn!("service discovery: an object of {} cannot be read: {error}", self.watch.path);
        }
        read.ok()
    }

    async fn tell(&self, change: Change) {
        // Nobody listens any more when scraping ends, which ends this too.
        let _ = self.changes.send((self.number, change)).await;
    }
}

async fn whole(response: &mut reqwest::Response) -> Result<Vec<u8>, Failed> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failed::Other(chain(&error)))? {
        if body.len() + chunk.len() > MAX_LIST_BYTES {
            return Err(Failed::Other(format!("the answer is larger than {MAX_LIST_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

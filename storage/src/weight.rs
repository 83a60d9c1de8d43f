//! About how many bytes a row takes in memory: the currency of the budget.

use pharos_model::{AccessLog, Attributes, LogRecord, MeshObject, Peer, Span, TimeSeries, Value};

use crate::Batch;

pub(crate) trait Weight {
    fn weight(&self) -> usize;
}

/// An allocation costs its block's header and rounding as well.
const ALLOCATION: usize = 16;

fn text(text: &str) -> usize {
    if text.is_empty() { 0 } else { text.len() + ALLOCATION }
}

fn value(of: &Value) -> usize {
    match of {
        Value::String(own) => text(own),
        Value::Bytes(bytes) => bytes.len() + ALLOCATION,
        Value::Array(items) => items.iter().map(|item| size_of::<Value>() + value(item)).sum(),
        Value::Map(entries) => {
            entries.iter().map(|(key, item)| size_of::<(String, Value)>() + text(key) + value(item)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Double(_) => 0,
    }
}

fn attributes(of: &Attributes) -> usize {
    of.iter().map(|(key, item)| size_of::<(String, Value)>() + text(key) + value(item)).sum()
}

fn peer(of: &Peer) -> usize {
    [
        &of.cluster,
        &of.namespace,
        &of.workload,
        &of.app,
        &of.version,
        &of.canonical_service,
        &of.canonical_revision,
    ]
    .into_iter()
    .chain([&of.principal])
    .map(|own| text(own))
    .sum()
}

impl Weight for Span {
    fn weight(&self) -> usize {
        let events: usize =
            self.events.iter().map(|event| 80 + text(&event.name) + attributes(&event.attributes)).sum();
        let links: usize = self.links.iter().map(|link| 80 + attributes(&link.attributes)).sum();
        // The resource is shared while rows wait, but each row has a copy once they are columns.
        size_of::<Span>()
            + text(&self.name)
            + text(&self.status_message)
            + text(&self.trace_state)
            + attributes(&self.attributes)
            + attributes(&self.resource)
            + events
            + links
    }
}

impl Weight for AccessLog {
    fn weight(&self) -> usize {
        let texts = [
            &self.destination_service,
            &self.authority,
            &self.path,
            &self.original_path,
            &self.route_name,
            &self.upstream_cluster,
            &self.upstream_host,
            &self.upstream_local_address,
            &self.request_id,
            &self.downstream_local_address,
            &self.downstream_remote_address,
            &self.requested_server_name,
            &self.forwarded_for,
            &self.user_agent,
            &self.referer,
            &self.node_id,
            &self.response_code_details,
        ];
        size_of::<AccessLog>()
            + peer(&self.source)
            + peer(&self.destination)
            + texts.into_iter().map(|own| text(own)).sum::<usize>()
            + attributes(&self.attributes)
    }
}

impl Weight for LogRecord {
    fn weight(&self) -> usize {
        size_of::<LogRecord>()
            + value(&self.body)
            + text(&self.severity_text)
            + text(&self.event_name)
            + attributes(&self.attributes)
            + attributes(&self.resource)
    }
}

impl Weight for MeshObject {
    fn weight(&self) -> usize {
        size_of::<MeshObject>() + self.json.len() + self.name.len() + self.namespace.len()
    }
}

impl Weight for TimeSeries {
    fn weight(&self) -> usize {
        // Labels are symbols, which the series' index holds.
        let histograms =
            self.histograms.iter().map(|sample| crate::head::histogram_weight(&sample.histogram));
        size_of::<TimeSeries>()
            + self.samples.len() * 16
            + histograms.sum::<usize>()
            + self.exemplars.len() * 200
    }
}

impl Batch {
    pub(crate) fn weight(&self) -> usize {
        match self {
            Batch::Spans(rows) => rows.iter().map(Weight::weight).sum(),
            Batch::AccessLogs(rows) => rows.iter().map(Weight::weight).sum(),
            Batch::Logs(rows) => rows.iter().map(Weight::weight).sum(),
            Batch::Samples(rows) => rows.iter().map(Weight::weight).sum(),
            Batch::MeshConfig(rows) => rows.iter().map(Weight::weight).sum(),
        }
    }
}

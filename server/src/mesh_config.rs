//! Keeps the mesh's configuration by time: every object of a folder of YAML as it was, each time it changed, so that
//! the past can be read with the past's configuration.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::PathBuf,
    time::Duration,
};

use pharos_mesh::Parsed;
use pharos_model::{MeshObject, UnixNanos};
use pharos_storage::{Batch, Storage};
use tokio_util::sync::CancellationToken;

/// How often the folder is read; an edit is in the table this much later.
const INTERVAL: Duration = Duration::from_secs(1);
/// The cluster that objects of a folder belong to; Istio's own default.
const CLUSTER: &str = "Kubernetes";

/// Kind, namespace and name.
type Key = (String, String, String);

/// Follows `folder` until `stop`. A folder that cannot be read and a document that is wrong are told of once, not at
/// each look; what was known before stays in force.
pub(crate) async fn follow(folder: PathBuf, storage: Storage, stop: CancellationToken) {
    let mut known = BTreeMap::new();
    let mut told = String::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let fault = match Parsed::read_dir(&folder) {
            Ok(parsed) => {
                let fault = parsed.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                let changes = changes(&mut known, parsed, UnixNanos::now());
                if !changes.is_empty()
                    && let Err(error) = storage.append(Batch::MeshConfig(changes)).await
                {
                    // Forgotten, so that the next look tries again.
                    known.clear();
                    error.to_string()
                } else {
                    fault
                }
            }
            Err(error) => format!("{}: {error}", folder.display()),
        };
        if fault != told && !fault.is_empty() {
            tracing::warn!(%fault, "mesh configuration");
        }
        told = fault;
    }
}

/// The objects that differ from `known`, which is brought up to date. While a document is wrong nobody can tell whether
/// an object is gone or only unreadable, so nothing counts as deleted.
fn changes(known: &mut BTreeMap<Key, String>, parsed: Parsed, time: UnixNanos) -> Vec<MeshObject> {
    let object = |(kind, namespace, name): Key, json: String| MeshObject {
        time,
        cluster: CLUSTER.to_string(),
        kind,
        namespace,
        name,
        deleted: json.is_empty(),
        json,
    };
    let mut changed = Vec::new();
    let mut present = Vec::new();
    for found in parsed.objects {
        let key = (found.kind, found.namespace, found.name);
        let json = found.raw.to_string();
        present.push(key.clone());
        match known.entry(key.clone()) {
            Entry::Occupied(before) if *before.get() == json => continue,
            Entry::Occupied(mut before) => drop(before.insert(json.clone())),
            Entry::Vacant(before) => drop(before.insert(json.clone())),
        }
        changed.push(object(key, json));
    }
    if parsed.errors.is_empty() {
        let gone: Vec<Key> = known.keys().filter(|key| !present.contains(key)).cloned().collect();
        for key in gone {
            known.remove(&key);
            changed.push(object(key, String::new()));
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_kept_and_a_wrong_document_deletes_nothing() {
        let rule = |name: &str, host: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: shop}}\n\
                 spec: {{host: {host}}}\n---\n"
            )
        };
        let mut known = BTreeMap::new();
        let mut names = |text: &str| {
            let mut parsed = Parsed::default();
            parsed.add("test.yaml", text);
            let changes = changes(&mut known, parsed, UnixNanos(1));
            changes.into_iter().map(|object| (object.name, object.deleted)).collect::<Vec<_>>()
        };
        let [a, b, changed_a] = [rule("a", "one"), rule("b", "two"), rule("a", "three")];
        assert_eq!(names(&format!("{a}{b}")), [("a".to_string(), false), ("b".to_string(), false)]);
        assert_eq!(names(&format!("{a}{b}")), []);
        assert_eq!(names(&format!("{changed_a}{b}")), [("a".to_string(), false)]);
        assert_eq!(names(&format!("{changed_a}---\nkind: [")), []);
        assert_eq!(names(&changed_a), [("b".to_string(), true)]);
    }
}

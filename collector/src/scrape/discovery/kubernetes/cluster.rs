//! What is known of a cluster, and which of it has to be told anew.

use std::collections::{BTreeMap, BTreeSet};

use super::{AttachMetadata, Kind, Role, object::Object, targets, watch::Change};
use crate::scrape::discovery::TargetGroup;

pub(super) struct Cluster {
    pub(super) role: Role,
    pub(super) attach: AttachMetadata,
    /// One for each watch.
    watched: Vec<Watched>,
    /// Keys of objects of the role that have changed.
    touched: BTreeSet<String>,
    /// Something changed that others take labels from.
    all_touched: bool,
    told: BTreeMap<String, TargetGroup>,
}

struct Watched {
    kind: Kind,
    /// `None` until they have been listed.
    objects: Option<BTreeMap<String, Object>>,
}

impl Cluster {
    pub(super) fn new(role: Role, attach: AttachMetadata, kinds: impl Iterator<Item = Kind>) -> Cluster {
        Cluster {
            role,
            attach,
            watched: kinds.map(|kind| Watched { kind, objects: None }).collect(),
            touched: BTreeSet::new(),
            all_touched: false,
            told: BTreeMap::new(),
        }
    }

    /// `number` is that of the watch.
    pub(super) fn apply(&mut self, number: usize, change: Change) {
        let Some(watched) = self.watched.get_mut(number) else { return };
        let key = match change {
            Change::Listed(objects) => {
                watched.objects = Some(objects.into_iter().map(|object| (object.key(), object)).collect());
                self.all_touched = true;
                return;
            }
            Change::Put(object) => {
                let key = object.key();
                let before = watched.objects.get_or_insert_default().insert(key.clone(), *object);
                let now = watched.objects.as_ref().and_then(|objects| objects.get(&key));
                // Heartbeats of nodes change nothing that makes a label.
                if before.is_some_and(|before| now.is_some_and(|now| same_but_version(&before, now))) {
                    return;
                }
                key
            }
            Change::Gone(object) => {
                let key = object.key();
                watched.objects.get_or_insert_default().remove(&key);
                key
            }
        };
        if watched.kind == self.role.kind() {
            self.touched.insert(key);
        } else {
            self.all_touched = true;
        }
    }

    /// The sources that have changed since the last call, each with its targets if it has any. Nothing before all
    /// that labels come from has been listed.
    pub(super) fn news(&mut self) -> Vec<(String, Option<TargetGroup>)> {
        if self.watched.iter().any(|watched| watched.objects.is_none()) {
            return Vec::new();
        }
        let mut touched = std::mem::take(&mut self.touched);
        if std::mem::take(&mut self.all_touched) {
            touched.extend(self.told.keys().cloned());
            touched.extend(self.objects(self.role.kind()).flat_map(|objects| objects.keys().cloned()));
        }
        let mut news = Vec::new();
        for key in touched {
            let group = self.get(self.role.kind(), &key).map(|object| targets::group(self, object));
            let group = group.filter(|group| !group.targets.is_empty());
            if self.told.get(&key) == group.as_ref() {
                continue;
            }
            let source = format!("{}/{key}", self.role.kind().name());
            match &group {
                Some(group) => self.told.insert(key, group.clone()),
                None => self.told.remove(&key),
            };
            news.push((source, group));
        }
        news
    }

    pub(super) fn get(&self, kind: Kind, key: &str) -> Option<&Object> {
        self.objects(kind).find_map(|objects| objects.get(key))
    }

    fn objects(&self, kind: Kind) -> impl Iterator<Item = &BTreeMap<String, Object>> {
        self.watched
            .iter()
            .filter(move |watched| watched.kind == kind)
            .filter_map(|watched| watched.objects.as_ref())
    }
}

fn same_but_version(left: &Object, right: &Object) -> bool {
    let (a, b) = (&left.metadata, &right.metadata);
    a.labels == b.labels
        && a.annotations == b.annotations
        && a.uid == b.uid
        && a.owner_references == b.owner_references
        && left.spec == right.spec
        && left.status == right.status
        && left.subsets == right.subsets
        && left.endpoints == right.endpoints
        && left.ports == right.ports
        && left.address_type == right.address_type
}

//! Series that belong together by some of their labels.

use std::cmp::Ordering;

use hashbrown::HashTable;
use pharos_model::{Labels, METRIC_NAME};
use xxhash_rust::xxh3::xxh3_64;

use super::Evaluator;
use super::frame::{Metric, is_metadata};

/// Which labels of a series count.
#[derive(Debug, Clone)]
pub(super) struct LabelChoice {
    /// Sorted, as label sets are.
    names: Vec<String>,
    /// The named ones alone, or all but the named ones and the metric name.
    named_only: bool,
    /// Whether a name that is to be dropped is gone already.
    drop_at_once: bool,
}

impl LabelChoice {
    pub(super) fn new(names: &[String], named_only: bool, evaluator: &Evaluator<'_>) -> LabelChoice {
        let mut names = names.to_vec();
        names.sort();
        names.dedup();
        LabelChoice { names, named_only, drop_at_once: evaluator.drops_names_at_once() }
    }

    /// Calls `visit` with the pairs that count, sorted by name.
    fn each_pair<'m>(&self, metric: &'m Metric, mut visit: impl FnMut(&'m str, &'m str)) {
        let hidden = metric.drop_name && self.drop_at_once;
        let mut names = self.names.iter().map(String::as_str).peekable();
        for (name, value) in metric.labels.iter() {
            let named = loop {
                match names.peek().map(|wanted| (*wanted).cmp(name)) {
                    Some(Ordering::Less) => _ = names.next(),
                    order => break order == Some(Ordering::Equal),
                }
            };
            if self.named_only && names.peek().is_none() {
                return;
            }
            let counts = if self.named_only { named } else { !named && name != METRIC_NAME };
            if counts && !(hidden && is_metadata(name)) {
                visit(name, value);
            }
        }
    }

    pub(super) fn labels(&self, metric: &Metric) -> Labels {
        let mut pairs = Vec::with_capacity(self.names.len());
        self.each_pair(metric, |name, value| pairs.push((name, value)));
        Labels::from_pairs(pairs)
    }

    /// Writes what tells groups apart. 0xff, which is in no text, ends each part.
    fn write_key(&self, metric: &Metric, key: &mut Vec<u8>) {
        key.clear();
        self.each_pair(metric, |name, value| {
            for part in [name, value] {
                key.extend_from_slice(part.as_bytes());
                key.push(0xff);
            }
        });
    }
}

/// Numbers groups of series in the order in which they are first seen.
pub(super) struct Groups {
    choice: LabelChoice,
    table: HashTable<usize>,
    groups: Vec<Group>,
    /// The key of the series at hand.
    key: Vec<u8>,
}

struct Group {
    hash: u64,
    key: Box<[u8]>,
    /// A member, which stands for the labels that all of them share.
    member: Metric,
}

impl Groups {
    pub(super) fn new(choice: LabelChoice) -> Groups {
        Groups { choice, table: HashTable::new(), groups: Vec::new(), key: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    fn find(&self, hash: u64) -> Option<usize> {
        let same = |group: &usize| self.groups.get(*group).is_some_and(|known| *known.key == *self.key);
        self.table.find(hash, same).copied()
    }

    /// The group of a series, if any series of it has been seen.
    pub(super) fn get(&mut self, metric: &Metric) -> Option<usize> {
        self.choice.write_key(metric, &mut self.key);
        self.find(xxh3_64(&self.key))
    }

    /// The group of a series, a new one if need be.
    pub(super) fn group(&mut self, metric: &Metric) -> usize {
        self.choice.write_key(metric, &mut self.key);
        let hash = xxh3_64(&self.key);
        if let Some(group) = self.find(hash) {
            return group;
        }
        let group = self.groups.len();
        self.groups.push(Group { hash, key: self.key.as_slice().into(), member: metric.clone() });
        let groups = &self.groups;
        self.table.insert_unique(hash, group, |group| groups.get(*group).map_or(0, |group| group.hash));
        group
    }

    /// The labels that the members of a group share.
    pub(super) fn labels(&self, group: usize) -> Labels {
        self.groups.get(group).map(|group| self.choice.labels(&group.member)).unwrap_or_default()
    }
}

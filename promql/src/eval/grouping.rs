//! Series that belong together by some of their labels.

use std::cmp::Ordering;

use hashbrown::HashTable;
use pharos_model::{Labels, METRIC_NAME};
use xxhash_rust::xxh3::Xxh3;

use super::Evaluator;
use super::frame::{Metric, is_metadata};

/// Which labels of a series count.
#[derive(Debug, Clone)]
pub(super) struct LabelChoice {
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

    /// The pairs that count, sorted by name.
    fn pairs<'m>(&'m self, metric: &'m Metric) -> impl Iterator<Item = (&'m str, &'m str)> {
        let hidden = metric.drop_name && self.drop_at_once;
        let mut names = self.names.iter().map(String::as_str).peekable();
        metric.labels.iter().filter(move |(name, _)| {
            // Both sides are sorted.
            let named = loop {
                match names.peek().map(|wanted| (*wanted).cmp(name)) {
                    Some(Ordering::Less) => _ = names.next(),
                    order => break order == Some(Ordering::Equal),
                }
            };
            let counts = if self.named_only { named } else { !named && *name != METRIC_NAME };
            counts && !(hidden && is_metadata(name))
        })
    }

    pub(super) fn labels(&self, metric: &Metric) -> Labels {
        Labels::from_pairs(self.pairs(metric))
    }
}

/// Numbers groups of series in the order in which they are first seen.
pub(super) struct Groups {
    choice: LabelChoice,
    table: HashTable<usize>,
    /// A member of each group, which stands for its labels.
    members: Vec<(u64, Metric)>,
}

impl Groups {
    pub(super) fn new(choice: LabelChoice) -> Groups {
        Groups { choice, table: HashTable::new(), members: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    fn hash(&self, metric: &Metric) -> u64 {
        let mut hasher = Xxh3::new();
        for (name, value) in self.choice.pairs(metric) {
            hasher.update(name.as_bytes());
            hasher.update(&[0xff]);
            hasher.update(value.as_bytes());
            hasher.update(&[0xff]);
        }
        hasher.digest()
    }

    fn find(&self, hash: u64, metric: &Metric) -> Option<usize> {
        let same = |group: &usize| {
            self.members.get(*group).is_some_and(|(known, member)| {
                *known == hash && self.choice.pairs(member).eq(self.choice.pairs(metric))
            })
        };
        self.table.find(hash, same).copied()
    }

    /// The group of a series, if any series of it has been seen.
    pub(super) fn get(&self, metric: &Metric) -> Option<usize> {
        self.find(self.hash(metric), metric)
    }

    /// The group of a series, a new one if need be.
    pub(super) fn group(&mut self, metric: &Metric) -> usize {
        let hash = self.hash(metric);
        if let Some(group) = self.find(hash, metric) {
            return group;
        }
        let group = self.members.len();
        self.members.push((hash, metric.clone()));
        let members = &self.members;
        self.table.insert_unique(hash, group, |group| members.get(*group).map_or(0, |(hash, _)| *hash));
        group
    }

    /// The labels that the members of a group share.
    pub(super) fn labels(&self, group: usize) -> Labels {
        self.members.get(group).map(|(_, member)| self.choice.labels(member)).unwrap_or_default()
    }
}

//! Series that belong together by some of their labels.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use pharos_model::{Labels, METRIC_NAME, Projection, Shape, Symbol};

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

    fn hides_metadata(&self, metric: &Metric) -> bool {
        metric.drop_name && self.drop_at_once
    }

    fn counts(&self, name: &str, hides_metadata: bool) -> bool {
        let named = self.names.binary_search_by(|known| known.as_str().cmp(name)).is_ok();
        let counts = if self.named_only { named } else { !named && name != METRIC_NAME };
        counts && !(hides_metadata && is_metadata(name))
    }

    pub(super) fn labels(&self, metric: &Metric) -> Labels {
        let hides_metadata = self.hides_metadata(metric);
        metric.labels.filter(|name| self.counts(name, hides_metadata))
    }
}

/// Numbers groups of series in the order in which they are first seen.
///
/// What tells groups apart is where the symbols of names and values lie: no text is looked at. A group holds its
/// labels, and so the symbols.
pub(super) struct Groups {
    choice: LabelChoice,
    hasher: DefaultHashBuilder,
    table: HashTable<usize>,
    groups: Vec<Group>,
    /// One after the other.
    keys: Vec<usize>,
    plans: Vec<Plan>,
    /// Which of the plans is for label sets of a shape, with their metadata or without.
    plan_of: HashMap<(Shape, bool), usize>,
    /// The one that was used last: most series have the same labels.
    plan: usize,
    /// The key of the series at hand.
    key: Vec<usize>,
}

/// Where the labels that count are in label sets of one shape.
struct Plan {
    shape: Shape,
    hides_metadata: bool,
    projection: Projection,
    /// The beginning of the key.
    names: Vec<usize>,
}

struct Group {
    hash: u64,
    /// Where its key ends; it begins with the end of the one before.
    key_end: usize,
    /// Those that all members share.
    labels: Labels,
}

impl Groups {
    pub(super) fn new(choice: LabelChoice) -> Groups {
        Groups {
            choice,
            hasher: DefaultHashBuilder::default(),
            table: HashTable::new(),
            groups: Vec::new(),
            keys: Vec::new(),
            plans: Vec::new(),
            plan_of: HashMap::new(),
            plan: 0,
            key: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Looks for the plan of a series.
    fn choose_plan(&mut self, metric: &Metric) {
        let hides_metadata = self.choice.hides_metadata(metric);
        let shape = metric.labels.shape();
        let fits = |plan: &Plan| plan.shape == *shape && plan.hides_metadata == hides_metadata;
        if self.plans.get(self.plan).is_some_and(fits) {
            return;
        }
        let Groups { choice, plans, .. } = self;
        self.plan = *self.plan_of.entry((shape.clone(), hides_metadata)).or_insert_with(|| {
            let projection = Projection::new(shape, |name| choice.counts(name, hides_metadata));
            let names = projection.shape().names().iter().map(Symbol::address).collect();
            plans.push(Plan { shape: shape.clone(), hides_metadata, projection, names });
            plans.len() - 1
        });
    }

    /// Makes the key of a series: the names that count, then their values. Gives its hash.
    fn make_key(&mut self, metric: &Metric) -> u64 {
        self.choose_plan(metric);
        self.key.clear();
        if let Some(plan) = self.plans.get(self.plan) {
            let values = metric.labels.values();
            self.key.extend_from_slice(&plan.names);
            let values = plan.projection.places().iter().filter_map(|place| values.clone().nth(*place));
            self.key.extend(values.map(Symbol::address));
        }
        self.hasher.hash_one(self.key.as_slice())
    }

    fn key_of(&self, group: usize) -> &[usize] {
        let start = group.checked_sub(1).and_then(|before| self.groups.get(before));
        let start = start.map_or(0, |before| before.key_end);
        self.groups.get(group).and_then(|group| self.keys.get(start..group.key_end)).unwrap_or_default()
    }

    /// The group that has the key at hand.
    fn find(&self, hash: u64) -> Option<usize> {
        self.table.find(hash, |group| self.key_of(*group) == self.key).copied()
    }

    /// A new group that has the key at hand.
    fn add(&mut self, hash: u64, labels: Labels) -> usize {
        let group = self.groups.len();
        self.keys.extend_from_slice(&self.key);
        self.groups.push(Group { hash, key_end: self.keys.len(), labels });
        let groups = &self.groups;
        self.table.insert_unique(hash, group, |group| groups.get(*group).map_or(0, |group| group.hash));
        group
    }

    /// The group of a series, if any series of it has been seen.
    pub(super) fn get(&mut self, metric: &Metric) -> Option<usize> {
        let hash = self.make_key(metric);
        self.find(hash)
    }

    /// The group of a series, a new one if need be.
    pub(super) fn group(&mut self, metric: &Metric) -> usize {
        let hash = self.make_key(metric);
        if let Some(group) = self.find(hash) {
            return group;
        }
        let labels = self.plans.get(self.plan).map(|plan| metric.labels.project(&plan.projection));
        self.add(hash, labels.unwrap_or_default())
    }

    /// The same group as one of others that are made by the same labels, a new one if need be.
    pub(super) fn same_group(&mut self, others: &Groups, group: usize) -> usize {
        self.key.clear();
        self.key.extend_from_slice(others.key_of(group));
        let hash = self.hasher.hash_one(self.key.as_slice());
        self.find(hash).unwrap_or_else(|| self.add(hash, others.labels(group)))
    }

    /// The labels that the members of a group share.
    pub(super) fn labels(&self, group: usize) -> Labels {
        self.groups.get(group).map(|group| group.labels.clone()).unwrap_or_default()
    }
}

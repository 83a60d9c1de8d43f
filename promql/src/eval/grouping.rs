//! Series that belong together by some of their labels.

use std::hash::BuildHasher;
use std::sync::Arc;

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
/// What tells groups apart is where the symbols of names and values lie: no text is looked at. A group holds a
/// member, and so the symbols.
pub(super) struct Groups {
    choice: LabelChoice,
    hasher: DefaultHashBuilder,
    table: HashTable<usize>,
    groups: Vec<Group>,
    plans: HashMap<(Shape, bool), Arc<Plan>>,
    /// The one that was used last: most series have the same labels.
    plan: Option<Arc<Plan>>,
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
    key: Box<[usize]>,
    /// A member, which stands for the labels that all of them share.
    member: Metric,
    plan: Arc<Plan>,
}

impl Groups {
    pub(super) fn new(choice: LabelChoice) -> Groups {
        Groups {
            choice,
            hasher: DefaultHashBuilder::default(),
            table: HashTable::new(),
            groups: Vec::new(),
            plans: HashMap::new(),
            plan: None,
            key: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    fn plan(&mut self, metric: &Metric) -> Arc<Plan> {
        let hides_metadata = self.choice.hides_metadata(metric);
        let shape = metric.labels.shape();
        if let Some(plan) = &self.plan
            && plan.shape == *shape
            && plan.hides_metadata == hides_metadata
        {
            return Arc::clone(plan);
        }
        let choice = &self.choice;
        let plan = self.plans.entry((shape.clone(), hides_metadata)).or_insert_with(|| {
            let projection = Projection::new(shape, |name| choice.counts(name, hides_metadata));
            let names = projection.shape().names().iter().map(Symbol::address).collect();
            Arc::new(Plan { shape: shape.clone(), hides_metadata, projection, names })
        });
        self.plan = Some(Arc::clone(plan));
        Arc::clone(plan)
    }

    /// Makes the key of a series: the names that count, then their values. Gives its hash.
    fn make_key(&mut self, metric: &Metric) -> u64 {
        let plan = self.plan(metric);
        let values = metric.labels.values();
        self.key.clear();
        self.key.extend_from_slice(&plan.names);
        self.key.extend(
            plan.projection.places().iter().filter_map(|place| values.get(*place)).map(Symbol::address),
        );
        self.hasher.hash_one(self.key.as_slice())
    }

    fn find(&self, hash: u64) -> Option<usize> {
        let same = |group: &usize| self.groups.get(*group).is_some_and(|known| *known.key == *self.key);
        self.table.find(hash, same).copied()
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
        let group = self.groups.len();
        let plan = self.plan(metric);
        self.groups.push(Group { hash, key: self.key.as_slice().into(), member: metric.clone(), plan });
        let groups = &self.groups;
        self.table.insert_unique(hash, group, |group| groups.get(*group).map_or(0, |group| group.hash));
        group
    }

    /// A series of the group.
    pub(super) fn member(&self, group: usize) -> Option<&Metric> {
        self.groups.get(group).map(|group| &group.member)
    }

    /// The labels that the members of a group share.
    pub(super) fn labels(&self, group: usize) -> Labels {
        let labels = self.groups.get(group).map(|group| group.member.labels.project(&group.plan.projection));
        labels.unwrap_or_default()
    }
}

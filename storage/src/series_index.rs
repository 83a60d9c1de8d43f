//! All series known, in memory: found by label through postings, and by id.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hashbrown::{HashMap, HashSet};
use pharos_model::{
    EdgeKey, EdgeMeasure, Exemplar, LabelMatcher, Labels, MatchOp, MetricMetadata, SeriesId, TimeRange,
    edge_of_series,
};
use regex::Regex;

use crate::{StorageError, rows::SeriesRow};

pub(crate) const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// What a series of an Istio metric tells of an edge.
#[derive(Clone)]
pub(crate) struct EdgeRole {
    /// Shared by all series that differ in name and bucket bound alone.
    pub(crate) key: Arc<EdgeKey>,
    pub(crate) measure: EdgeMeasure,
    /// Of a histogram's bucket.
    pub(crate) bound: Option<f64>,
}

pub(crate) struct Entry {
    pub(crate) id: SeriesId,
    pub(crate) labels: Labels,
    /// Shared by the series of one metric.
    pub(crate) metric: Arc<str>,
    pub(crate) edge: Option<EdgeRole>,
    first_ms: i64,
    last_ms: i64,
    /// The UTC days between which, inclusive, the series has rows in the table `series`.
    days: (i64, i64),
    /// Times of the newest samples, by which a resend is recognised.
    recent_ms: [i64; RECENT],
    /// Time and value of the newest exemplar.
    exemplar: Option<(i64, u64)>,
}

/// A resend after a lost acknowledgement is a sender's last batch, which rarely has more samples of a series.
const RECENT: usize = 6;

impl Entry {
    fn note(&mut self, time_ms: i64) {
        if !self.recent_ms.contains(&time_ms)
            && let Some(oldest) = self.recent_ms.iter_mut().min()
        {
            *oldest = (*oldest).max(time_ms);
        }
        self.first_ms = self.first_ms.min(time_ms);
        self.last_ms = self.last_ms.max(time_ms);
    }

    fn overlaps(&self, range: TimeRange) -> bool {
        self.first_ms < range.end.millis().saturating_add(1) && self.last_ms >= range.start.millis()
    }
}

/// What the index knows of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Staged {
    /// Later than all others of its series.
    New,
    /// Not among the newest, and not later than them either.
    Late,
    /// Stored already.
    Known,
}

/// A series' number within this process.
type Ordinal = u32;

#[derive(Default)]
pub(crate) struct SeriesIndex {
    entries: Vec<Entry>,
    by_id: HashMap<SeriesId, Ordinal>,
    /// Label name, then value, then the series that have it, in ascending order.
    postings: HashMap<String, BTreeMap<String, Vec<Ordinal>>>,
    metrics: HashMap<Arc<str>, ()>,
    /// Names of the metrics that have native histograms.
    histogram_metrics: HashSet<Arc<str>>,
    edge_keys: HashMap<SeriesId, Arc<EdgeKey>>,
    metadata: BTreeMap<String, MetricMetadata>,
}

impl SeriesIndex {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, id: SeriesId) -> Option<&Entry> {
        self.by_id.get(&id).and_then(|ordinal| self.entries.get(*ordinal as usize))
    }

    /// Whether the series' row for the day of `time_ms` has been written.
    pub(crate) fn has_day(&self, id: SeriesId, time_ms: i64) -> bool {
        let day = time_ms.div_euclid(DAY_MS);
        self.get(id).is_some_and(|entry| (entry.days.0..=entry.days.1).contains(&day))
    }

    /// Takes in a row of the table `series`.
    pub(crate) fn insert(&mut self, row: &SeriesRow) {
        let day = row.first_ms.div_euclid(DAY_MS);
        if let Some(metadata) = &row.metadata {
            self.metadata.insert(metadata.family.clone(), metadata.clone());
        }
        if let Some(ordinal) = self.by_id.get(&row.series) {
            if let Some(entry) = self.entries.get_mut(*ordinal as usize) {
                entry.days = (entry.days.0.min(day), entry.days.1.max(day));
                entry.first_ms = entry.first_ms.min(row.first_ms);
                entry.last_ms = entry.last_ms.max(row.first_ms);
            }
            return;
        }
        let metric = self.metric(row.labels.metric_name());
        let edge = edge_of_series(&row.labels).map(|(key, measure, bound)| {
            let key = self.edge_keys.entry(key.series).or_insert_with(|| Arc::new(key)).clone();
            EdgeRole { key, measure, bound }
        });
        self.place(Entry {
            id: row.series,
            labels: row.labels.clone(),
            metric,
            edge,
            first_ms: row.first_ms,
            last_ms: row.first_ms,
            days: (day, day),
            recent_ms: [i64::MIN; RECENT],
            exemplar: None,
        });
    }

    fn place(&mut self, entry: Entry) {
        let ordinal = self.entries.len() as Ordinal;
        for (name, value) in entry.labels.iter() {
            let values = match self.postings.get_mut(name) {
                Some(values) => values,
                None => self.postings.entry(name.to_string()).or_default(),
            };
            match values.get_mut(value) {
                Some(series) => series.push(ordinal),
                None => {
                    values.insert(value.to_string(), vec![ordinal]);
                }
            }
        }
        self.by_id.insert(entry.id, ordinal);
        self.entries.push(entry);
    }

    /// Forgets the series that have no sample since then.
    pub(crate) fn forget_before(&mut self, time_ms: i64) {
        let old = std::mem::take(self);
        self.metadata = old.metadata;
        self.histogram_metrics = old.histogram_metrics;
        for entry in old.entries.into_iter().filter(|entry| entry.last_ms >= time_ms) {
            self.metrics.insert(entry.metric.clone(), ());
            if let Some(role) = &entry.edge {
                self.edge_keys.insert(role.key.series, role.key.clone());
            }
            self.place(entry);
        }
    }

    /// A series read back from a file: its samples of that day may reach to the day's end.
    pub(crate) fn insert_stored(&mut self, row: &SeriesRow) {
        self.insert(row);
        self.saw(row.series, row.first_ms, (row.first_ms.div_euclid(DAY_MS) + 1) * DAY_MS - 1);
    }

    fn metric(&mut self, name: &str) -> Arc<str> {
        if let Some((known, ())) = self.metrics.get_key_value(name) {
            return known.clone();
        }
        let name: Arc<str> = Arc::from(name);
        self.metrics.insert(name.clone(), ());
        name
    }

    /// The series has samples between the two times, inclusive.
    pub(crate) fn saw(&mut self, id: SeriesId, first_ms: i64, last_ms: i64) {
        if let Some(entry) = self.get_mut(id) {
            entry.first_ms = entry.first_ms.min(first_ms);
            entry.last_ms = entry.last_ms.max(last_ms);
        }
    }

    /// Takes note of a sample about to be stored, and says whether it may have been stored before.
    pub(crate) fn stage(&mut self, id: SeriesId, time_ms: i64) -> Staged {
        let Some(entry) = self.get_mut(id) else { return Staged::New };
        let late = time_ms <= entry.last_ms;
        if late && entry.recent_ms.contains(&time_ms) {
            return Staged::Known;
        }
        entry.note(time_ms);
        if late { Staged::Late } else { Staged::New }
    }

    /// Takes note of an exemplar, and says whether it differs from its series' newest.
    pub(crate) fn is_new_exemplar(&mut self, id: SeriesId, exemplar: &Exemplar) -> bool {
        let this = Some((exemplar.time_ms, exemplar.value.to_bits()));
        self.get_mut(id).is_none_or(|entry| std::mem::replace(&mut entry.exemplar, this) != this)
    }

    pub(crate) fn add_histogram_metric(&mut self, metric: &Arc<str>) {
        if !self.histogram_metrics.contains(metric) {
            self.histogram_metrics.insert(metric.clone());
        }
    }

    /// Whether the series may have native histograms.
    pub(crate) fn may_have_histograms(&self, id: SeriesId) -> bool {
        !self.histogram_metrics.is_empty()
            && self.get(id).is_some_and(|entry| self.histogram_metrics.contains(&entry.metric))
    }

    /// Takes note of a sample that is stored.
    pub(crate) fn recall(&mut self, id: SeriesId, time_ms: i64) {
        if let Some(entry) = self.get_mut(id) {
            entry.note(time_ms);
        }
    }

    /// The sample was not stored after all.
    pub(crate) fn unstage(&mut self, id: SeriesId, time_ms: i64) {
        if let Some(entry) = self.get_mut(id) {
            entry.recent_ms.iter_mut().filter(|known| **known == time_ms).for_each(|known| *known = i64::MIN);
        }
    }

    /// The series' row was not stored after all.
    pub(crate) fn unstage_row(&mut self, id: SeriesId) {
        if let Some(entry) = self.get_mut(id) {
            entry.days = (i64::MAX, i64::MIN);
        }
    }

    fn get_mut(&mut self, id: SeriesId) -> Option<&mut Entry> {
        self.by_id.get(&id).and_then(|ordinal| self.entries.get_mut(*ordinal as usize))
    }

    /// The series that have samples in `range`, as far as a day tells, and fulfil all `matchers`.
    pub(crate) fn select(
        &self,
        matchers: &[LabelMatcher],
        range: TimeRange,
    ) -> Result<Vec<&Entry>, StorageError> {
        let conditions = matchers.iter().map(Condition::new).collect::<Result<Vec<_>, _>>()?;
        let mut candidates: Option<Vec<Ordinal>> = None;
        for condition in conditions.iter().filter(|condition| !condition.matches("")) {
            let found = self.having(condition);
            candidates = Some(match candidates {
                Some(known) => intersection(&known, &found),
                None => found,
            });
        }
        let open: Vec<&Condition<'_>> = conditions.iter().filter(|condition| condition.matches("")).collect();
        let fits = |entry: &&Entry| {
            entry.overlaps(range)
                && open.iter().all(|condition| condition.matches(entry.labels.get(condition.name)))
        };
        Ok(match candidates {
            Some(ordinals) => ordinals
                .iter()
                .filter_map(|ordinal| self.entries.get(*ordinal as usize))
                .filter(fits)
                .collect(),
            None => self.entries.iter().filter(fits).collect(),
        })
    }

    /// The series whose label fulfils a condition that the empty value does not.
    fn having(&self, condition: &Condition<'_>) -> Vec<Ordinal> {
        let Some(values) = self.postings.get(condition.name) else { return Vec::new() };
        if let Test::Equal(value) = condition.test {
            return values.get(value).cloned().unwrap_or_default();
        }
        let mut found: Vec<Ordinal> = values
            .iter()
            .filter(|(value, _)| condition.matches(value))
            .flat_map(|(_, series)| series.iter().copied())
            .collect();
        found.sort_unstable();
        found
    }

    pub(crate) fn label_names(
        &self,
        matchers: &[LabelMatcher],
        range: TimeRange,
    ) -> Result<Vec<String>, StorageError> {
        let mut names = BTreeSet::new();
        for entry in self.select(matchers, range)? {
            names.extend(entry.labels.iter().map(|(name, _)| name));
        }
        Ok(names.into_iter().map(str::to_string).collect())
    }

    pub(crate) fn label_values(
        &self,
        name: &str,
        matchers: &[LabelMatcher],
        range: TimeRange,
    ) -> Result<Vec<String>, StorageError> {
        let values: BTreeSet<&str> =
            self.select(matchers, range)?.iter().map(|entry| entry.labels.get(name)).collect();
        Ok(values.into_iter().filter(|value| !value.is_empty()).map(str::to_string).collect())
    }

    pub(crate) fn metadata(&self) -> &BTreeMap<String, MetricMetadata> {
        &self.metadata
    }

    pub(crate) fn set_metadata(&mut self, metadata: &MetricMetadata) {
        if self.metadata.get(&metadata.family) != Some(metadata) {
            self.metadata.insert(metadata.family.clone(), metadata.clone());
        }
    }
}

fn intersection(left: &[Ordinal], right: &[Ordinal]) -> Vec<Ordinal> {
    let (few, many) = if left.len() <= right.len() { (left, right) } else { (right, left) };
    few.iter().copied().filter(|ordinal| many.binary_search(ordinal).is_ok()).collect()
}

/// A matcher made ready.
struct Condition<'a> {
    name: &'a str,
    test: Test<'a>,
}

enum Test<'a> {
    Equal(&'a str),
    NotEqual(&'a str),
    Regex(Regex),
    NotRegex(Regex),
}

impl<'a> Condition<'a> {
    fn new(matcher: &'a LabelMatcher) -> Result<Condition<'a>, StorageError> {
        // Prometheus: anchored at both ends, and the dot matches line breaks too.
        let regex = || {
            Regex::new(&format!("^(?s:{})$", matcher.value)).map_err(|error| StorageError::Matcher {
                matcher: matcher.to_string(),
                message: error.to_string(),
            })
        };
        let test = match matcher.op {
            MatchOp::Equal => Test::Equal(&matcher.value),
            MatchOp::NotEqual => Test::NotEqual(&matcher.value),
            MatchOp::Regex => Test::Regex(regex()?),
            MatchOp::NotRegex => Test::NotRegex(regex()?),
        };
        Ok(Condition { name: &matcher.name, test })
    }

    fn matches(&self, value: &str) -> bool {
        match &self.test {
            Test::Equal(wanted) => value == *wanted,
            Test::NotEqual(wanted) => value != *wanted,
            Test::Regex(regex) => regex.is_match(value),
            Test::NotRegex(regex) => !regex.is_match(value),
        }
    }
}

#[cfg(test)]
mod tests;

//! All series known, in memory: found by label through postings, and by id.

mod cardinality;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use hashbrown::{HashMap, HashSet};
use pharos_model::{
    EDGE_METRICS, EdgeKey, EdgeMeasure, Exemplar, Labels, METRIC_NAME, Matcher, MetricMetadata, SeriesId,
    Symbol, TimeRange, edge_of_series,
};
use roaring::RoaringBitmap;

pub use cardinality::{Cardinality, Count};

use crate::rows::SeriesRow;

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
    pub(crate) edge: Option<EdgeRole>,
    first_ms: i64,
    last_ms: i64,
    /// Of the newest sample that came in; later ones cannot be known.
    newest_ms: i64,
    /// The UTC days between which, inclusive, the series has rows in the table `series`.
    days: (i32, i32),
    /// Time and value of the newest exemplar.
    exemplar: Option<Box<(i64, u64)>>,
}

/// A resend after a lost acknowledgement is a sender's last batch, which rarely has more of a series.
const RECENT_HISTOGRAMS: usize = 6;

fn day(time_ms: i64) -> i32 {
    i32::try_from(time_ms.div_euclid(DAY_MS)).unwrap_or(i32::MAX)
}

impl Entry {
    pub(crate) fn metric(&self) -> &str {
        self.labels.metric_name()
    }

    /// Whether the series' row for the day of `time_ms` has been written.
    pub(crate) fn has_day(&self, time_ms: i64) -> bool {
        (self.days.0..=self.days.1).contains(&day(time_ms))
    }

    fn note(&mut self, time_ms: i64) {
        self.newest_ms = self.newest_ms.max(time_ms);
        self.saw(time_ms, time_ms);
    }

    fn saw(&mut self, first_ms: i64, last_ms: i64) {
        self.first_ms = self.first_ms.min(first_ms);
        self.last_ms = self.last_ms.max(last_ms);
    }

    /// Whether a sample of that time or a later one came in since the start.
    pub(crate) fn came_in_since(&self, time_ms: i64) -> bool {
        self.newest_ms >= time_ms
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
    /// Stored before, or late.
    Late,
    /// At the time of the newest, which is stored.
    Known,
}

/// A series' number within this process. It is given to another series only after the series was forgotten.
pub(crate) type Ordinal = u32;

#[derive(Default)]
pub(crate) struct SeriesIndex {
    /// By ordinal.
    entries: Vec<Option<Entry>>,
    free: Vec<Ordinal>,
    by_id: HashMap<SeriesId, Ordinal>,
    /// Label name, then value, then the series that have it.
    postings: HashMap<Symbol, HashMap<Symbol, RoaringBitmap>>,
    /// Names of the metrics that have native histograms.
    histogram_metrics: HashSet<Arc<str>>,
    /// Times of the newest native histograms of a series, by which a resend is recognised.
    recent_histograms: HashMap<Ordinal, [i64; RECENT_HISTOGRAMS]>,
    edge_keys: HashMap<SeriesId, Arc<EdgeKey>>,
    metadata: BTreeMap<String, MetricMetadata>,
}

impl SeriesIndex {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn ordinal(&self, id: SeriesId) -> Option<Ordinal> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn entry(&self, ordinal: Ordinal) -> Option<&Entry> {
        self.entries.get(ordinal as usize)?.as_ref()
    }

    fn entry_mut(&mut self, ordinal: Ordinal) -> Option<&mut Entry> {
        self.entries.get_mut(ordinal as usize)?.as_mut()
    }

    /// The series that tell of edges and have samples in `range`, in the order of `select`.
    pub(crate) fn edge_series(&self, range: TimeRange) -> Vec<(SeriesId, EdgeRole)> {
        let found = self.select(&[Matcher::one_of(METRIC_NAME, EDGE_METRICS)], range);
        found.into_iter().filter_map(|(_, entry)| Some((entry.id, entry.edge.clone()?))).collect()
    }

    pub(crate) fn get(&self, id: SeriesId) -> Option<&Entry> {
        self.entry(self.ordinal(id)?)
    }

    /// Takes in a row of the table `series`.
    pub(crate) fn insert(&mut self, row: &SeriesRow) -> Ordinal {
        let day = day(row.first_ms);
        if let Some(metadata) = &row.metadata {
            self.metadata.insert(metadata.family.clone(), metadata.clone());
        }
        if let Some(ordinal) = self.ordinal(row.series) {
            if let Some(entry) = self.entry_mut(ordinal) {
                entry.days = (entry.days.0.min(day), entry.days.1.max(day));
                entry.saw(row.first_ms, row.first_ms);
            }
            return ordinal;
        }
        let edge = edge_of_series(&row.labels).map(|(key, measure, bound)| {
            let key = self.edge_keys.entry(key.series).or_insert_with(|| Arc::new(key)).clone();
            EdgeRole { key, measure, bound }
        });
        let ordinal = self.free.pop().unwrap_or(self.entries.len() as Ordinal);
        for (name, value) in row.labels.symbols() {
            let values = self.postings.entry_ref(name).or_default();
            values.entry_ref(value).or_default().insert(ordinal);
        }
        self.by_id.insert(row.series, ordinal);
        let entry = Some(Entry {
            id: row.series,
            labels: row.labels.clone(),
            edge,
            first_ms: row.first_ms,
            last_ms: row.first_ms,
            newest_ms: i64::MIN,
            days: (day, day),
            exemplar: None,
        });
        match self.entries.get_mut(ordinal as usize) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
        ordinal
    }

    /// Forgets the series that have no sample since then, but for those that `is_needed`.
    pub(crate) fn forget_before(&mut self, time_ms: i64, is_needed: impl Fn(Ordinal) -> bool) {
        let mut forgotten = RoaringBitmap::new();
        for (ordinal, place) in self.entries.iter_mut().enumerate() {
            let ordinal = ordinal as Ordinal;
            if let Some(entry) = place.take_if(|entry| entry.last_ms < time_ms && !is_needed(ordinal)) {
                self.by_id.remove(&entry.id);
                forgotten.insert(ordinal);
            }
        }
        self.free.extend(&forgotten);
        self.postings.retain(|_, values| {
            values.retain(|_, series| {
                *series -= &forgotten;
                !series.is_empty()
            });
            !values.is_empty()
        });
        self.edge_keys.retain(|_, key| Arc::strong_count(key) > 1);
        self.recent_histograms.retain(|ordinal, _| !forgotten.contains(*ordinal));
    }

    /// A series read back from a file: its samples of that day may reach to the day's end.
    pub(crate) fn insert_stored(&mut self, row: &SeriesRow) {
        let ordinal = self.insert(row);
        if let Some(entry) = self.entry_mut(ordinal) {
            entry.saw(row.first_ms, (row.first_ms.div_euclid(DAY_MS) + 1) * DAY_MS - 1);
        }
    }

    /// Takes note of a sample about to be stored, and says whether it may have been stored before.
    pub(crate) fn stage(&mut self, ordinal: Ordinal, time_ms: i64) -> Staged {
        let Some(entry) = self.entry_mut(ordinal) else { return Staged::Late };
        if time_ms == entry.newest_ms {
            return Staged::Known;
        }
        let late = time_ms < entry.newest_ms;
        entry.note(time_ms);
        if late { Staged::Late } else { Staged::New }
    }

    /// Takes note of an exemplar, and says whether it differs from its series' newest.
    pub(crate) fn is_new_exemplar(&mut self, ordinal: Ordinal, exemplar: &Exemplar) -> bool {
        let this = Some(Box::new((exemplar.time_ms, exemplar.value.to_bits())));
        self.entry_mut(ordinal).is_none_or(|entry| {
            let new = entry.exemplar != this;
            if new {
                entry.exemplar = this;
            }
            new
        })
    }

    pub(crate) fn add_histogram_metric(&mut self, metric: &Arc<str>) {
        if !self.histogram_metrics.contains(metric) {
            self.histogram_metrics.insert(metric.clone());
        }
    }

    /// Whether the series may have native histograms.
    pub(crate) fn may_have_histograms(&self, id: SeriesId) -> bool {
        !self.histogram_metrics.is_empty()
            && self.get(id).is_some_and(|entry| self.histogram_metrics.contains(entry.metric()))
    }

    /// Takes note of a native histogram that is stored or about to be.
    pub(crate) fn recall_histogram(&mut self, id: SeriesId, time_ms: i64) {
        let Some(ordinal) = self.ordinal(id) else { return };
        self.recall(ordinal, time_ms);
        let recent = self.recent_histograms.entry(ordinal).or_insert([i64::MIN; RECENT_HISTOGRAMS]);
        if let Some(oldest) = recent.iter_mut().min() {
            *oldest = (*oldest).max(time_ms);
        }
    }

    /// Whether a native histogram is among the newest of its series.
    pub(crate) fn has_histogram(&self, ordinal: Ordinal, time_ms: i64) -> bool {
        self.recent_histograms.get(&ordinal).is_some_and(|recent| recent.contains(&time_ms))
    }

    pub(crate) fn unstage_histogram(&mut self, id: SeriesId, time_ms: i64) {
        let Some(ordinal) = self.ordinal(id) else { return };
        self.unstage(ordinal, time_ms);
        if let Some(recent) = self.recent_histograms.get_mut(&ordinal) {
            recent.iter_mut().filter(|known| **known == time_ms).for_each(|known| *known = i64::MIN);
        }
    }

    /// Takes note of a sample that is stored.
    pub(crate) fn recall(&mut self, ordinal: Ordinal, time_ms: i64) {
        if let Some(entry) = self.entry_mut(ordinal) {
            entry.note(time_ms);
        }
    }

    /// The sample was not stored after all.
    pub(crate) fn unstage(&mut self, ordinal: Ordinal, time_ms: i64) {
        if let Some(entry) = self.entry_mut(ordinal) {
            entry.newest_ms = entry.newest_ms.min(time_ms.saturating_sub(1));
        }
    }

    /// The series' row was not stored after all.
    pub(crate) fn unstage_row(&mut self, id: SeriesId) {
        if let Some(ordinal) = self.ordinal(id)
            && let Some(entry) = self.entry_mut(ordinal)
        {
            entry.days = (i32::MAX, i32::MIN);
        }
    }

    /// The series that have samples in `range`, as far as a day tells, and fulfil all `matchers`: in the order of
    /// the table's files, by metric and id.
    pub(crate) fn select(&self, matchers: &[Matcher], range: TimeRange) -> Vec<(Ordinal, &Entry)> {
        let having =
            matchers.iter().filter(|matcher| !matcher.matches("")).map(|matcher| self.having(matcher));
        let mut having: Vec<Cow<'_, RoaringBitmap>> = having.collect();
        // What is left is never more than the least of them.
        having.sort_unstable_by_key(|found| found.len());
        let having = having.into_iter().reduce(|some, others| Cow::Owned(&*some & &*others));
        let candidates = having.map(Cow::into_owned);
        // Those that an absent label fulfils too: all series but the ones with a value that does not.
        let mut excluded = RoaringBitmap::new();
        for matcher in matchers.iter().filter(|matcher| matcher.matches("")) {
            excluded |= self.failing(matcher);
        }
        let all = 0..self.entries.len() as Ordinal;
        let ordinals: Box<dyn Iterator<Item = Ordinal>> = match candidates {
            Some(ordinals) => Box::new((ordinals - excluded).into_iter()),
            None => Box::new(all.filter(move |ordinal| !excluded.contains(*ordinal))),
        };
        let found = ordinals.filter_map(|ordinal| Some((ordinal, self.entry(ordinal)?)));
        let found = found.filter(|(_, entry)| entry.overlaps(range));
        let has_one_name = matchers.iter().any(|matcher| {
            matcher.name() == METRIC_NAME && matcher.exact_values().is_some_and(|names| names.len() == 1)
        });
        if has_one_name {
            // The ids beside: entries lie far apart.
            let mut found: Vec<_> = found.map(|series| (series.1.id.to_i64(), series)).collect();
            found.sort_unstable_by_key(|(id, _)| *id);
            return found.into_iter().map(|(_, series)| series).collect();
        }
        let mut found: Vec<_> = found.collect();
        let name_of = |entry: &Entry| entry.labels.symbol(METRIC_NAME);
        let names: HashSet<Symbol> = found.iter().filter_map(|(_, entry)| name_of(entry)).collect();
        let mut names: Vec<Symbol> = names.into_iter().collect();
        names.sort_unstable();
        let ranks: HashMap<Symbol, usize> = names.into_iter().zip(1..).collect();
        let rank = |entry: &Entry| name_of(entry).and_then(|name| ranks.get(&name).copied()).unwrap_or(0);
        found.sort_by_cached_key(|(_, entry)| (rank(entry), entry.id.to_i64()));
        found
    }

    /// The series whose label fulfils a matcher that the empty value does not.
    fn having(&self, matcher: &Matcher) -> Cow<'_, RoaringBitmap> {
        let Some(values) = self.postings.get(&Symbol::new(matcher.name())) else {
            return Cow::Owned(RoaringBitmap::new());
        };
        match matcher.exact_values().as_deref() {
            Some([value]) => values.get(&Symbol::new(value)).map(Cow::Borrowed).unwrap_or_default(),
            Some(wanted) => {
                Cow::Owned(union(wanted.iter().filter_map(|value| values.get(&Symbol::new(value)))))
            }
            None => Cow::Owned(union(
                values.iter().filter(|(value, _)| matcher.matches(value)).map(|(_, series)| series),
            )),
        }
    }

    /// The series that have the label, with a value that does not fulfil the matcher.
    fn failing(&self, matcher: &Matcher) -> RoaringBitmap {
        let Some(values) = self.postings.get(&Symbol::new(matcher.name())) else {
            return RoaringBitmap::new();
        };
        union(values.iter().filter(|(value, _)| !matcher.matches(value)).map(|(_, series)| series))
    }

    pub(crate) fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Vec<String> {
        let shapes: HashSet<_> =
            self.select(matchers, range).iter().map(|(_, entry)| entry.labels.shape()).collect();
        let names: HashSet<&Symbol> = shapes.iter().flat_map(|shape| shape.names()).collect();
        sorted_texts(names)
    }

    pub(crate) fn label_values(&self, name: &str, matchers: &[Matcher], range: TimeRange) -> Vec<String> {
        let series = self.select(matchers, range);
        let values: HashSet<Symbol> =
            series.iter().filter_map(|(_, entry)| entry.labels.symbol(name)).collect();
        sorted_texts(values.iter().collect())
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

fn union<'a>(sets: impl Iterator<Item = &'a RoaringBitmap>) -> RoaringBitmap {
    sets.fold(RoaringBitmap::new(), |all, set| all | set)
}

fn sorted_texts(symbols: HashSet<&Symbol>) -> Vec<String> {
    let mut texts: Vec<String> = symbols.into_iter().map(|symbol| symbol.to_string()).collect();
    texts.sort_unstable();
    texts
}

#[cfg(test)]
mod tests;

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde::{Deserialize, Serialize};
use triomphe::{Arc, ThinArc};

use crate::{SeriesId, Shape, Symbol};

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A label set: sorted by name, no name twice, no empty value (Prometheus: an empty label is an absent one).
///
/// A clone counts references; equality and hash touch no text. Order is that of the text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(
    from = "std::collections::BTreeMap<String, String>",
    into = "std::collections::BTreeMap<String, String>"
)]
pub struct Labels {
    all: ThinArc<Head, Symbol>,
    /// Those of `all` that are meant, if it is not every one of them.
    chosen: Option<Projection>,
}

struct Head {
    shape: Shape,
    /// The series id, once someone has asked for it; 0 before.
    id: AtomicU64,
}

/// A choice of labels, worked out once for all label sets of one shape. A clone counts a reference.
#[derive(Clone)]
pub struct Projection(Arc<Places>);

struct Places {
    from: Shape,
    /// Where the chosen labels are in `from`.
    places: Box<[usize]>,
    to: Shape,
}

impl Projection {
    pub fn new(from: &Shape, chosen: impl Fn(&str) -> bool) -> Projection {
        let (places, names): (Vec<usize>, Vec<Symbol>) =
            from.names().iter().cloned().enumerate().filter(|(_, name)| chosen(name)).unzip();
        Projection(Arc::new(Places { from: from.clone(), places: places.into(), to: Shape::new(&names) }))
    }

    /// The shape of the label sets that it chooses from.
    pub fn from(&self) -> &Shape {
        &self.0.from
    }

    /// Where the chosen labels are in the shape.
    pub fn places(&self) -> &[usize] {
        &self.0.places
    }

    /// The chosen labels' names.
    pub fn shape(&self) -> &Shape {
        &self.0.to
    }
}

impl Labels {
    pub fn empty() -> Labels {
        static EMPTY: LazyLock<Labels> = LazyLock::new(|| Labels::new(Shape::new(&[]), &[]));
        EMPTY.clone()
    }

    fn new(shape: Shape, values: &[Symbol]) -> Labels {
        let head = Head { shape, id: AtomicU64::new(0) };
        Labels { all: ThinArc::from_header_and_iter(head, values.iter().cloned()), chosen: None }
    }

    fn from_symbols(pairs: impl Iterator<Item = (Symbol, Symbol)>) -> Labels {
        let (names, values): (Vec<Symbol>, Vec<Symbol>) = pairs.unzip();
        if names.is_empty() { Labels::empty() } else { Labels::new(Shape::new(&names), &values) }
    }

    /// Sorts and drops empty values. Of a name that occurs twice the last value stays.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Labels {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        pairs.reverse();
        pairs.dedup_by(|later, earlier| later.0.as_ref() == earlier.0.as_ref());
        pairs.reverse();
        pairs.retain(|(_, value)| !value.as_ref().is_empty());
        Labels::from_symbols(
            pairs.iter().map(|(name, value)| (Symbol::new(name.as_ref()), Symbol::new(value.as_ref()))),
        )
    }

    /// The value, or `""` for an absent label: what matchers see.
    pub fn get(&self, name: &str) -> &str {
        self.symbol_of(name).map_or("", Symbol::as_str)
    }

    /// The value's symbol, to be kept or compared.
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.symbol_of(name).cloned()
    }

    fn symbol_of(&self, name: &str) -> Option<&Symbol> {
        self.shape().position(name).and_then(|at| self.values().nth(at))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.shape().position(name).is_some()
    }

    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.symbols().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The pairs by name, uninterpreted: equal symbols are equal texts.
    pub fn symbols(&self) -> impl ExactSizeIterator<Item = (&Symbol, &Symbol)> + Clone {
        self.shape().names().iter().zip(self.values())
    }

    /// The names. Label sets with the same names have the same shape, so that a label's place is looked for once
    /// for all of them.
    pub fn shape(&self) -> &Shape {
        match &self.chosen {
            Some(chosen) => chosen.shape(),
            None => &self.all.header.header.shape,
        }
    }

    /// By place in the shape.
    pub fn values(&self) -> Values<'_> {
        Values { all: &self.all.slice, chosen: self.chosen.as_ref().map(Projection::places), at: 0 }
    }

    pub fn len(&self) -> usize {
        self.values().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets the label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: impl AsRef<str>) {
        let value = value.as_ref();
        let at = self.shape().names().partition_point(|known| known.as_str() < name);
        let mut pairs: Vec<(Symbol, Symbol)> =
            self.symbols().map(|(name, value)| (name.clone(), value.clone())).collect();
        let known = pairs.get(at).is_some_and(|(known, _)| known.as_str() == name);
        if known {
            pairs.remove(at);
        }
        if !value.is_empty() {
            pairs.insert(at, (Symbol::new(name), Symbol::new(value)));
        } else if !known {
            return;
        }
        *self = Labels::from_symbols(pairs.into_iter());
    }

    pub fn remove(&mut self, name: &str) {
        self.set(name, "");
    }

    #[must_use]
    pub fn without(&self, names: &[&str]) -> Labels {
        self.filter(|name| !names.contains(&name))
    }

    /// The labels whose name is chosen.
    #[must_use]
    pub fn filter(&self, chosen: impl Fn(&str) -> bool) -> Labels {
        if self.shape().names().iter().all(|name| chosen(name)) {
            return self.clone();
        }
        let pairs = self.symbols().filter(|(name, _)| chosen(name));
        Labels::from_symbols(pairs.map(|(name, value)| (name.clone(), value.clone())))
    }

    /// The labels that the projection chooses. They are not copied, unless from a choice: what they are chosen from
    /// lives as long.
    #[must_use]
    pub fn project(&self, projection: &Projection) -> Labels {
        if self.shape() != projection.from() {
            return self.filter(|name| projection.shape().position(name).is_some());
        }
        if projection.places().len() == self.len() {
            return self.clone();
        }
        if self.chosen.is_some() {
            let values = projection.places().iter().filter_map(|place| self.values().nth(*place));
            return Labels::new(projection.shape().clone(), &values.cloned().collect::<Vec<_>>());
        }
        Labels { all: self.all.clone(), chosen: Some(projection.clone()) }
    }

    pub fn series_id(&self) -> SeriesId {
        let known = &self.all.header.header.id;
        match known.load(Relaxed) {
            _ if self.chosen.is_some() => SeriesId::of_pairs(self.iter()),
            0 => {
                let id = SeriesId::of_pairs(self.iter());
                known.store(id.0, Relaxed);
                id
            }
            id => SeriesId(id),
        }
    }

    /// The identity that remains when `names` are left out: what the buckets of one histogram share.
    pub fn series_id_without(&self, names: &[&str]) -> SeriesId {
        SeriesId::of_pairs(self.iter().filter(|(name, _)| !names.contains(name)))
    }
}

/// The values of labels by place in their shape.
#[derive(Clone)]
pub struct Values<'a> {
    all: &'a [Symbol],
    /// Places of those that are meant, if it is not every one.
    chosen: Option<&'a [usize]>,
    at: usize,
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a Symbol;

    #[inline]
    fn next(&mut self) -> Option<&'a Symbol> {
        self.nth(0)
    }

    #[inline]
    fn nth(&mut self, skipped: usize) -> Option<&'a Symbol> {
        let at = self.at.saturating_add(skipped);
        self.at = at.saturating_add(1);
        match self.chosen {
            Some(places) => self.all.get(*places.get(at)?),
            None => self.all.get(at),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.chosen.map_or(self.all.len(), <[usize]>::len).saturating_sub(self.at);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Values<'_> {}

impl Default for Labels {
    fn default() -> Labels {
        Labels::empty()
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Labels) -> bool {
        let same_values = || self.all.ptr() == other.all.ptr() || self.values().eq(other.values());
        self.shape() == other.shape() && same_values()
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shape().hash(state);
        self.values().for_each(|value| value.hash(state));
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Labels) -> Ordering {
        if self.shape() == other.shape() {
            self.values().cmp(other.values())
        } else {
            self.symbols().cmp(other.symbols())
        }
    }
}

/// As Prometheus prints a series: `name{label="value", …}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric_name())?;
        let mut others = self.iter().filter(|(name, _)| *name != METRIC_NAME).peekable();
        if others.peek().is_none() {
            return if self.metric_name().is_empty() { f.write_str("{}") } else { Ok(()) };
        }
        f.write_str("{")?;
        for (index, (name, value)) in others.enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<std::collections::BTreeMap<String, String>> for Labels {
    fn from(map: std::collections::BTreeMap<String, String>) -> Labels {
        Labels::from_pairs(map)
    }
}

impl From<Labels> for std::collections::BTreeMap<String, String> {
    fn from(labels: Labels) -> std::collections::BTreeMap<String, String> {
        labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Labels {
        Labels::from_pairs(pairs)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    #[test]
    fn an_empty_label_is_an_absent_one_and_the_last_value_of_a_name_stays() {
        let mut labels = Labels::from_pairs([("b", "2"), ("__name__", "up"), ("b", "3"), ("a", "")]);
        assert_eq!(labels.to_string(), r#"up{b="3"}"#);
        assert_eq!((labels.get("a"), labels.contains("a")), ("", false));
        labels.set("a", "1");
        labels.set("b", "");
        assert_eq!(labels.to_string(), r#"up{a="1"}"#);
        assert_eq!(labels.series_id(), Labels::from_pairs([("a", "1"), ("__name__", "up")]).series_id());
        assert_ne!(labels.series_id(), Labels::from_pairs([("a", "1u"), ("__name__", "p")]).series_id());
        assert_eq!(Labels::empty().to_string(), "{}");
    }

    #[test]
    fn chosen_labels_are_like_any_others() {
        let all = Labels::from_pairs([("__name__", "up"), ("a", "1"), ("b", "2"), ("c", "3")]);
        let choice = |chosen: &[&str]| Projection::new(all.shape(), |name| chosen.contains(&name));
        let hasher = RandomState::new();
        for chosen in [&["a", "c"][..], &["__name__", "b", "z"], &["__name__", "a", "b", "c"], &[]] {
            let alike = Labels::from_pairs(all.iter().filter(|(name, _)| chosen.contains(name)));
            let labels = all.project(&choice(chosen));
            assert_eq!(labels, alike);
            assert_eq!(labels.cmp(&alike), Ordering::Equal);
            assert_eq!(labels.series_id(), alike.series_id());
            assert_eq!((labels.len(), labels.is_empty()), (alike.len(), alike.is_empty()));
            assert_eq!(hasher.hash_one(&labels), hasher.hash_one(&alike));
            for (name, _) in all.iter() {
                assert_eq!(
                    (labels.get(name), labels.contains(name)),
                    (alike.get(name), alike.contains(name))
                );
            }
            let again = labels.project(&Projection::new(labels.shape(), |name| name == "a"));
            assert_eq!(again, alike.filter(|name| name == "a"));
            let (mut labels, mut alike) = (labels, alike);
            labels.set("b", "new");
            alike.set("b", "new");
            assert_eq!(labels, alike);
            assert_eq!(labels.without(&["b"]), alike.without(&["b"]));
        }
        let (one, other) = (all.project(&choice(&["a"])), all.project(&choice(&["b"])));
        assert_ne!(one, other);
        assert_eq!(one.cmp(&other), Ordering::Less);
    }
}

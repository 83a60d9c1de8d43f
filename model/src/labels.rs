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
use triomphe::ThinArc;

use crate::{SeriesId, Shape, Symbol};

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A label set: sorted by name, no name twice, no empty value (Prometheus: an empty label is an absent one).
///
/// One pointer wide. A clone counts a reference; equality and hash touch no text. Order is that of the text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(
    from = "std::collections::BTreeMap<String, String>",
    into = "std::collections::BTreeMap<String, String>"
)]
pub struct Labels(ThinArc<Head, Symbol>);

struct Head {
    shape: Shape,
    /// The series id, once someone has asked for it; 0 before.
    id: AtomicU64,
}

/// A choice of labels, worked out once for all label sets of one shape.
#[derive(Clone)]
pub struct Projection {
    from: Shape,
    /// Where the chosen labels are in `from`.
    places: Box<[usize]>,
    to: Shape,
}

impl Projection {
    pub fn new(from: &Shape, chosen: impl Fn(&str) -> bool) -> Projection {
        let (places, names): (Vec<usize>, Vec<Symbol>) =
            from.names().iter().cloned().enumerate().filter(|(_, name)| chosen(name)).unzip();
        Projection { from: from.clone(), places: places.into(), to: Shape::new(&names) }
    }

    /// Where the chosen labels are in the shape.
    pub fn places(&self) -> &[usize] {
        &self.places
    }

    /// The chosen labels' names.
    pub fn shape(&self) -> &Shape {
        &self.to
    }
}

impl Labels {
    pub fn empty() -> Labels {
        static EMPTY: LazyLock<Labels> = LazyLock::new(|| Labels::new(Shape::new(&[]), &[]));
        EMPTY.clone()
    }

    fn new(shape: Shape, values: &[Symbol]) -> Labels {
        Labels(ThinArc::from_header_and_iter(Head { shape, id: AtomicU64::new(0) }, values.iter().cloned()))
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
        self.shape().position(name).and_then(|at| self.values().get(at)).map_or("", Symbol::as_str)
    }

    /// The value's symbol, to be kept or compared.
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.shape().position(name).and_then(|at| self.values().get(at)).cloned()
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
        &self.0.header.header.shape
    }

    /// By place in the shape.
    pub fn values(&self) -> &[Symbol] {
        &self.0.slice
    }

    pub fn len(&self) -> usize {
        self.values().len()
    }

    pub fn is_empty(&self) -> bool {
        self.values().is_empty()
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

    /// The labels that the projection chooses.
    #[must_use]
    pub fn project(&self, projection: &Projection) -> Labels {
        let values = self.values();
        if *self.shape() != projection.from {
            return self.filter(|name| projection.to.position(name).is_some());
        }
        if projection.places.len() == values.len() {
            return self.clone();
        }
        if projection.places.is_empty() {
            return Labels::empty();
        }
        let chosen = projection
            .places
            .iter()
            .map(|place| values.get(*place).cloned().unwrap_or_else(|| Symbol::new("")));
        let head = Head { shape: projection.to.clone(), id: AtomicU64::new(0) };
        Labels(ThinArc::from_header_and_iter(head, chosen))
    }

    pub fn series_id(&self) -> SeriesId {
        let known = &self.0.header.header.id;
        match known.load(Relaxed) {
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

impl Default for Labels {
    fn default() -> Labels {
        Labels::empty()
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Labels) -> bool {
        self.0.ptr() == other.0.ptr() || (self.shape() == other.shape() && self.values() == other.values())
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shape().hash(state);
        self.values().hash(state);
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
}

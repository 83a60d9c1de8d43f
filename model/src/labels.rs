use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A series' identity: a 64-bit hash of its sorted labels, the same on every machine and in every release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeriesId(pub u64);

impl SeriesId {
    /// For columns: Delta has no unsigned integers.
    pub const fn to_i64(self) -> i64 {
        self.0 as i64
    }

    pub const fn from_i64(id: i64) -> SeriesId {
        SeriesId(id as u64)
    }
}

/// A label set: sorted by name, no name twice, no empty value (Prometheus: an empty label is an absent one).
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(
    from = "std::collections::BTreeMap<String, String>",
    into = "std::collections::BTreeMap<String, String>"
)]
pub struct Labels(Vec<(String, String)>);

impl Labels {
    pub fn empty() -> Labels {
        Labels::default()
    }

    /// Sorts and drops empty values. Of a name that occurs twice the last value stays.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Labels {
        let mut pairs: Vec<(String, String)> = pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.reverse();
        pairs.dedup_by(|later, earlier| later.0 == earlier.0);
        pairs.reverse();
        pairs.retain(|(_, value)| !value.is_empty());
        Labels(pairs)
    }

    /// The value, or `""` for an absent label: what matchers see.
    pub fn get(&self, name: &str) -> &str {
        match self.position(name) {
            Ok(index) => self.0.get(index).map_or("", |(_, value)| value),
            Err(_) => "",
        }
    }

    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets the label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match (self.position(name), value.is_empty()) {
            (Ok(index), true) => {
                self.0.remove(index);
            }
            (Ok(index), false) => {
                if let Some(pair) = self.0.get_mut(index) {
                    pair.1 = value;
                }
            }
            (Err(_), true) => {}
            (Err(index), false) => self.0.insert(index, (name.to_string(), value)),
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.set(name, "");
    }

    #[must_use]
    pub fn without(&self, names: &[&str]) -> Labels {
        Labels(self.0.iter().filter(|(name, _)| !names.contains(&name.as_str())).cloned().collect())
    }

    pub fn series_id(&self) -> SeriesId {
        SeriesId(hash_pairs(self.iter()))
    }

    /// The identity that remains when `names` are left out: what the buckets of one histogram share.
    pub fn series_id_without(&self, names: &[&str]) -> SeriesId {
        SeriesId(hash_pairs(self.iter().filter(|(name, _)| !names.contains(name))))
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }
}

/// 0xFF is in no UTF-8 text, so no two label sets feed the hash the same bytes.
fn hash_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    let mut hash = Xxh3::new();
    for (name, value) in pairs {
        hash.update(name.as_bytes());
        hash.update(&[0xff]);
        hash.update(value.as_bytes());
        hash.update(&[0xff]);
    }
    hash.digest()
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
        labels.0.into_iter().collect()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Labels {
        Labels::from_pairs(pairs)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, fully anchored
    Regex,
    /// `!~`, fully anchored
    NotRegex,
}

impl MatchOp {
    pub fn symbol(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// A condition on one label, as written. An absent label has the value `""`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LabelMatcher {
    pub name: String,
    pub op: MatchOp,
    pub value: String,
}

impl LabelMatcher {
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> LabelMatcher {
        LabelMatcher { name: name.into(), op, value: value.into() }
    }

    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> LabelMatcher {
        LabelMatcher::new(name, MatchOp::Equal, value)
    }
}

impl fmt::Display for LabelMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.symbol(), self.value)
    }
}

impl PartialOrd for LabelMatcher {
    fn partial_cmp(&self, other: &LabelMatcher) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LabelMatcher {
    fn cmp(&self, other: &LabelMatcher) -> Ordering {
        (&self.name, self.op.symbol(), &self.value).cmp(&(&other.name, other.op.symbol(), &other.value))
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

use pharos_model::METRIC_NAME;

use super::SeriesIndex;

/// A name and how much there is of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    pub name: String,
    pub count: u64,
}

/// Where the series' number comes from: for each question the names with the highest counts, highest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cardinality {
    pub series: u64,
    /// Different pairs of name and value.
    pub label_pairs: u64,
    /// Series by metric.
    pub series_of_metric: Vec<Count>,
    /// Different values by label.
    pub values_of_label: Vec<Count>,
    /// Bytes of the values' text by label, each once.
    pub bytes_of_label: Vec<Count>,
    /// Series by pair, `name=value`.
    pub series_of_pair: Vec<Count>,
    /// Times of the samples that no file holds yet, in milliseconds since 1970, inclusive.
    pub head_times_ms: Option<(i64, i64)>,
}

impl SeriesIndex {
    /// All but the head's times.
    pub(crate) fn cardinality(&self, limit: usize) -> Cardinality {
        let labels = || self.postings.iter();
        let pairs = labels().flat_map(|(name, values)| {
            values.iter().map(move |(value, series)| ((name, value), series.len()))
        });
        let metrics =
            labels().filter(|(name, _)| name.as_str() == METRIC_NAME).flat_map(|(_, values)| values);
        Cardinality {
            series: self.len() as u64,
            label_pairs: labels().map(|(_, values)| values.len() as u64).sum(),
            series_of_metric: highest(limit, metrics.map(|(name, series)| (name, series.len())), |name| {
                name.to_string()
            }),
            values_of_label: highest(
                limit,
                labels().map(|(name, values)| (name, values.len() as u64)),
                |name| name.to_string(),
            ),
            bytes_of_label: highest(
                limit,
                labels().map(|(name, values)| (name, values.keys().map(|value| value.len() as u64).sum())),
                |name| name.to_string(),
            ),
            series_of_pair: highest(limit, pairs, |(name, value)| {
                format!("{}={}", name.as_str(), value.as_str())
            }),
            head_times_ms: None,
        }
    }
}

fn highest<N: Ord>(
    limit: usize,
    counts: impl Iterator<Item = (N, u64)>,
    text: impl Fn(N) -> String,
) -> Vec<Count> {
    let mut counts: Vec<(N, u64)> = counts.collect();
    let order = |left: &(N, u64), right: &(N, u64)| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0));
    if limit < counts.len() {
        counts.select_nth_unstable_by(limit, order);
        counts.truncate(limit);
    }
    counts.sort_unstable_by(order);
    counts.into_iter().map(|(name, count)| Count { name: text(name), count }).collect()
}

//! What a target's exposition becomes: series with the target's labels, and what is known from scrape to scrape.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use hashbrown::HashMap;
use pharos_model::{
    Exemplar, HistogramSample, Labels, METRIC_NAME, MetricKind, MetricMetadata, NativeHistogram, Sample,
    TimeSeries, stale_nan,
};

use super::{
    config::{Histograms, Job},
    relabel::relabel,
};
use crate::exposition::{
    Body, Entry, ExemplarText, Format, HistogramForms, SampleLine, SampleValue, openmetrics_float,
    series_labels, unescape,
};
use crate::start_time::StartTimes;

/// The series of one target. A series that was seen before costs one look-up of its text: its labels are neither
/// parsed nor relabelled again.
#[derive(Default)]
pub(super) struct SeriesCache {
    /// By the series' text as the target writes it.
    known: HashMap<Box<str>, Known>,
    scrape: u64,
    /// Where counters get zeros at their start.
    start_times: Option<Arc<StartTimes>>,
}

/// What the series of a metric share, but for those labels that tell its parts apart: family and labels.
type MetricKey = Box<str>;

struct Known {
    /// Of a part of a metric whose start is told by a series of its own.
    metric: Option<MetricKey>,
    /// Empty when relabelling dropped the series.
    labels: Labels,
    last_scrape: u64,
    /// Whether it ends when a scrape lacks it. The target may give it times of its own: then it ends when the target
    /// says so.
    tracked: bool,
    /// Whether it has to end yet.
    live: bool,
}

/// A scrape that was read, or that could not be.
#[derive(Default)]
pub(super) struct Scraped {
    pub(super) series: Vec<TimeSeries>,
    /// Samples in the exposition, as far as it was read.
    pub(super) samples: usize,
    pub(super) after_relabel: usize,
    pub(super) added: usize,
    /// Samples that were left out: too far in the future, or a series' second one.
    pub(super) refused: usize,
    /// What the target says of its metrics, if there was anything new.
    pub(super) families: Vec<MetricMetadata>,
    /// Why nothing of it counts: then `series` are the ends of those known before.
    pub(super) fault: Option<String>,
}

/// When a scrape was made, and the latest time that it may tell of.
#[derive(Clone, Copy)]
pub(super) struct ScrapeTime {
    pub(super) ms: i64,
    pub(super) latest_ms: i64,
}

impl SeriesCache {
    pub(super) fn new(start_times: Option<Arc<StartTimes>>) -> SeriesCache {
        SeriesCache { start_times, ..SeriesCache::default() }
    }

    /// Reads an exposition; series that are gone since the last one end with a staleness marker.
    pub(super) fn read(
        &mut self,
        job: &Job,
        target: &Labels,
        body: &[u8],
        format: Format,
        time: ScrapeTime,
    ) -> Scraped {
        self.scrape += 1;
        let body = match Body::read(body, format) {
            Ok(body) => body,
            Err(error) => {
                let series = self.end_all(time.ms);
                return Scraped { series, fault: Some(shown(&error.to_string())), ..Scraped::default() };
            }
        };
        let mut reading = Reading {
            job,
            target,
            time,
            // In the plain text format a series of that name is one like others.
            starts_are_series: self.start_times.is_some() && format == Format::OpenMetrics,
            starts: HashMap::new(),
            waiting: Vec::new(),
            cache: self,
            scraped: Scraped::default(),
            families: HashMap::new(),
            fresh: Vec::new(),
            classic: BTreeMap::new(),
        };
        let forms =
            HistogramForms { native: job.histograms.native, always_classic: job.histograms.always_classic };
        let read = body.parse(forms, |entry| reading.take(entry));
        let read = read.map_err(|error| error.to_string()).and_then(|()| reading.convert_classic());
        reading.add_zeros();
        let Reading { mut scraped, families, fresh, .. } = reading;
        let limit = job.limits.samples;
        let fault = match read {
            Err(error) => Some(error),
            Ok(()) if limit > 0 && scraped.after_relabel > limit => Some(format!(
                "sample limit exceeded: {} samples are more than sample_limit {limit}",
                scraped.after_relabel
            )),
            Ok(()) => None,
        };
        if let Some(fault) = fault {
            for series in fresh {
                self.known.remove(&series);
            }
            return Scraped { series: self.end_all(time.ms), fault: Some(shown(&fault)), ..scraped };
        }
        if !fresh.is_empty() {
            scraped.families = families.iter().map(|(family, told)| told.metadata(family)).collect();
        }
        let gone = self.known.extract_if(|_, known| {
            let stays = known.last_scrape == self.scrape;
            if stays {
                known.live = known.tracked;
            }
            !stays
        });
        scraped.series.extend(gone.filter_map(|(_, known)| known.live.then(|| ended(known.labels, time.ms))));
        scraped
    }

    /// Ends every series: the target could not be scraped, or is gone. They stay known, so that they are no new ones
    /// when it is back.
    pub(super) fn end_all(&mut self, time_ms: i64) -> Vec<TimeSeries> {
        let live = self.known.values_mut().filter(|known| known.live);
        live.map(|known| {
            known.live = false;
            ended(known.labels.clone(), time_ms)
        })
        .collect()
    }
}

/// A fault is told with its beginning, which names the place, and its end, which says what is wrong; not with the
/// megabytes that a line between them may have.
fn shown(fault: &str) -> String {
    const START_CHARS: usize = 200;
    const END_CHARS: usize = 100;
    let start = fault.char_indices().nth(START_CHARS).map(|(at, _)| at);
    let end = fault.char_indices().rev().nth(END_CHARS).map(|(at, _)| at);
    match (start, end) {
        (Some(start), Some(end)) if start < end => {
            let part = |range: std::ops::Range<usize>| fault.get(range).unwrap_or_default();
            format!("{}…{}", part(0..start), part(end..fault.len()))
        }
        _ => fault.to_string(),
    }
}

/// A scrape while it is read.
struct Reading<'c, 'a> {
    job: &'c Job,
    target: &'c Labels,
    time: ScrapeTime,
    starts_are_series: bool,
    /// In milliseconds.
    starts: HashMap<MetricKey, i64>,
    /// Series that were read, by index, with the metric whose start they wait for.
    waiting: Vec<(usize, MetricKey)>,
    cache: &'c mut SeriesCache,
    scraped: Scraped,
    families: HashMap<&'a str, Family<'a>>,
    /// Series that were not known before.
    fresh: Vec<Box<str>>,
    /// Classic histograms that are to become native ones, by the text of the native series.
    classic: BTreeMap<String, ClassicParts>,
}

#[derive(Default)]
struct ClassicParts {
    /// Upper bounds with what lies at or below them.
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: Option<f64>,
    time_ms: Option<i64>,
    exemplars: Vec<Exemplar>,
}

impl<'a> Reading<'_, 'a> {
    fn take(&mut self, entry: Entry<'a, '_>) -> Result<(), String> {
        match entry {
            Entry::Help { family, text } => self.families.entry(family).or_default().help = text,
            Entry::Unit { family, unit } => self.families.entry(family).or_default().unit = unit,
            Entry::Type { family, kind } => self.families.entry(family).or_default().kind = kind,
            Entry::Sample(sample) => {
                self.scraped.samples += 1;
                if self.starts_are_series && self.take_start(&sample)? {
                    return Ok(());
                }
                if self.job.histograms.classic_to_custom
                    && self.add_to_classic(&sample)?
                    && !self.job.histograms.always_classic
                {
                    return Ok(());
                }
                let time_ms = sample.time_ms.filter(|_| self.job.honor_timestamps).unwrap_or(self.time.ms);
                let exemplars = sample.exemplars.iter().filter_map(|text| exemplar(text, time_ms)).collect();
                let read = self.scraped.series.len();
                self.sample(sample.series, sample.value, sample.time_ms, exemplars)?;
                if let Some(start_ms) = sample.start_ms
                    && let Some(starts) = &self.cache.start_times
                    && let Some(series) = self.scraped.series.get_mut(read)
                {
                    starts.add_zero(series, start_ms);
                }
            }
        }
        Ok(())
    }

    /// Whether the sample is no value, but tells when a metric began to count (OpenMetrics, `_created`).
    fn take_start(&mut self, sample: &SampleLine<'_>) -> Result<bool, String> {
        let SampleValue::Float(seconds) = sample.value else { return Ok(false) };
        if !sample.series.contains("_created") {
            return Ok(false);
        }
        let Some(metric) = metric_key(sample.series, &self.families, &["_created"])? else {
            return Ok(false);
        };
        // Out of range it becomes one that no zero is written for.
        self.starts.insert(metric, (seconds * 1_000.0).round() as i64);
        Ok(true)
    }

    fn add_zeros(&mut self) {
        let Some(starts) = &self.cache.start_times else { return };
        for (index, metric) in &self.waiting {
            if let Some(start_ms) = self.starts.get(metric)
                && let Some(series) = self.scraped.series.get_mut(*index)
            {
                starts.add_zero(series, *start_ms);
            }
        }
    }

    /// Whether the sample is a part of a classic histogram.
    fn add_to_classic(&mut self, sample: &SampleLine<'_>) -> Result<bool, String> {
        let SampleValue::Float(value) = sample.value else { return Ok(false) };
        let labels = series_labels(sample.series)?;
        let name =
            labels.iter().find(|(label, _)| label == METRIC_NAME).map_or("", |(_, name)| name.as_ref());
        let part = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| {
            let family = name.strip_suffix(suffix)?;
            self.families
                .get(family)
                .filter(|told| told.kind == MetricKind::Histogram)
                .map(|_| (family, suffix))
        });
        let Some((family, suffix)) = part else { return Ok(false) };
        let mut key = format!("{{{}", quoted(family));
        for (label, value) in labels.iter().filter(|(label, _)| label != METRIC_NAME && label != "le") {
            key.push_str(&format!(",{}={}", quoted(label), quoted(value)));
        }
        key.push('}');
        let parts = self.classic.entry(key).or_default();
        parts.time_ms = sample.time_ms;
        match suffix {
            "_sum" => parts.sum = value,
            "_count" => parts.count = Some(value),
            _ => {
                let le = labels.iter().find(|(label, _)| label == "le").and_then(|(_, le)| le.parse().ok());
                parts.buckets.push((le.ok_or_else(|| format!("{:?} has no bound", sample.series))?, value));
                let time_ms = sample.time_ms.unwrap_or(self.time.ms);
                parts.exemplars.extend(sample.exemplars.iter().filter_map(|text| exemplar(text, time_ms)));
            }
        }
        Ok(true)
    }

    /// Stores what was gathered of classic histograms as native ones with the same bounds.
    fn convert_classic(&mut self) -> Result<(), String> {
        for (series, mut parts) in std::mem::take(&mut self.classic) {
            parts.buckets.sort_by(|(left, _), (right, _)| left.total_cmp(right));
            let bounds = parts.buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite());
            let custom_bounds: Vec<f64> = bounds.collect();
            let mut below = 0.0;
            let mut positive = Vec::new();
            for (index, (_, up_to)) in (0..).zip(&parts.buckets) {
                if *up_to > below {
                    positive.push((index, up_to - below));
                    below = *up_to;
                }
            }
            let count = parts.count.unwrap_or(below);
            if count > below
                && let Ok(last) = i32::try_from(custom_bounds.len())
            {
                positive.push((last, count - below));
            }
            let histogram = NativeHistogram {
                schema: NativeHistogram::CUSTOM_SCHEMA,
                count,
                sum: parts.sum,
                positive,
                custom_bounds,
                ..NativeHistogram::default()
            };
            let histogram = histogram.checked(false).map_err(|error| format!("{series}: {error}"))?;
            self.sample(
                &series,
                SampleValue::Histogram(Box::new(histogram)),
                parts.time_ms,
                parts.exemplars,
            )?;
        }
        Ok(())
    }

    fn sample(
        &mut self,
        series: &str,
        value: SampleValue,
        own_time_ms: Option<i64>,
        exemplars: Vec<Exemplar>,
    ) -> Result<(), String> {
        let mut metadata = None;
        let mut added = false;
        if !self.cache.known.contains_key(series) {
            let (labels, family) = labels_of(self.job, self.target, series, &self.families)?;
            metadata = family;
            added = !labels.is_empty();
            let parts = ["_total", "_bucket", "_sum", "_count", ""];
            let metric = match self.starts_are_series && added {
                true => metric_key(series, &self.families, &parts)?,
                false => None,
            };
            self.cache
                .known
                .insert(series.into(), Known { metric, labels, last_scrape: 0, tracked: false, live: false });
            self.fresh.push(series.into());
        }
        let Some(known) = self.cache.known.get_mut(series) else { return Ok(()) };
        let again = std::mem::replace(&mut known.last_scrape, self.cache.scrape) == self.cache.scrape;
        if known.labels.is_empty() {
            return Ok(());
        }
        self.scraped.after_relabel += 1;
        self.scraped.added += usize::from(added);
        let limit = self.job.limits.samples;
        // The rest is only counted.
        if limit > 0 && self.scraped.after_relabel > limit {
            return Ok(());
        }
        let own_time = own_time_ms.filter(|_| self.job.honor_timestamps);
        // A series that occurs twice in one exposition: the first value counts.
        if (again && own_time.is_none()) || own_time.is_some_and(|time_ms| time_ms > self.time.latest_ms) {
            self.scraped.refused += 1;
            return Ok(());
        }
        known.tracked = own_time.is_none() || self.job.track_timestamps_staleness;
        let time_ms = own_time.unwrap_or(self.time.ms);
        let mut out =
            TimeSeries { labels: known.labels.clone(), exemplars, metadata, ..TimeSeries::default() };
        match value {
            SampleValue::Float(value) => out.samples.push(Sample { time_ms, value }),
            SampleValue::Histogram(histogram) => {
                let histogram = within_limits(*histogram, self.job.histograms)?;
                out.histograms.push(HistogramSample { time_ms, histogram });
            }
        }
        if let Some(metric) = &known.metric {
            self.waiting.push((self.scraped.series.len(), metric.clone()));
        }
        self.scraped.series.push(out);
        Ok(())
    }
}

/// The metric that a series with one of the `suffixes` is a part of, if it is one that counts.
fn metric_key(
    series: &str,
    families: &HashMap<&str, Family<'_>>,
    suffixes: &[&str],
) -> Result<Option<MetricKey>, String> {
    let mut labels = series_labels(series)?;
    let name = labels.iter().find(|(label, _)| label == METRIC_NAME).map_or("", |(_, name)| name.as_ref());
    let family = suffixes.iter().find_map(|suffix| {
        let family = name.strip_suffix(suffix)?;
        families.get(family).map(|told| (family.to_string(), told.kind))
    });
    let (family, part) = match family {
        Some((family, MetricKind::Counter)) => (family, ""),
        Some((family, MetricKind::Summary)) => (family, "quantile"),
        Some((family, MetricKind::Histogram)) => (family, "le"),
        _ => return Ok(None),
    };
    labels.retain(|(label, _)| label != METRIC_NAME && label != part);
    labels.sort();
    let mut key = quoted(&family);
    for (label, value) in &labels {
        key.push_str(&format!(",{}={}", quoted(label), quoted(value)));
    }
    Ok(Some(key.into()))
}

/// Fewer buckets where the configuration asks for that; where there are too many even so, the scrape fails.
fn within_limits(mut histogram: NativeHistogram, wanted: Histograms) -> Result<NativeHistogram, String> {
    if wanted.min_bucket_factor > 1.0 {
        // The finest schema whose buckets grow by that much.
        let schema = -wanted.min_bucket_factor.log2().log2().floor();
        histogram.reduce_to(
            (schema as i32).clamp(*NativeHistogram::SCHEMAS.start(), *NativeHistogram::SCHEMAS.end()),
        );
    }
    let buckets = |histogram: &NativeHistogram| histogram.positive.len() + histogram.negative.len();
    while wanted.bucket_limit > 0 && buckets(&histogram) > wanted.bucket_limit {
        if histogram.uses_custom_buckets() || histogram.schema <= *NativeHistogram::SCHEMAS.start() {
            return Err(format!(
                "histogram bucket limit exceeded: {} buckets are more than native_histogram_bucket_limit {}",
                buckets(&histogram),
                wanted.bucket_limit
            ));
        }
        let coarser = histogram.schema - 1;
        histogram.reduce_to(coarser);
    }
    Ok(histogram)
}

#[derive(Clone, Copy, Default)]
struct Family<'a> {
    kind: MetricKind,
    help: &'a str,
    unit: &'a str,
}

impl Family<'_> {
    fn metadata(&self, family: &str) -> MetricMetadata {
        MetricMetadata {
            family: family.to_string(),
            kind: self.kind,
            help: unescape(self.help).into_owned(),
            unit: self.unit.to_string(),
        }
    }
}

pub(super) fn single(labels: Labels, time_ms: i64, value: f64) -> TimeSeries {
    TimeSeries { labels, samples: vec![Sample { time_ms, value }], ..TimeSeries::default() }
}

fn ended(labels: Labels, time_ms: i64) -> TimeSeries {
    single(labels, time_ms, stale_nan())
}

/// The labels under which a series is stored, empty if a rule drops it, and what is known of its family.
fn labels_of(
    job: &Job,
    target: &Labels,
    series: &str,
    families: &HashMap<&str, Family<'_>>,
) -> Result<(Labels, Option<MetricMetadata>), String> {
    let mut pairs = series_labels(series)?;
    let name = pairs.iter().find(|(label, _)| label == METRIC_NAME).map(|(_, name)| name.to_string());
    let name = name.ok_or_else(|| format!("{series:?} has no metric name"))?;
    let metadata = family_of(families, &name).map(|(family, told)| told.metadata(family));
    let float_label = match metadata.as_ref().map(|metadata| metadata.kind) {
        Some(MetricKind::Histogram) => "le",
        Some(MetricKind::Summary) => "quantile",
        _ => "",
    };
    if let Some((_, value)) = pairs.iter_mut().find(|(label, _)| label == float_label)
        && let Ok(number) = value.parse()
    {
        *value = Cow::Owned(openmetrics_float(number));
    }
    // An empty value is an absent label, but one that the target has no say in.
    let empty: Vec<String> =
        pairs.iter().filter(|(_, value)| value.is_empty()).map(|(label, _)| label.to_string()).collect();
    let mut labels = Labels::from_pairs(pairs.iter().map(|(label, value)| (label.as_ref(), value.as_ref())));
    if labels.len() + empty.len() != pairs.len() {
        return Err(format!("series {series:?} has a label twice"));
    }
    match job.honor_labels {
        true => {
            let missing = |name: &str| !labels.contains(name) && !empty.iter().any(|own| own == name);
            let missing: Vec<_> = target.iter().filter(|(name, _)| missing(name)).collect();
            missing.into_iter().for_each(|(name, value)| labels.set(name, value));
        }
        false => add_target_labels(&mut labels, target),
    }
    if !relabel(&job.metric_relabel, &mut labels) {
        return Ok((Labels::empty(), metadata));
    }
    if labels.metric_name().is_empty() {
        return Err(format!("relabelling left series {series:?} without a name"));
    }
    let valid = labels.iter().all(|(label, value)| match label {
        METRIC_NAME => job.validation.allows_metric(value),
        label => job.validation.allows_label(label),
    });
    if !valid {
        return Err(format!("invalid metric name or label names: {labels}"));
    }
    check_limits(job, &labels)?;
    Ok((labels, metadata))
}

/// A label that the series and the target both have is the target's; the series' own is kept as `exported_<name>`.
fn add_target_labels(labels: &mut Labels, target: &Labels) {
    let mut conflicts: Vec<(&str, String)> = Vec::new();
    for (name, value) in target.iter() {
        if labels.contains(name) {
            conflicts.push((name, labels.get(name).to_string()));
        }
        labels.set(name, value);
    }
    // Prometheus' order, which decides who gets the shorter name.
    conflicts.sort_by_key(|(name, _)| name.len());
    for (name, own) in conflicts {
        let mut exported = format!("exported_{name}");
        while labels.contains(&exported) {
            exported = format!("exported_{exported}");
        }
        labels.set(&exported, own);
    }
}

fn check_limits(job: &Job, labels: &Labels) -> Result<(), String> {
    let limits = &job.limits;
    let metric = labels.metric_name();
    let beyond = |limit: usize, size: usize| limit > 0 && size > limit;
    if beyond(limits.labels, labels.len()) {
        return Err(format!(
            "label_limit exceeded (metric: {metric}, number of labels: {}, limit: {})",
            labels.len(),
            limits.labels
        ));
    }
    for (name, value) in labels.iter() {
        if beyond(limits.label_name_bytes, name.len()) {
            return Err(format!(
                "label_name_length_limit exceeded (metric: {metric}, label name: {name}, length: {}, limit: {})",
                name.len(),
                limits.label_name_bytes
            ));
        }
        if beyond(limits.label_value_bytes, value.len()) {
            return Err(format!(
                "label_value_length_limit exceeded (metric: {metric}, label name: {name}, length: {}, limit: {})",
                value.len(),
                limits.label_value_bytes
            ));
        }
    }
    Ok(())
}

/// A family's series carry suffixes by its kind; OpenMetrics' counters too.
fn family_of<'f, 'a>(
    families: &'f HashMap<&'a str, Family<'a>>,
    name: &str,
) -> Option<(&'f str, &'f Family<'a>)> {
    const SUFFIXES: [&str; 9] =
        ["", "_total", "_bucket", "_sum", "_count", "_created", "_info", "_gcount", "_gsum"];
    let candidates = SUFFIXES.iter().filter_map(|suffix| name.strip_suffix(suffix));
    let mut found = candidates.filter_map(|family| families.get_key_value(family));
    found.next().map(|(family, told)| (*family, told))
}

/// As the text formats write it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// A bad exemplar never fails a scrape.
fn exemplar(text: &ExemplarText<'_>, time_ms: i64) -> Option<Exemplar> {
    /// OpenMetrics, "Exemplars".
    const MAX_CHARS: usize = 128;
    let labels = series_labels(text.labels).ok()?;
    let chars: usize = labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
    (chars <= MAX_CHARS).then(|| Exemplar {
        labels: labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect(),
        time_ms: text.time_ms.unwrap_or(time_ms),
        value: text.value,
    })
}

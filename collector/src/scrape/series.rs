//! What a target's exposition becomes: series with the target's labels, and what is known from scrape to scrape.

use std::borrow::Cow;

use hashbrown::HashMap;
use pharos_model::{
    Exemplar, Labels, METRIC_NAME, MetricKind, MetricMetadata, Sample, TimeSeries, stale_nan,
};

use super::config::Job;
use crate::{
    exposition::{Entry, Format, SampleLine, openmetrics_float, parse, series_labels, unescape},
    scrape::relabel::relabel,
};

/// The series of one target. A series that was seen before costs one look-up of its text: its labels are neither
/// parsed nor relabelled again.
#[derive(Default)]
pub(super) struct SeriesCache {
    /// By the series' text as the target writes it.
    known: HashMap<Box<str>, Known>,
    scrape: u64,
}

struct Known {
    /// Empty when relabelling dropped the series.
    labels: Labels,
    last_scrape: u64,
    /// The target gives it times of its own: it ends when the target says so, not when it is missing.
    own_time: bool,
}

/// A scrape that was read.
#[derive(Default)]
pub(super) struct Scraped {
    pub(super) series: Vec<TimeSeries>,
    /// Lines.
    pub(super) samples: usize,
    pub(super) after_relabel: usize,
    pub(super) added: usize,
}

impl SeriesCache {
    /// Reads an exposition that was scraped at `time_ms`; series that are gone since the last one end with a
    /// staleness marker. A fault refuses all of it and changes nothing that is known.
    pub(super) fn read(
        &mut self,
        job: &Job,
        target: &Labels,
        text: &str,
        format: Format,
        time_ms: i64,
    ) -> Result<Scraped, String> {
        self.scrape += 1;
        let mut scraped = Scraped::default();
        let mut families: HashMap<&str, Family<'_>> = HashMap::new();
        let mut fresh: Vec<Box<str>> = Vec::new();
        let result = parse(text, format, |entry| {
            let sample = match entry {
                Entry::Help { family, text } => {
                    families.entry(family).or_default().help = text;
                    return Ok(());
                }
                Entry::Unit { family, unit } => {
                    families.entry(family).or_default().unit = unit;
                    return Ok(());
                }
                Entry::Type { family, kind } => {
                    families.entry(family).or_default().kind = kind;
                    return Ok(());
                }
                Entry::Sample(sample) => sample,
            };
            scraped.samples += 1;
            let mut metadata = None;
            if !self.known.contains_key(sample.series) {
                let (labels, family) = labels_of(job, target, &sample, &families)?;
                metadata = family;
                self.known.insert(sample.series.into(), Known { labels, last_scrape: 0, own_time: false });
                fresh.push(sample.series.into());
            }
            let Some(known) = self.known.get_mut(sample.series) else { return Ok(()) };
            // A series that occurs twice in one exposition: the first value counts.
            if known.last_scrape == self.scrape || known.labels.is_empty() {
                known.last_scrape = self.scrape;
                return Ok(());
            }
            known.last_scrape = self.scrape;
            let own_time = sample.time_ms.filter(|_| job.honor_timestamps);
            known.own_time = own_time.is_some() && !job.track_timestamps_staleness;
            scraped.after_relabel += 1;
            if job.limits.samples > 0 && scraped.after_relabel > job.limits.samples {
                return Err(format!("more than sample_limit {} samples", job.limits.samples));
            }
            scraped.series.push(TimeSeries {
                labels: known.labels.clone(),
                samples: vec![Sample { time_ms: own_time.unwrap_or(time_ms), value: sample.value }],
                exemplars: exemplar(&sample, time_ms).into_iter().collect(),
                metadata,
                ..TimeSeries::default()
            });
            Ok(())
        });
        if let Err(error) = result {
            for series in fresh {
                self.known.remove(&series);
            }
            return Err(error.to_string());
        }
        scraped.added = fresh.len();
        let gone = self.known.extract_if(|_, known| known.last_scrape != self.scrape);
        scraped.series.extend(gone.filter_map(|(_, known)| known.end(time_ms)));
        Ok(scraped)
    }

    /// Ends every series: the target could not be scraped, or is gone.
    pub(super) fn end_all(&mut self, time_ms: i64) -> Vec<TimeSeries> {
        self.known.drain().filter_map(|(_, known)| known.end(time_ms)).collect()
    }
}

impl Known {
    fn end(self, time_ms: i64) -> Option<TimeSeries> {
        (!self.own_time && !self.labels.is_empty()).then(|| single(self.labels, time_ms, stale_nan()))
    }
}

#[derive(Clone, Copy, Default)]
struct Family<'a> {
    kind: MetricKind,
    help: &'a str,
    unit: &'a str,
}

pub(super) fn single(labels: Labels, time_ms: i64, value: f64) -> TimeSeries {
    TimeSeries { labels, samples: vec![Sample { time_ms, value }], ..TimeSeries::default() }
}

/// The labels under which a series is stored, empty if a rule drops it, and what is known of its family.
fn labels_of(
    job: &Job,
    target: &Labels,
    sample: &SampleLine<'_>,
    families: &HashMap<&str, Family<'_>>,
) -> Result<(Labels, Option<MetricMetadata>), String> {
    let mut pairs = series_labels(sample.series)?;
    let name = pairs.iter().find(|(label, _)| label == METRIC_NAME).map(|(_, name)| name.to_string());
    let name = name.ok_or_else(|| format!("{:?} has no metric name", sample.series))?;
    let metadata = metadata_of(families, &name);
    let float_label = match metadata.as_ref().map(|metadata| metadata.kind) {
        Some(MetricKind::Histogram | MetricKind::GaugeHistogram) => "le",
        Some(MetricKind::Summary) => "quantile",
        _ => "",
    };
    if let Some((_, value)) = pairs.iter_mut().find(|(label, _)| label == float_label)
        && let Ok(number) = value.parse()
    {
        *value = Cow::Owned(openmetrics_float(number));
    }
    let count = pairs.iter().filter(|(_, value)| !value.is_empty()).count();
    let mut labels = Labels::from_pairs(pairs.iter().map(|(label, value)| (label.as_ref(), value.as_ref())));
    if labels.len() != count {
        return Err(format!("series {:?} has a label twice", sample.series));
    }
    add_target_labels(&mut labels, target, job.honor_labels);
    if !relabel(&job.metric_relabel, &mut labels) {
        return Ok((Labels::empty(), metadata));
    }
    if labels.metric_name().is_empty() {
        return Err(format!("relabelling left series {:?} without a name", sample.series));
    }
    check_limits(job, &labels)?;
    Ok((labels, metadata))
}

/// A label that the series and the target both have stays the series' with `honor_labels`; else the series' own is
/// kept as `exported_<name>`.
fn add_target_labels(labels: &mut Labels, target: &Labels, honor_labels: bool) {
    for (name, value) in target.iter() {
        if !labels.contains(name) {
            labels.set(name, value);
        } else if !honor_labels {
            let own = labels.get(name).to_string();
            let mut exported = format!("exported_{name}");
            while labels.contains(&exported) || target.contains(&exported) {
                exported = format!("exported_{exported}");
            }
            labels.set(&exported, own);
            labels.set(name, value);
        }
    }
}

fn check_limits(job: &Job, labels: &Labels) -> Result<(), String> {
    let limits = &job.limits;
    let beyond = |limit: usize, size: usize| limit > 0 && size > limit;
    if beyond(limits.labels, labels.len()) {
        return Err(format!("series {labels} has {} labels, label_limit is {}", labels.len(), limits.labels));
    }
    for (name, value) in labels.iter() {
        if beyond(limits.label_name_bytes, name.len()) {
            return Err(format!(
                "a label's name is longer than label_name_length_limit {}",
                limits.label_name_bytes
            ));
        }
        if beyond(limits.label_value_bytes, value.len()) {
            return Err(format!(
                "the value of label {name} is longer than label_value_length_limit {}",
                limits.label_value_bytes
            ));
        }
    }
    Ok(())
}

/// A family's series carry suffixes by its kind; OpenMetrics' counters too.
fn metadata_of(families: &HashMap<&str, Family<'_>>, name: &str) -> Option<MetricMetadata> {
    const SUFFIXES: [&str; 8] = ["", "_total", "_bucket", "_sum", "_count", "_created", "_info", "_gcount"];
    let (family, told) = SUFFIXES.iter().find_map(|suffix| {
        let family = name.strip_suffix(suffix)?;
        families.get(family).map(|told| (family, told))
    })?;
    // Prometheus knows an OpenMetrics counter by the name of its series.
    let family = if told.kind == MetricKind::Counter && name.ends_with("_total") { name } else { family };
    Some(MetricMetadata {
        family: family.to_string(),
        kind: told.kind,
        help: unescape(told.help).into_owned(),
        unit: told.unit.to_string(),
    })
}

fn exemplar(sample: &SampleLine<'_>, time_ms: i64) -> Option<Exemplar> {
    let text = sample.exemplar?;
    // A bad exemplar never fails a scrape.
    let labels = series_labels(text.labels).ok()?;
    Some(Exemplar {
        labels: labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect(),
        time_ms: text.time_ms.or(sample.time_ms).unwrap_or(time_ms),
        value: text.value,
    })
}

//! OTLP metrics as Prometheus series, the way Prometheus' own OTLP receiver makes them.

use std::collections::BTreeMap;

use pharos_model::{
    Attributes, BucketSpan, Exemplar, HistogramSample, Labels, METRIC_NAME, MetricKind, MetricMetadata,
    NativeHistogram, Sample, SpanId, TimeSeries, TraceId, UnixNanos, buckets_of_spans, stale_nan,
};
use pharos_proto::otlp::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{InstrumentationScope, KeyValue},
    metrics::v1::{
        AggregationTemporality, DataPointFlags, Exemplar as OtlpExemplar, ExponentialHistogramDataPoint,
        HistogramDataPoint, Metric, NumberDataPoint, SummaryDataPoint, exemplar,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
    },
};

use super::{
    config::OtlpConfig,
    metric_name::{Suffix, metric_name, unit_text},
    temporality::Accumulator,
    value::{attributes, value},
};
use crate::{
    clock::{check_sample, latest_sample_ms},
    exposition::openmetrics_float,
    histogram::Histogram,
    intake::Normalised,
    start_time::StartTimes,
};

pub(super) fn series(
    request: ExportMetricsServiceRequest,
    now: UnixNanos,
    config: &OtlpConfig,
    deltas: &mut Accumulator,
    start_times: Option<&StartTimes>,
) -> Normalised<TimeSeries> {
    let mut writer = Writer {
        out: Normalised::default(),
        config,
        identity: Vec::new(),
        promoted: Labels::empty(),
        of_scope: Labels::empty(),
        newest_ms: i64::MIN,
        latest_ms: latest_sample_ms(now),
        deltas,
        start_times,
    };
    for resource_metrics in request.resource_metrics {
        let resource = attributes(resource_metrics.resource.map(|of| of.attributes).unwrap_or_default());
        writer.identity = identity(&resource);
        writer.promoted = config.promoted(&resource, |pairs| labels(config, pairs.into_iter()));
        writer.newest_ms = i64::MIN;
        for mut scope_metrics in resource_metrics.scope_metrics {
            let scope = scope_metrics.scope.take().filter(|_| config.promote_scope_metadata);
            writer.of_scope = scope
                .map_or_else(Labels::empty, |scope| scope_labels(config, scope, &scope_metrics.schema_url));
            scope_metrics.metrics.into_iter().for_each(|metric| writer.metric(metric));
        }
        writer.target_info(&resource);
    }
    writer.out
}

/// `job` and `instance`, by which Prometheus names the sender.
fn identity(resource: &Attributes) -> Vec<(&'static str, String)> {
    let text = |key| resource.get(key).map(|value| value.to_text()).unwrap_or_default();
    let mut labels = Vec::new();
    let (service, namespace) = (text("service.name"), text("service.namespace"));
    if !service.is_empty() {
        labels.push(("job", if namespace.is_empty() { service } else { format!("{namespace}/{service}") }));
    }
    if let Some(instance) = resource.get("service.instance.id") {
        labels.push(("instance", instance.to_text()));
    }
    labels
}

/// What `promote_scope_metadata` asks for.
fn scope_labels(config: &OtlpConfig, scope: InstrumentationScope, schema_url: &str) -> Labels {
    let attributes = scope.attributes.into_iter();
    let attributes = attributes.map(|pair| (format!("otel_scope_{}", pair.key), value(pair.value).to_text()));
    let mut labels = labels(config, attributes);
    labels.set("otel_scope_name", scope.name);
    labels.set("otel_scope_version", scope.version);
    labels.set("otel_scope_schema_url", schema_url);
    labels
}

struct Writer<'a> {
    out: Normalised<TimeSeries>,
    config: &'a OtlpConfig,
    identity: Vec<(&'static str, String)>,
    /// Of the resource's attributes, and of the scope: where a point has none of its own.
    promoted: Labels,
    of_scope: Labels,
    /// Of the resource's points that were written.
    newest_ms: i64,
    /// That a point may have.
    latest_ms: i64,
    deltas: &'a mut Accumulator,
    start_times: Option<&'a StartTimes>,
}

/// OpenTelemetry's finest.
const MAX_SCALE: i32 = 20;

/// The parts that all kinds of data points share.
struct Point {
    labels: Labels,
    unix_nano: u64,
    time_ms: i64,
    no_value: bool,
}

impl Writer<'_> {
    fn metric(&mut self, metric: Metric) {
        let Some(data) = metric.data else { return };
        let (kind, suffix) = match &data {
            Data::Gauge(_) => (MetricKind::Gauge, Suffix::Gauge),
            Data::Sum(sum) if sum.is_monotonic => (MetricKind::Counter, Suffix::MonotonicSum),
            Data::Sum(_) => (MetricKind::Gauge, Suffix::Other),
            Data::Histogram(_) | Data::ExponentialHistogram(_) => (MetricKind::Histogram, Suffix::Other),
            Data::Summary(_) => (MetricKind::Summary, Suffix::Other),
        };
        let family = metric_name(&metric.name, &metric.unit, suffix, self.config.translation_strategy);
        if family.is_empty() {
            let points = points_in(&data);
            self.out.rejected.add(points, || format!("metric name {:?} has no letter or digit", metric.name));
            return;
        }
        let metadata =
            MetricMetadata { family, kind, help: metric.description, unit: unit_text(&metric.unit) };
        match data {
            Data::Gauge(gauge) => self.numbers(&metadata, false, gauge.data_points),
            Data::Sum(sum) => match delta(sum.aggregation_temporality) {
                Ok(delta) => self.numbers(&metadata, delta, sum.data_points),
                Err(fault) => self.reject(&metadata, sum.data_points.len(), fault),
            },
            Data::Histogram(histogram) => match delta(histogram.aggregation_temporality) {
                Ok(delta) => {
                    for point in histogram.data_points {
                        let (rows, start) = (self.out.rows.len(), point.start_time_unix_nano);
                        let done = self.histogram(&metadata, delta, point);
                        self.add_zeros(rows, if delta { 0 } else { start });
                        self.count(&metadata, done);
                    }
                }
                Err(fault) => self.reject(&metadata, histogram.data_points.len(), fault),
            },
            Data::ExponentialHistogram(histogram) => match delta(histogram.aggregation_temporality) {
                Ok(delta) => {
                    for point in histogram.data_points {
                        let (rows, start) = (self.out.rows.len(), point.start_time_unix_nano);
                        let done = self.exponential_histogram(&metadata, delta, point);
                        self.add_zeros(rows, if delta { 0 } else { start });
                        self.count(&metadata, done);
                    }
                }
                Err(fault) => self.reject(&metadata, histogram.data_points.len(), fault),
            },
            Data::Summary(summary) => {
                for point in summary.data_points {
                    let (rows, start) = (self.out.rows.len(), point.start_time_unix_nano);
                    let done = self.summary(&metadata, point);
                    self.add_zeros(rows, start);
                    self.count(&metadata, done);
                }
            }
        }
    }

    fn numbers(&mut self, metadata: &MetricMetadata, delta: bool, points: Vec<NumberDataPoint>) {
        let counts = metadata.kind == MetricKind::Counter && !delta;
        for point in points {
            let (rows, start) = (self.out.rows.len(), point.start_time_unix_nano);
            let done = self.number(metadata, delta, point);
            self.add_zeros(rows, if counts { start } else { 0 });
            self.count(metadata, done);
        }
    }

    fn number(
        &mut self,
        metadata: &MetricMetadata,
        delta: bool,
        otlp: NumberDataPoint,
    ) -> Result<(), String> {
        let mut point = self.point(otlp.attributes, otlp.time_unix_nano, otlp.flags)?;
        point.labels.set(METRIC_NAME, metadata.family.clone());
        let mut number = match otlp.value {
            Some(number_data_point::Value::AsDouble(number)) => number,
            Some(number_data_point::Value::AsInt(number)) => number as f64,
            None if point.no_value => 0.0,
            None => return Err("a data point has no value".into()),
        };
        if delta && !point.no_value {
            let step = Histogram { sum: Some(number), ..Histogram::default() };
            number = self.deltas.add(point.labels.series_id(), point.unix_nano, &step)?.sum.unwrap_or(number);
        }
        let value = if point.no_value { stale_nan() } else { number };
        self.newest_ms = self.newest_ms.max(point.time_ms);
        self.out.rows.push(TimeSeries {
            labels: point.labels,
            samples: vec![Sample { time_ms: point.time_ms, value }],
            exemplars: otlp.exemplars.into_iter().filter_map(exemplar).collect(),
            metadata: Some(metadata.clone()),
            ..TimeSeries::default()
        });
        Ok(())
    }

    fn histogram(
        &mut self,
        metadata: &MetricMetadata,
        delta: bool,
        mut otlp: HistogramDataPoint,
    ) -> Result<(), String> {
        let attributes = std::mem::take(&mut otlp.attributes);
        let point = self.point(attributes, otlp.time_unix_nano, otlp.flags)?;
        let buckets = otlp.bucket_counts.len();
        if buckets != 0 && buckets != otlp.explicit_bounds.len() + 1 {
            return Err(format!("{buckets} bucket counts do not fit {} bounds", otlp.explicit_bounds.len()));
        }
        if !otlp.explicit_bounds.is_sorted_by(|a, b| a < b) {
            return Err("the bucket bounds do not ascend".into());
        }
        if self.config.convert_histograms_to_nhcb && (buckets > 0 || point.no_value) {
            return self.custom_histogram(metadata, delta, point, otlp);
        }
        let counts = otlp.bucket_counts.into_iter().map(|count| count as f64);
        let histogram = Histogram {
            count: otlp.count as f64,
            sum: otlp.sum,
            buckets: otlp
                .explicit_bounds
                .into_iter()
                .zip(counts)
                .filter(|(bound, _)| bound.is_finite())
                .collect(),
        };
        self.write_histogram(metadata, delta, point, histogram, otlp.exemplars)
    }

    fn exponential_histogram(
        &mut self,
        metadata: &MetricMetadata,
        delta: bool,
        mut otlp: ExponentialHistogramDataPoint,
    ) -> Result<(), String> {
        let attributes = std::mem::take(&mut otlp.attributes);
        let point = self.point(attributes, otlp.time_unix_nano, otlp.flags)?;
        let histogram = match point.no_value {
            true => NativeHistogram::stale(),
            false => native(otlp.scale, &otlp)?,
        };
        self.write_native(metadata, delta, point, histogram, otlp.exemplars)
    }

    /// A classic histogram as a native one with its bounds.
    fn custom_histogram(
        &mut self,
        metadata: &MetricMetadata,
        delta: bool,
        point: Point,
        otlp: HistogramDataPoint,
    ) -> Result<(), String> {
        let histogram = match point.no_value {
            true => NativeHistogram::stale(),
            false => {
                let counts = (0..).zip(otlp.bucket_counts).filter(|(_, count)| *count > 0);
                let histogram = NativeHistogram {
                    schema: NativeHistogram::CUSTOM_SCHEMA,
                    count: otlp.count as f64,
                    sum: otlp.sum.unwrap_or_default(),
                    positive: counts.map(|(index, count)| (index, count as f64)).collect(),
                    custom_bounds: otlp.explicit_bounds,
                    ..NativeHistogram::default()
                };
                histogram.checked(false).map_err(|error| error.to_string())?
            }
        };
        self.write_native(metadata, delta, point, histogram, otlp.exemplars)
    }

    fn write_native(
        &mut self,
        metadata: &MetricMetadata,
        delta: bool,
        mut point: Point,
        histogram: NativeHistogram,
        exemplars: Vec<OtlpExemplar>,
    ) -> Result<(), String> {
        point.labels.set(METRIC_NAME, &metadata.family);
        let histogram = match delta && !point.no_value {
            true => self.deltas.add_native(point.labels.series_id(), point.unix_nano, histogram)?,
            false => histogram,
        };
        self.newest_ms = self.newest_ms.max(point.time_ms);
        self.out.rows.push(TimeSeries {
            labels: point.labels,
            histograms: vec![HistogramSample { time_ms: point.time_ms, histogram }],
            exemplars: exemplars.into_iter().filter_map(exemplar).collect(),
            metadata: Some(metadata.clone()),
            ..TimeSeries::default()
        });
        Ok(())
    }

    fn write_histogram(
        &mut self,
        metadata: &MetricMetadata,
        delta: bool,
        point: Point,
        mut histogram: Histogram,
        exemplars: Vec<OtlpExemplar>,
    ) -> Result<(), String> {
        if delta && !point.no_value {
            let mut id = point.labels.clone();
            id.set(METRIC_NAME, metadata.family.clone());
            histogram = self.deltas.add(id.series_id(), point.unix_nano, &histogram)?;
        }
        let bounds = histogram.bounds();
        self.newest_ms = self.newest_ms.max(point.time_ms);
        self.out.rows.extend(Histogram::series(
            (!point.no_value).then_some(&histogram),
            &bounds,
            &metadata.family,
            &point.labels,
            point.time_ms,
            exemplars.into_iter().filter_map(exemplar).collect(),
            metadata,
        ));
        Ok(())
    }

    fn summary(&mut self, metadata: &MetricMetadata, otlp: SummaryDataPoint) -> Result<(), String> {
        let point = self.point(otlp.attributes, otlp.time_unix_nano, otlp.flags)?;
        let mut push = |suffix: &str, quantile: Option<f64>, value: f64| {
            let mut labels = point.labels.clone();
            labels.set(METRIC_NAME, format!("{}{suffix}", metadata.family));
            if let Some(quantile) = quantile {
                labels.set("quantile", openmetrics_float(quantile));
            }
            let value = if point.no_value { stale_nan() } else { value };
            self.out.rows.push(TimeSeries {
                labels,
                samples: vec![Sample { time_ms: point.time_ms, value }],
                metadata: Some(metadata.clone()),
                ..TimeSeries::default()
            });
        };
        push("_sum", None, otlp.sum);
        push("_count", None, otlp.count as f64);
        for quantile in otlp.quantile_values {
            push("", Some(quantile.quantile), quantile.value);
        }
        self.newest_ms = self.newest_ms.max(point.time_ms);
        Ok(())
    }

    fn point(&self, attributes: Vec<KeyValue>, unix_nano: u64, flags: u32) -> Result<Point, String> {
        let time_ms = i64::try_from(unix_nano / 1_000_000).unwrap_or(i64::MAX);
        if time_ms == 0 {
            return Err("a data point has no time_unix_nano".into());
        }
        let own = attributes.into_iter().map(|pair| (pair.key, value(pair.value).to_text()));
        let mut labels = labels(self.config, own);
        for (name, value) in self.promoted.iter().chain(self.of_scope.iter()) {
            if !labels.contains(name) {
                labels.set(name, value);
            }
        }
        for (name, value) in &self.identity {
            labels.set(name, value.clone());
        }
        check_sample(&labels, time_ms, self.latest_ms)?;
        let no_value = flags & DataPointFlags::NoRecordedValueMask as u32 != 0;
        Ok(Point { labels, unix_nano, time_ms, no_value })
    }

    /// For the rows from `first` on, which are of one data point; a delta's start is where the one before ended.
    fn add_zeros(&mut self, first: usize, start_unix_nano: u64) {
        let start_ms = i64::try_from(start_unix_nano / 1_000_000).unwrap_or(i64::MAX);
        if let Some(starts) = self.start_times {
            self.out.rows.iter_mut().skip(first).for_each(|series| starts.add_zero(series, start_ms));
        }
    }

    /// What else is known of the sender, as the series `target_info` to join with.
    fn target_info(&mut self, resource: &Attributes) {
        let identifying = ["service.name", "service.namespace", "service.instance.id"];
        let keep = self.config.keep_identifying_resource_attributes;
        let others = resource.iter().filter(|(key, _)| keep || !identifying.contains(key));
        let others = others.map(|(key, value)| (key.to_string(), value.to_text()));
        let mut labels = labels(self.config, others);
        if labels.is_empty() || self.identity.is_empty() || self.newest_ms == i64::MIN {
            return;
        }
        for (name, value) in &self.identity {
            labels.set(name, value.clone());
        }
        labels.set(METRIC_NAME, "target_info");
        self.out.rows.push(TimeSeries {
            labels,
            samples: vec![Sample { time_ms: self.newest_ms, value: 1.0 }],
            metadata: Some(MetricMetadata {
                family: "target_info".into(),
                kind: MetricKind::Gauge,
                help: "Target metadata".into(),
                unit: String::new(),
            }),
            ..TimeSeries::default()
        });
    }

    fn count(&mut self, metadata: &MetricMetadata, done: Result<(), String>) {
        if let Err(fault) = done {
            self.reject(metadata, 1, fault);
        }
    }

    fn reject(&mut self, metadata: &MetricMetadata, points: usize, fault: String) {
        self.out.rejected.add(points, || format!("metric {}: {fault}", metadata.family));
    }
}

/// OpenTelemetry's bucket `i` begins where Prometheus' does that ends.
fn native(scale: i32, otlp: &ExponentialHistogramDataPoint) -> Result<NativeHistogram, String> {
    if scale < *NativeHistogram::SCHEMAS.start() || scale > MAX_SCALE {
        return Err(format!(
            "scale {scale} lies outside of {} to {MAX_SCALE}",
            NativeHistogram::SCHEMAS.start()
        ));
    }
    let side = |buckets: &Option<Buckets>| {
        let Some(buckets) = buckets else { return Ok(Vec::new()) };
        let offset = buckets.offset.checked_add(1).ok_or("a bucket offset is out of range")?;
        let length = u32::try_from(buckets.bucket_counts.len()).unwrap_or(u32::MAX);
        let counts = buckets.bucket_counts.iter().map(|count| *count as f64);
        buckets_of_spans([BucketSpan { offset, length }], counts).map_err(|error| error.to_string())
    };
    let mut histogram = NativeHistogram {
        schema: scale,
        // None at all is not possible; Prometheus takes this one.
        zero_threshold: if otlp.zero_threshold > 0.0 { otlp.zero_threshold } else { 1e-128 },
        zero_count: otlp.zero_count as f64,
        count: otlp.count as f64,
        sum: otlp.sum.unwrap_or_default(),
        positive: side(&otlp.positive)?,
        negative: side(&otlp.negative)?,
        ..NativeHistogram::default()
    };
    // The data model does not ask for a count that is the sum of the buckets.
    histogram = histogram.checked(false).map_err(|error| error.to_string())?;
    Ok(histogram)
}

fn delta(temporality: i32) -> Result<bool, String> {
    match AggregationTemporality::try_from(temporality) {
        Ok(AggregationTemporality::Delta) => Ok(true),
        Ok(AggregationTemporality::Cumulative) => Ok(false),
        _ => Err("aggregation_temporality is neither delta nor cumulative".into()),
    }
}

fn points_in(data: &Data) -> usize {
    match data {
        Data::Gauge(gauge) => gauge.data_points.len(),
        Data::Sum(sum) => sum.data_points.len(),
        Data::Histogram(histogram) => histogram.data_points.len(),
        Data::ExponentialHistogram(histogram) => histogram.data_points.len(),
        Data::Summary(summary) => summary.data_points.len(),
    }
}

/// Keys that become the same label name have their values joined by `;`, in the keys' order.
fn labels(config: &OtlpConfig, pairs: impl Iterator<Item = (String, String)>) -> Labels {
    let sorted: BTreeMap<String, String> = pairs.collect();
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in sorted {
        named
            .entry(config.label_name(&key))
            .and_modify(|known| {
                known.push(';');
                known.push_str(&value);
            })
            .or_insert(value);
    }
    named.remove("");
    Labels::from_pairs(named)
}

fn exemplar(otlp: OtlpExemplar) -> Option<Exemplar> {
    let value = match otlp.value? {
        exemplar::Value::AsDouble(number) => number,
        exemplar::Value::AsInt(number) => number as f64,
    };
    let mut labels = labels(
        &OtlpConfig::default(),
        otlp.filtered_attributes.into_iter().map(|pair| (pair.key, self::value(pair.value).to_text())),
    );
    if let Some(id) = TraceId::from_slice(&otlp.trace_id).filter(|id| !id.is_zero()) {
        labels.set("trace_id", id.to_string());
    }
    if let Some(id) = SpanId::from_slice(&otlp.span_id).filter(|id| !id.is_zero()) {
        labels.set("span_id", id.to_string());
    }
    Some(Exemplar { labels, time_ms: i64::try_from(otlp.time_unix_nano / 1_000_000).ok()?, value })
}

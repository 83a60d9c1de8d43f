//! OTLP/JSON, by the rules of OpenTelemetry's protocol specification: ids in hex, enums as integers, lowerCamelCase
//! keys only, unknown keys ignored, 64-bit integers as numbers or text, `null` as an absent field; and protobuf's
//! own JSON rules where it says nothing: bytes in base64, doubles also as "NaN", "Infinity" and "-Infinity".
//!
//! It decodes straight into the protobuf messages, so that everything behind it is the same for both encodings.

use std::{borrow::Cow, fmt, marker::PhantomData};

use base64::Engine;
use pharos_proto::otlp::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
        Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
        exponential_histogram_data_point::Buckets, metric, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span},
};
use serde::{
    Deserialize, Deserializer,
    de::{self, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::fault::Fault;

/// One of the three export requests.
pub(super) fn decode<T: FromJson>(bytes: &[u8]) -> Result<T, Fault> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Fault::Malformed("the body is empty; an empty request is {}".into()));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let decoded: Json<T> = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!("{path}: ") };
        Fault::Malformed(format!("the body is not an OTLP/JSON request: {place}{}", error.into_inner()))
    })?;
    json.end().map_err(|error| Fault::Malformed(format!("the body is not an OTLP/JSON request: {error}")))?;
    Ok(decoded.0)
}

/// How a protobuf field of this type is read from JSON; `null` gives its default.
pub(crate) trait FromJson: Sized + Default {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

struct Json<T>(T);

impl<'de, T: FromJson> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json<T>, D::Error> {
        T::from_json(deserializer).map(Json)
    }
}

macro_rules! as_serde {
    ($($type:ty),*) => {$(
        impl FromJson for $type {
            fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                Ok(<Option<$type>>::deserialize(deserializer)?.unwrap_or_default())
            }
        }
    )*};
}

as_serde!(String, bool);

/// Numbers, also as text: protobuf's JSON allows both for every numeric type.
macro_rules! number {
    ($($type:ty),*) => {$(
        impl FromJson for $type {
            fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                number(deserializer, concat!("a number (", stringify!($type), ") or its text"))
            }
        }

        impl Number for $type {
            fn from_i128(number: i128) -> Option<$type> {
                <$type>::try_from(number).ok()
            }

            fn from_f64(number: f64) -> Option<$type> {
                // Integers may be written as 5.0 or 5e3.
                (number.fract() == 0.0 && number.abs() < 9.0e15).then_some(number as i128).and_then(Self::from_i128)
            }
        }
    )*};
}

number!(i32, u32, i64, u64);

impl FromJson for f64 {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        number(deserializer, "a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
    }
}

impl Number for f64 {
    fn from_i128(number: i128) -> Option<f64> {
        Some(number as f64)
    }

    fn from_f64(number: f64) -> Option<f64> {
        Some(number)
    }
}

trait Number: Default {
    fn from_i128(number: i128) -> Option<Self>;
    fn from_f64(number: f64) -> Option<Self>;
}

fn number<'de, D: Deserializer<'de>, N: Number>(
    deserializer: D,
    wanted: &'static str,
) -> Result<N, D::Error> {
    struct NumberVisitor<N>(&'static str, PhantomData<N>);

    impl<N: Number> Visitor<'_> for NumberVisitor<N> {
        type Value = N;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_unit<E: Error>(self) -> Result<N, E> {
            Ok(N::default())
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<N, E> {
            N::from_i128(number.into())
                .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<N, E> {
            N::from_i128(number.into()).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<N, E> {
            N::from_f64(number).ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<N, E> {
            let number = match text.parse::<i128>() {
                Ok(number) => N::from_i128(number),
                Err(_) => text.parse().ok().and_then(N::from_f64),
            };
            number.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }

    deserializer.deserialize_any(NumberVisitor(wanted, PhantomData))
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        Ok(<Option<Json<T>>>::deserialize(deserializer)?.map(|value| value.0))
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
        struct List<T>(PhantomData<T>);

        impl<'de, T: FromJson> Visitor<'de> for List<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E: Error>(self) -> Result<Vec<T>, E> {
                Ok(Vec::new())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<Json<T>>()? {
                    items.push(item.0);
                }
                Ok(items)
            }
        }

        deserializer.deserialize_any(List(PhantomData))
    }
}

/// A trace or span id.
struct Hex(Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hex, D::Error> {
        let Some(text) = <Option<Cow<'de, str>>>::deserialize(deserializer)? else {
            return Ok(Hex(Vec::new()));
        };
        hex::decode(text.as_bytes())
            .map(Hex)
            .map_err(|error| D::Error::custom(format!("{text:?} is not hex: {error}")))
    }
}

struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Base64, D::Error> {
        let text = <Option<Cow<'de, str>>>::deserialize(deserializer)?.unwrap_or_default();
        // Either alphabet, with padding or without, as protobuf's JSON asks.
        let standard: String = text
            .trim_end_matches('=')
            .chars()
            .map(|ch| match ch {
                '-' => '+',
                '_' => '/',
                ch => ch,
            })
            .collect();
        base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(standard)
            .map(Base64)
            .map_err(|error| D::Error::custom(format!("not base64: {error}")))
    }
}

/// Borrowed where JSON needs no unescaping.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// What the keys of one message's JSON object do to it.
trait Message: Default {
    fn set<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

fn message<'de, M: Message, D: Deserializer<'de>>(deserializer: D) -> Result<M, D::Error> {
    struct Object<M>(PhantomData<M>);

    impl<'de, M: Message> Visitor<'de> for Object<M> {
        type Value = M;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E: Error>(self) -> Result<M, E> {
            Ok(M::default())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<M, A::Error> {
            let mut message = M::default();
            while let Some(key) = map.next_key::<Key<'de>>()? {
                message.set(&key.0, &mut map)?;
            }
            Ok(message)
        }
    }

    deserializer.deserialize_any(Object(PhantomData))
}

/// `key field`: read as the field's type; `key field as Reader`: by that reader; `key field = Variant`: a member of a
/// oneof, of which the last one that is not `null` counts.
macro_rules! messages {
    ($($type:ty { $($key:literal $field:ident $(as $reader:ident)? $(= $variant:path)?,)* })*) => {$(
        impl FromJson for $type {
            fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                message(deserializer)
            }
        }

        impl Message for $type {
            fn set<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
                match key {
                    $($key => messages!(@set self map $field $(as $reader)? $(= $variant)?),)*
                    _ => drop(map.next_value::<IgnoredAny>()?),
                }
                Ok(())
            }
        }
    )*};
    (@set $self:ident $map:ident $field:ident) => { $self.$field = $map.next_value::<Json<_>>()?.0 };
    (@set $self:ident $map:ident $field:ident as $reader:ident) => { $self.$field = $map.next_value::<$reader>()?.0 };
    (@set $self:ident $map:ident $field:ident = $variant:path) => {
        if let Some(value) = $map.next_value::<Option<Json<_>>>()? {
            $self.$field = Some($variant(value.0));
        }
    };
}

messages! {
    ExportTraceServiceRequest { "resourceSpans" resource_spans, }
    ExportLogsServiceRequest { "resourceLogs" resource_logs, }
    ExportMetricsServiceRequest { "resourceMetrics" resource_metrics, }
    Resource { "attributes" attributes, "droppedAttributesCount" dropped_attributes_count, }
    InstrumentationScope {
        "name" name,
        "version" version,
        "attributes" attributes,
        "droppedAttributesCount" dropped_attributes_count,
    }
    KeyValue { "key" key, "value" value, }
    ArrayValue { "values" values, }
    KeyValueList { "values" values, }

    ResourceSpans { "resource" resource, "scopeSpans" scope_spans, "schemaUrl" schema_url, }
    ScopeSpans { "scope" scope, "spans" spans, "schemaUrl" schema_url, }
    Span {
        "traceId" trace_id as Hex,
        "spanId" span_id as Hex,
        "traceState" trace_state,
        "parentSpanId" parent_span_id as Hex,
        "flags" flags,
        "name" name,
        "kind" kind,
        "startTimeUnixNano" start_time_unix_nano,
        "endTimeUnixNano" end_time_unix_nano,
        "attributes" attributes,
        "droppedAttributesCount" dropped_attributes_count,
        "events" events,
        "droppedEventsCount" dropped_events_count,
        "links" links,
        "droppedLinksCount" dropped_links_count,
        "status" status,
    }
    Status { "message" message, "code" code, }
    span::Event {
        "timeUnixNano" time_unix_nano,
        "name" name,
        "attributes" attributes,
        "droppedAttributesCount" dropped_attributes_count,
    }
    span::Link {
        "traceId" trace_id as Hex,
        "spanId" span_id as Hex,
        "traceState" trace_state,
        "attributes" attributes,
        "droppedAttributesCount" dropped_attributes_count,
        "flags" flags,
    }

    ResourceLogs { "resource" resource, "scopeLogs" scope_logs, "schemaUrl" schema_url, }
    ScopeLogs { "scope" scope, "logRecords" log_records, "schemaUrl" schema_url, }
    LogRecord {
        "timeUnixNano" time_unix_nano,
        "observedTimeUnixNano" observed_time_unix_nano,
        "severityNumber" severity_number,
        "severityText" severity_text,
        "body" body,
        "attributes" attributes,
        "droppedAttributesCount" dropped_attributes_count,
        "flags" flags,
        "traceId" trace_id as Hex,
        "spanId" span_id as Hex,
        "eventName" event_name,
    }

    ResourceMetrics { "resource" resource, "scopeMetrics" scope_metrics, "schemaUrl" schema_url, }
    ScopeMetrics { "scope" scope, "metrics" metrics, "schemaUrl" schema_url, }
    Metric {
        "name" name,
        "description" description,
        "unit" unit,
        "metadata" metadata,
        "gauge" data = metric::Data::Gauge,
        "sum" data = metric::Data::Sum,
        "histogram" data = metric::Data::Histogram,
        "exponentialHistogram" data = metric::Data::ExponentialHistogram,
        "summary" data = metric::Data::Summary,
    }
    Gauge { "dataPoints" data_points, }
    Sum {
        "dataPoints" data_points,
        "aggregationTemporality" aggregation_temporality,
        "isMonotonic" is_monotonic,
    }
    Histogram { "dataPoints" data_points, "aggregationTemporality" aggregation_temporality, }
    ExponentialHistogram { "dataPoints" data_points, "aggregationTemporality" aggregation_temporality, }
    Summary { "dataPoints" data_points, }
    NumberDataPoint {
        "attributes" attributes,
        "startTimeUnixNano" start_time_unix_nano,
        "timeUnixNano" time_unix_nano,
        "exemplars" exemplars,
        "flags" flags,
        "asDouble" value = number_data_point::Value::AsDouble,
        "asInt" value = number_data_point::Value::AsInt,
    }
    HistogramDataPoint {
        "attributes" attributes,
        "startTimeUnixNano" start_time_unix_nano,
        "timeUnixNano" time_unix_nano,
        "count" count,
        "sum" sum,
        "bucketCounts" bucket_counts,
        "explicitBounds" explicit_bounds,
        "exemplars" exemplars,
        "flags" flags,
        "min" min,
        "max" max,
    }
    ExponentialHistogramDataPoint {
        "attributes" attributes,
        "startTimeUnixNano" start_time_unix_nano,
        "timeUnixNano" time_unix_nano,
        "count" count,
        "sum" sum,
        "scale" scale,
        "zeroCount" zero_count,
        "positive" positive,
        "negative" negative,
        "flags" flags,
        "exemplars" exemplars,
        "min" min,
        "max" max,
        "zeroThreshold" zero_threshold,
    }
    Buckets { "offset" offset, "bucketCounts" bucket_counts, }
    SummaryDataPoint {
        "attributes" attributes,
        "startTimeUnixNano" start_time_unix_nano,
        "timeUnixNano" time_unix_nano,
        "count" count,
        "sum" sum,
        "quantileValues" quantile_values,
        "flags" flags,
    }
    ValueAtQuantile { "quantile" quantile, "value" value, }
    Exemplar {
        "filteredAttributes" filtered_attributes,
        "timeUnixNano" time_unix_nano,
        "spanId" span_id as Hex,
        "traceId" trace_id as Hex,
        "asDouble" value = exemplar::Value::AsDouble,
        "asInt" value = exemplar::Value::AsInt,
    }
}

impl FromJson for AnyValue {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AnyValue, D::Error> {
        message(deserializer)
    }
}

impl Message for AnyValue {
    fn set<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        use any_value::Value;
        let value = match key {
            "stringValue" => map.next_value::<Option<Json<_>>>()?.map(|text| Value::StringValue(text.0)),
            "boolValue" => map.next_value::<Option<Json<_>>>()?.map(|flag| Value::BoolValue(flag.0)),
            "intValue" => map.next_value::<Option<Json<_>>>()?.map(|number| Value::IntValue(number.0)),
            "doubleValue" => map.next_value::<Option<Json<_>>>()?.map(|number| Value::DoubleValue(number.0)),
            "arrayValue" => map.next_value::<Option<Json<_>>>()?.map(|array| Value::ArrayValue(array.0)),
            "kvlistValue" => map.next_value::<Option<Json<_>>>()?.map(|list| Value::KvlistValue(list.0)),
            "bytesValue" => map.next_value::<Option<Base64>>()?.map(|bytes| Value::BytesValue(bytes.0)),
            _ => {
                map.next_value::<IgnoredAny>()?;
                None
            }
        };
        self.value = value.or(self.value.take());
        Ok(())
    }
}

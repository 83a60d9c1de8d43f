use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};

use super::span::{Endpoint, ZipkinSpan};
use crate::fault::Fault;

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<ZipkinSpan>, Fault> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let wrong =
        |error: String| Fault::Malformed(format!("the body is not a JSON list of Zipkin v2 spans: {error}"));
    let spans: Vec<JsonSpan> = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!("{path}: ") };
        wrong(format!("{place}{}", error.into_inner()))
    })?;
    json.end().map_err(|error| wrong(error.to_string()))?;
    spans.into_iter().enumerate().map(|(index, span)| span.check(index)).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonSpan {
    trace_id: String,
    id: String,
    parent_id: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    timestamp: Option<u64>,
    duration: Option<u64>,
    local_endpoint: Option<JsonEndpoint>,
    remote_endpoint: Option<JsonEndpoint>,
    annotations: Option<Vec<JsonAnnotation>>,
    tags: Option<Tags>,
    shared: Option<bool>,
    debug: Option<bool>,
    /// Only v1 has these.
    binary_annotations: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonEndpoint {
    service_name: Option<String>,
    ipv4: Option<String>,
    ipv6: Option<String>,
    port: Option<u16>,
}

#[derive(Deserialize)]
struct JsonAnnotation {
    timestamp: u64,
    value: String,
    /// Only v1 has one.
    endpoint: Option<IgnoredAny>,
}

impl JsonSpan {
    fn check(self, index: usize) -> Result<ZipkinSpan, Fault> {
        let annotations = self.annotations.unwrap_or_default();
        if self.binary_annotations.is_some() || annotations.iter().any(|a| a.endpoint.is_some()) {
            return Err(Fault::Malformed(format!(
                "span {index} is in Zipkin's v1 format; this path takes v2: tags instead of binaryAnnotations"
            )));
        }
        Ok(ZipkinSpan {
            trace_id: self.trace_id,
            id: self.id,
            parent_id: self.parent_id.unwrap_or_default(),
            kind: self.kind.unwrap_or_default(),
            name: self.name.unwrap_or_default(),
            timestamp_us: self.timestamp.unwrap_or_default(),
            duration_us: self.duration.unwrap_or_default(),
            local: self.local_endpoint.map(Endpoint::from).unwrap_or_default(),
            remote: self.remote_endpoint.map(Endpoint::from).unwrap_or_default(),
            annotations: annotations.into_iter().map(|a| (a.timestamp, a.value)).collect(),
            tags: self.tags.map(|tags| tags.0).unwrap_or_default(),
            shared: self.shared.unwrap_or_default(),
            debug: self.debug.unwrap_or_default(),
        })
    }
}

impl From<JsonEndpoint> for Endpoint {
    fn from(json: JsonEndpoint) -> Endpoint {
        Endpoint {
            service_name: json.service_name.unwrap_or_default(),
            ipv4: json.ipv4.unwrap_or_default(),
            ipv6: json.ipv6.unwrap_or_default(),
            port: json.port.unwrap_or_default(),
        }
    }
}

/// In the order in which they were sent; numbers and booleans are read as their text, as Zipkin does.
struct Tags(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tags, D::Error> {
        struct TagsVisitor;

        impl<'de> Visitor<'de> for TagsVisitor {
            type Value = Tags;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of text values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tags, A::Error> {
                let mut tags = Vec::new();
                while let Some(key) = map.next_key()? {
                    tags.push((key, map.next_value::<TagText>()?.0));
                }
                Ok(Tags(tags))
            }
        }

        deserializer.deserialize_map(TagsVisitor)
    }
}

struct TagText(String);

impl<'de> Deserialize<'de> for TagText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TagText, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = TagText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<TagText, E> {
                Ok(TagText(text.to_string()))
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<TagText, E> {
                Ok(TagText(flag.to_string()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<TagText, E> {
                Ok(TagText(number.to_string()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<TagText, E> {
                Ok(TagText(number.to_string()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<TagText, E> {
                Ok(TagText(number.to_string()))
            }
        }

        deserializer.deserialize_any(TextVisitor)
    }
}

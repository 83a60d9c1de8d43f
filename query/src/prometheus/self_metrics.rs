//! `/status/self_metrics`: the server's own metrics as JSON, a family an entry, in the form in which protobuf's own
//! JSON writes `io.prometheus.client.MetricFamily`.

use axum::response::Response;
use pharos_promql::format_json_float;
use regex::Regex;
use serde_json::{Value, json};

use super::respond::{ApiError, Notes, success};
use crate::{Engine, params::Params};

pub(crate) fn self_metrics(engine: &Engine, params: &Params) -> Result<Response, ApiError> {
    let wanted = match params.text("metric_name_pattern") {
        None => None,
        Some(pattern) => Some(
            Regex::new(&format!("^(?:{pattern})$"))
                .map_err(|error| ApiError::bad_data(format!("invalid metric_name_pattern: {error}")))?,
        ),
    };
    let mut families = families(&engine.host().own_metrics());
    families.retain(|family| {
        let name = family["name"].as_str().unwrap_or_default();
        wanted.as_ref().is_none_or(|wanted| wanted.is_match(name))
    });
    Ok(success(families, &Notes::default()))
}

/// Of counters and gauges in the text format; other types are left out.
fn families(text: &str) -> Vec<Value> {
    let mut families: Vec<Value> = Vec::new();
    let mut help = "";
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(_), rest) => help = rest.unwrap_or_default(),
            (Some("#"), Some("TYPE"), Some(name), Some(kind @ ("counter" | "gauge"))) => {
                let help = std::mem::take(&mut help);
                families.push(json!({
                    "name": name, "help": help, "type": kind.to_uppercase(), "metric": [],
                }));
            }
            _ => {
                let Some(family) = families.last_mut() else { continue };
                let of_family = |series: &Series<'_>| family["name"] == series.name;
                let Some(series) = Series::parse(line).filter(of_family) else { continue };
                let kind = if family["type"] == "COUNTER" { "counter" } else { "gauge" };
                let labels = series.labels.iter();
                let labels: Vec<Value> =
                    labels.map(|(name, value)| json!({ "name": name, "value": value })).collect();
                let mut metric = json!({ "label": labels });
                if let (Some(metric), Some(all)) = (metric.as_object_mut(), family["metric"].as_array_mut()) {
                    metric.insert(kind.into(), json!({ "value": number(series.value) }));
                    all.push(Value::Object(std::mem::take(metric)));
                }
            }
        }
    }
    families
}

/// What JSON has no number for is text.
fn number(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { json!(format_json_float(value)) }
}

/// A line with a sample.
struct Series<'t> {
    name: &'t str,
    labels: Vec<(&'t str, String)>,
    value: f64,
}

impl<'t> Series<'t> {
    fn parse(line: &'t str) -> Option<Series<'t>> {
        let end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at_checked(end)?;
        let mut labels = Vec::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            while let Some((label, after)) = rest.split_once("=\"") {
                let (value, after) = unquoted(after)?;
                labels.push((label, value));
                rest = after.strip_prefix(',').unwrap_or(after);
                if rest.starts_with('}') {
                    break;
                }
            }
            rest = rest.strip_prefix('}')?;
        }
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Series { name, labels, value })
    }
}

/// The text up to the closing quote, and what follows that.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_keep_their_samples() {
        let text = "# HELP a_total Help of a.\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"\\\\\\n\"} 3\na_total 4\n\
                    # TYPE b gauge\nb +Inf\nnobody 5\n# TYPE c histogram\nc_count 1\n";
        assert_eq!(
            families(text),
            [
                json!({ "name": "a_total", "help": "Help of a.", "type": "COUNTER", "metric": [
                    {
                        "label": [{ "name": "x", "value": "1" }, { "name": "y", "value": "q\"\\\n" }],
                        "counter": { "value": 3.0 },
                    },
                    { "label": [], "counter": { "value": 4.0 } },
                ] }),
                json!({ "name": "b", "help": "", "type": "GAUGE", "metric": [
                    { "label": [], "gauge": { "value": "+Inf" } },
                ] }),
            ]
        );
    }
}

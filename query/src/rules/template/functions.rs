//! The functions that templates may call: Go's own, and Prometheus'.

use std::cmp::Ordering;

use pharos_model::parse_duration_ms;
use regex::Regex;

use super::{
    Surroundings,
    print::{general, plain, printf, time},
    value::Value,
};

/// With the least and the most arguments of each.
const FUNCTIONS: &[(&str, usize, usize)] = &[
    ("and", 1, MANY),
    ("args", 0, MANY),
    ("eq", 2, MANY),
    ("externalURL", 0, 0),
    ("first", 1, 1),
    ("ge", 2, 2),
    ("graphLink", 1, 1),
    ("gt", 2, 2),
    ("html", 1, MANY),
    ("humanize", 1, 1),
    ("humanize1024", 1, 1),
    ("humanizeDuration", 1, 1),
    ("humanizePercentage", 1, 1),
    ("humanizeTimestamp", 1, 1),
    ("index", 1, MANY),
    ("label", 2, 2),
    ("le", 2, 2),
    ("len", 1, 1),
    ("lt", 2, 2),
    ("match", 2, 2),
    ("ne", 2, 2),
    ("not", 1, 1),
    ("now", 0, 0),
    ("or", 1, MANY),
    ("parseDuration", 1, 1),
    ("pathPrefix", 0, 0),
    ("print", 0, MANY),
    ("printf", 1, MANY),
    ("println", 0, MANY),
    ("query", 1, 1),
    ("reReplaceAll", 3, 3),
    ("safeHtml", 1, 1),
    ("sortByLabel", 2, 2),
    ("stripDomain", 1, 1),
    ("stripPort", 1, 1),
    ("strvalue", 1, 1),
    ("tableLink", 1, 1),
    ("title", 1, 1),
    ("toLower", 1, 1),
    ("toTime", 1, 1),
    ("toUpper", 1, 1),
    ("urlQueryEscape", 1, 1),
    ("urlquery", 1, MANY),
    ("value", 1, 1),
];
const MANY: usize = usize::MAX;

pub(super) fn is_function(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, ..)| *known == name)
}

/// For `/api/v1/features`.
pub(crate) fn function_names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|(name, ..)| *name)
}

pub(super) fn call(
    name: &str,
    arguments: &[Value],
    surroundings: &dyn Surroundings,
) -> Result<Value, String> {
    let (_, least, most) = FUNCTIONS
        .iter()
        .find(|(known, ..)| *known == name)
        .ok_or_else(|| format!("function {name:?} not defined"))?;
    if arguments.len() < *least || arguments.len() > *most {
        let wanted = if *most == MANY { format!("at least {least}") } else { least.to_string() };
        return Err(format!("wrong number of args: want {wanted} got {}", arguments.len()));
    }
    match arguments {
        [] => without_arguments(name, surroundings),
        [only] => of_one(name, only, surroundings),
        _ => of_many(name, arguments),
    }
}

fn without_arguments(name: &str, surroundings: &dyn Surroundings) -> Result<Value, String> {
    let url = surroundings.external_url();
    Ok(match name {
        "externalURL" => Value::Text(url.to_string()),
        "pathPrefix" => {
            let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
            Value::Text(after_scheme.find('/').and_then(|at| after_scheme.get(at..)).unwrap_or("").into())
        }
        "now" => Value::Float(pharos_model::UnixNanos::now().millis() as f64 / 1e3),
        "println" => Value::Text("\n".into()),
        "args" => Value::Map(Default::default()),
        _ => Value::Text(String::new()),
    })
}

fn of_one(name: &str, argument: &Value, surroundings: &dyn Surroundings) -> Result<Value, String> {
    let text = |text: String| Ok(Value::Text(text));
    match name {
        "query" => surroundings.query(argument.text()?).map(Value::List),
        "first" => argument
            .list()?
            .first()
            .cloned()
            .ok_or_else(|| "first() called on vector with no elements".to_string()),
        "value" => argument.member("Value"),
        "strvalue" => argument.member("Labels")?.member("__value__"),
        "humanize" => argument.number().map(|value| Value::Text(humanize(value))),
        "humanize1024" => argument.number().map(|value| Value::Text(humanize_1024(value))),
        "humanizeDuration" => argument.number().map(|value| Value::Text(humanize_duration(value))),
        "humanizePercentage" => {
            argument.number().map(|value| Value::Text(format!("{}%", general(value * 100.0, Some(4)))))
        }
        "humanizeTimestamp" => argument
            .number()
            .map(|value| Value::Text(if value.is_finite() { time(value) } else { general(value, Some(4)) })),
        "toTime" => argument.number().map(Value::Time),
        "parseDuration" => parse_duration_ms(argument.text()?)
            .map(|ms| Value::Float(ms as f64 / 1e3))
            .map_err(|error| error.to_string()),
        "title" => text(title(argument.text()?)),
        "toUpper" => text(argument.text()?.to_uppercase()),
        "toLower" => text(argument.text()?.to_lowercase()),
        "stripPort" => text(strip_port(argument.text()?)),
        "stripDomain" => text(strip_domain(argument.text()?)),
        "graphLink" => text(format!("/graph?g0.expr={}&g0.tab=0", url_query_escape(argument.text()?))),
        "tableLink" => text(format!("/graph?g0.expr={}&g0.tab=1", url_query_escape(argument.text()?))),
        "urlQueryEscape" | "urlquery" => text(url_query_escape(&plain(argument))),
        "safeHtml" => text(argument.text()?.to_string()),
        "html" => text(escape_html(&plain(argument))),
        "not" => Ok(Value::Bool(!argument.is_true())),
        "len" => match argument {
            Value::Text(text) => Ok(Value::Int(text.len() as i64)),
            Value::List(items) => Ok(Value::Int(items.len() as i64)),
            Value::Map(entries) => Ok(Value::Int(entries.len() as i64)),
            other => Err(format!("len of type {}", other.type_name())),
        },
        _ => of_many(name, std::slice::from_ref(argument)),
    }
}

fn of_many(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let joined = |separator: &str| arguments.iter().map(plain).collect::<Vec<_>>().join(separator);
    match (name, arguments) {
        ("printf", [format, values @ ..]) => Ok(Value::Text(printf(format.text()?, values))),
        ("print", _) => Ok(Value::Text(print(arguments))),
        ("println", _) => Ok(Value::Text(joined(" ") + "\n")),
        ("html", _) => Ok(Value::Text(escape_html(&joined("")))),
        ("urlquery", _) => Ok(Value::Text(url_query_escape(&joined("")))),
        ("index", [base, keys @ ..]) => keys.iter().try_fold(base.clone(), |base, key| index(&base, key)),
        ("args", _) => {
            let named = arguments.iter().enumerate().map(|(at, value)| (format!("arg{at}"), value.clone()));
            Ok(Value::Map(named.collect()))
        }
        ("eq", [left, rights @ ..]) => {
            for right in rights {
                if compare(left, right)? == Some(Ordering::Equal) {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        ("ne", [left, right]) => Ok(Value::Bool(compare(left, right)? != Some(Ordering::Equal))),
        ("lt" | "le" | "gt" | "ge", [left, right]) => {
            let order = compare(left, right)?;
            Ok(Value::Bool(match name {
                "lt" => order == Some(Ordering::Less),
                "gt" => order == Some(Ordering::Greater),
                "le" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            }))
        }
        ("label", [name, sample]) => sample.member("Labels")?.member(name.text()?),
        ("sortByLabel", [label, result]) => {
            let label = label.text()?;
            let key = |sample: &Value| {
                let labels = sample.member("Labels").and_then(|labels| labels.member(label));
                labels.map(|value| plain(&value)).unwrap_or_default()
            };
            let mut samples = result.list()?.to_vec();
            samples.sort_by_key(key);
            Ok(Value::List(samples))
        }
        ("match", [pattern, text]) => Ok(Value::Bool(regex(pattern)?.is_match(text.text()?))),
        ("reReplaceAll", [pattern, replacement, text]) => {
            let replaced = regex(pattern)?.replace_all(text.text()?, replacement.text()?).into_owned();
            Ok(Value::Text(replaced))
        }
        _ => Err(format!("wrong number of args for {name}")),
    }
}

/// Go's `Sprint`: a blank between two operands of which neither is text.
fn print(values: &[Value]) -> String {
    let mut out = String::new();
    let mut was_text = true;
    for value in values {
        let is_text = matches!(value, Value::Text(_));
        if !was_text && !is_text {
            out.push(' ');
        }
        out.push_str(&plain(value));
        was_text = is_text;
    }
    out
}

fn regex(pattern: &Value) -> Result<Regex, String> {
    let pattern = pattern.text()?;
    Regex::new(pattern).map_err(|_| format!("error parsing regexp: {pattern:?}"))
}

fn index(base: &Value, key: &Value) -> Result<Value, String> {
    match (base, key) {
        (Value::List(items), Value::Int(at)) => usize::try_from(*at)
            .ok()
            .and_then(|at| items.get(at).cloned())
            .ok_or_else(|| format!("index out of range: {at}")),
        (Value::Map(_), Value::Text(key)) => base.member(key),
        _ => Err(format!("can't index {} by {}", base.type_name(), key.type_name())),
    }
}

/// `None` for NaN, which is neither equal nor less.
fn compare(left: &Value, right: &Value) -> Result<Option<Ordering>, String> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Ok(Some(left.cmp(right))),
        (Value::Bool(left), Value::Bool(right)) => Ok(Some(left.cmp(right))),
        (Value::Nil, Value::Nil) => Ok(Some(Ordering::Equal)),
        (
            Value::Int(_) | Value::Float(_) | Value::Time(_),
            Value::Int(_) | Value::Float(_) | Value::Time(_),
        ) => Ok(left.number()?.partial_cmp(&right.number()?)),
        _ => {
            Err(format!("incompatible types for comparison: {} and {}", left.type_name(), right.type_name()))
        }
    }
}

/// Divides or multiplies until the number is short, and names the power.
fn scaled(mut value: f64, base: f64, prefixes: &[&str], is_done: impl Fn(f64) -> bool, up: bool) -> String {
    let mut prefix = "";
    for next in prefixes {
        if is_done(value) {
            break;
        }
        prefix = next;
        if up {
            value *= base;
        } else {
            value /= base;
        }
    }
    format!("{}{prefix}", general(value, Some(4)))
}

const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

pub(super) fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        general(value, Some(4))
    } else if value.abs() >= 1.0 {
        let prefixes = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
        scaled(value, 1000.0, &prefixes, |value| value.abs() < 1000.0, false)
    } else {
        scaled(value, 1000.0, &SMALL, |value| value.abs() >= 1.0, true)
    }
}

pub(super) fn humanize_1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return general(value, Some(4));
    }
    let prefixes = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
    scaled(value, 1024.0, &prefixes, |value| value.abs() < 1024.0, false)
}

pub(super) fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return general(value, Some(4));
    }
    if value == 0.0 {
        return "0s".into();
    }
    if value.abs() < 1.0 {
        return scaled(value, 1000.0, &SMALL, |value| value.abs() >= 1.0, true) + "s";
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let whole = value.abs() as i64;
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60);
    if days != 0 {
        format!("{sign}{days}d {hours}h {minutes}m {seconds}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {minutes}m {seconds}s")
    } else if minutes != 0 {
        format!("{sign}{minutes}m {seconds}s")
    } else {
        format!("{sign}{}s", general(value.abs(), Some(4)))
    }
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut starts_word = true;
    for c in text.chars() {
        if starts_word {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        starts_word = !(c.is_alphanumeric() || c == '_');
    }
    out
}

/// Host and port; the port is `None` where there is none.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            (name.trim_start_matches('[').trim_end_matches(']'), Some(port))
        }
        _ => (host, None),
    }
}

fn strip_port(host: &str) -> String {
    split_port(host).0.to_string()
}

fn strip_domain(host: &str) -> String {
    let (name, port) = split_port(host);
    let short = match name.parse::<std::net::IpAddr>() {
        Ok(_) => name,
        Err(_) => name.split('.').next().unwrap_or(name),
    };
    match port {
        Some(port) if short.contains(':') => format!("[{short}]:{port}"),
        Some(port) => format!("{short}:{port}"),
        None => short.to_string(),
    }
}

pub(crate) fn url_query_escape(text: &str) -> String {
    let escaped: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    escaped.replace('*', "%2A").replace("%7E", "~")
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// A value of an attribute: OpenTelemetry's `AnyValue`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    String(String),
    Array(Vec<Value>),
    Map(Vec<(String, Value)>),
    Bytes(Vec<u8>),
}

impl Value {
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number, also when it was sent as decimal text, as Envoy does.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            Value::Double(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The value as a person would write it: text bare, arrays and maps as JSON, bytes in hex.
    pub fn to_text(&self) -> String {
        match self {
            Value::Null => String::new(),
            Value::Bool(flag) => flag.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Double(number) => number.to_string(),
            Value::String(text) => text.clone(),
            Value::Bytes(bytes) => hex::encode(bytes),
            Value::Array(_) | Value::Map(_) => {
                let mut json = String::new();
                self.write_json(&mut json);
                json
            }
        }
    }

    fn write_json(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::String(text) => write_json_string(text, out),
            Value::Bytes(bytes) => write_json_string(&hex::encode(bytes), out),
            Value::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write_json(out);
                }
                out.push(']');
            }
            Value::Map(entries) => {
                out.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_json_string(key, out);
                    out.push(':');
                    value.write_json(out);
                }
                out.push('}');
            }
            // JSON has no NaN and no infinity.
            Value::Double(number) if !number.is_finite() => write_json_string(&number.to_string(), out),
            Value::Bool(_) | Value::Int(_) | Value::Double(_) => out.push_str(&self.to_text()),
        }
    }
}

fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    for ch in text.chars() {
        match ch {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ch if (ch as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", ch as u32)),
            ch => out.push(ch),
        }
    }
    out.push('"');
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.to_string())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Bool(flag)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Double(number)
    }
}

/// Attributes in the order in which they were sent. A key that was sent twice keeps its first value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attributes(Vec<(String, Value)>);

impl Attributes {
    pub fn new() -> Attributes {
        Attributes::default()
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// The first value found under any of `keys`: the way in which old and new semantic conventions meet.
    pub fn first_of(&self, keys: &[&str]) -> Option<&Value> {
        keys.iter().find_map(|key| self.get(key))
    }

    /// Adds the pair unless the key is there already.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let key = key.into();
        if self.get(&key).is_none() {
            self.0.push((key, value.into()));
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, Value)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(pairs: I) -> Attributes {
        let mut pairs: Vec<(String, Value)> = pairs.into_iter().collect();
        // Comparing each key with all others costs less than hashing while they are few; a peer may send many.
        if pairs.len() <= 16 {
            let mut attributes = Attributes::new();
            pairs.into_iter().for_each(|(key, value)| attributes.insert(key, value));
            return attributes;
        }
        let mut seen = HashSet::with_capacity(pairs.len());
        let first: Vec<bool> = pairs.iter().map(|(key, _)| seen.insert(key.as_str())).collect();
        let mut first = first.into_iter();
        pairs.retain(|_| first.next() == Some(true));
        Attributes(pairs)
    }
}

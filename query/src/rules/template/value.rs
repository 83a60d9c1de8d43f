//! What templates compute with.

use std::collections::BTreeMap;

/// A value, typed as loosely as templates see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    /// A map with text keys; an absent key gives empty text.
    Map(BTreeMap<String, Value>),
    /// A struct: an absent field is an error.
    Record(BTreeMap<String, Value>),
    /// Unix seconds, printed as a date.
    Time(f64),
}

impl Value {
    /// A label set, or any other texts by name.
    pub(crate) fn texts<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
        let pairs = pairs.into_iter().map(|(name, text)| (name.to_string(), Value::Text(text.to_string())));
        Value::Map(pairs.collect())
    }

    pub(crate) fn record<const N: usize>(fields: [(&str, Value); N]) -> Value {
        Value::Record(fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
    }

    /// An element of a query's result.
    pub(crate) fn sample<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>, value: f64) -> Value {
        Value::record([("Labels", Value::texts(labels)), ("Value", Value::Float(value))])
    }

    /// `.name`
    pub(crate) fn member(&self, name: &str) -> Result<Value, String> {
        match self {
            Value::Map(entries) => {
                Ok(entries.get(name).cloned().unwrap_or_else(|| Value::Text(String::new())))
            }
            Value::Record(fields) => {
                fields.get(name).cloned().ok_or_else(|| format!("can't evaluate field {name}"))
            }
            Value::Nil => Err(format!("nil data; no entry for key {name:?}")),
            other => Err(format!("can't evaluate field {name} in type {}", other.type_name())),
        }
    }

    /// What `if`, `and` and the like take for true: anything that is not zero or empty.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Map(entries) => !entries.is_empty(),
            Value::Record(_) | Value::Time(_) => true,
        }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Record(_) => "struct",
            Value::Time(_) => "time",
        }
    }

    /// A number, also one that is written as text: label values are numbers at times.
    pub(crate) fn number(&self) -> Result<f64, String> {
        match self {
            Value::Int(value) => Ok(*value as f64),
            Value::Float(value) | Value::Time(value) => Ok(*value),
            Value::Text(text) => text.trim().parse().map_err(|_| format!("cannot read {text:?} as a number")),
            other => Err(format!("can't convert {} to a number", other.type_name())),
        }
    }

    pub(crate) fn text(&self) -> Result<&str, String> {
        match self {
            Value::Text(text) => Ok(text),
            other => Err(format!("expected string; got {}", other.type_name())),
        }
    }

    pub(crate) fn list(&self) -> Result<&[Value], String> {
        match self {
            Value::List(items) => Ok(items),
            other => Err(format!("expected a query's result; got {}", other.type_name())),
        }
    }
}

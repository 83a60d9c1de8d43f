use pharos_model::{Attributes, Value};
use pharos_proto::otlp::common::v1::{AnyValue, KeyValue, any_value};

pub(super) fn value(any: Option<AnyValue>) -> Value {
    match any.and_then(|any| any.value) {
        None => Value::Null,
        Some(any_value::Value::StringValue(text)) => Value::String(text),
        Some(any_value::Value::BoolValue(flag)) => Value::Bool(flag),
        Some(any_value::Value::IntValue(number)) => Value::Int(number),
        Some(any_value::Value::DoubleValue(number)) => Value::Double(number),
        Some(any_value::Value::BytesValue(bytes)) => Value::Bytes(bytes),
        Some(any_value::Value::ArrayValue(array)) => {
            Value::Array(array.values.into_iter().map(|item| value(Some(item))).collect())
        }
        Some(any_value::Value::KvlistValue(list)) => {
            Value::Map(list.values.into_iter().map(|pair| (pair.key, value(pair.value))).collect())
        }
        // Index into a string table that only profiles have.
        Some(any_value::Value::StringValueStrindex(_)) => Value::Null,
    }
}

pub(super) fn attributes(pairs: Vec<KeyValue>) -> Attributes {
    pairs.into_iter().map(|pair| (pair.key, value(pair.value))).collect()
}

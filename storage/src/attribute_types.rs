//! Attributes in two columns: a map of texts, which SQL reaches as `attributes['key']`, and beside it the types
//! that the texts stand for. Together they give back exactly what was sent. The second is null when all values
//! are strings, as most are.
//!
//! The types are one tag byte per entry of the map, in its order. A value that its text cannot give back (an
//! array, a map, a NaN) follows its tag whole, in the encoding of [`write_value`].

use std::borrow::Cow;

use pharos_model::{Attributes, Value};

use crate::columns::Cell;

const NULL: u8 = b'n';
const BOOL: u8 = b'b';
const INT: u8 = b'i';
const DOUBLE: u8 = b'd';
const STRING: u8 = b's';
const BYTES: u8 = b'y';
/// The tagged value follows, after its length.
const WHOLE: u8 = b'w';
const ARRAY: u8 = b'a';
const MAP: u8 = b'm';

/// A value nested deeper than this comes back as its text.
const MAX_DEPTH: usize = 128;

/// The value's text, as a person would write it.
pub(crate) fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_text()),
    }
}

/// Attributes whose values are all still text.
pub(crate) fn texts(pairs: &[(&str, &str)]) -> Attributes {
    pairs.iter().map(|(key, value)| (key.to_string(), Value::String(value.to_string()))).collect()
}

pub(crate) fn cell(attributes: &Attributes) -> Cell<'static> {
    if attributes.iter().all(|(_, value)| matches!(value, Value::String(_))) {
        return Cell::Null;
    }
    let mut types = Vec::with_capacity(attributes.len());
    for (_, value) in attributes.iter() {
        match value {
            Value::Null => types.push(NULL),
            Value::Bool(_) => types.push(BOOL),
            Value::Int(_) => types.push(INT),
            Value::Double(number) if !number.is_nan() => types.push(DOUBLE),
            Value::String(_) => types.push(STRING),
            Value::Bytes(_) => types.push(BYTES),
            Value::Double(_) | Value::Array(_) | Value::Map(_) => {
                types.push(WHOLE);
                let whole = encode(value);
                write_length(whole.len(), &mut types);
                types.extend_from_slice(&whole);
            }
        }
    }
    Cell::Bytes(Cow::Owned(types))
}

/// The types of a map's entries, each with the bytes that follow its tag. Without types all are strings.
pub(crate) struct Tags<'a> {
    types: Option<&'a [u8]>,
}

impl<'a> Tags<'a> {
    pub(crate) fn new(types: Option<&'a [u8]>) -> Tags<'a> {
        Tags { types }
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.types.unwrap_or_default()
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let Some(types) = &mut self.types else { return Some((STRING, &[])) };
        let (tag, after) = types.split_first()?;
        let mut rest = after;
        if *tag == WHOLE {
            let length = read_length(&mut rest)?;
            take(&mut rest, length)?;
        }
        let whole = after.get(..after.len() - rest.len())?;
        *types = rest;
        Some((*tag, whole))
    }
}

/// Gives the texts their types back. Where the two columns do not fit each other, a value stays text.
pub(crate) fn retype(texts: &Attributes, types: &[u8]) -> Attributes {
    let mut types = types;
    texts.iter().map(|(key, value)| (key.to_string(), typed(value, &mut types))).collect()
}

fn typed(value: &Value, types: &mut &[u8]) -> Value {
    let text = value.as_str().unwrap_or_default();
    let read = match take_byte(types) {
        Some(NULL) => Some(Value::Null),
        Some(BOOL) => text.parse().ok().map(Value::Bool),
        Some(INT) => text.parse().ok().map(Value::Int),
        Some(DOUBLE) => text.parse().ok().map(Value::Double),
        Some(BYTES) => bytes_of_hex(text).map(Value::Bytes),
        Some(WHOLE) => read_length(types).and_then(|length| take(types, length)).and_then(decode),
        _ => None,
    };
    read.unwrap_or_else(|| Value::String(text.to_string()))
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits.chunks_exact(2).map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}

/// A value whole: its tag, then its bytes; texts, byte strings, arrays and maps after their length as a varint.
pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_value(value, &mut out);
    out
}

/// `None` for bytes that [`encode`] does not make.
pub(crate) fn decode(bytes: &[u8]) -> Option<Value> {
    let mut bytes = bytes;
    let value = read_value(&mut bytes, 0)?;
    bytes.is_empty().then_some(value)
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(flag) => out.extend_from_slice(&[BOOL, u8::from(*flag)]),
        Value::Int(number) => {
            out.push(INT);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Double(number) => {
            out.push(DOUBLE);
            out.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        Value::String(text) => {
            out.push(STRING);
            write_bytes(text.as_bytes(), out);
        }
        Value::Bytes(bytes) => {
            out.push(BYTES);
            write_bytes(bytes, out);
        }
        Value::Array(items) => {
            out.push(ARRAY);
            write_length(items.len(), out);
            items.iter().for_each(|item| write_value(item, out));
        }
        Value::Map(entries) => {
            out.push(MAP);
            write_length(entries.len(), out);
            for (key, value) in entries {
                write_bytes(key.as_bytes(), out);
                write_value(value, out);
            }
        }
    }
}

fn read_value(bytes: &mut &[u8], depth: usize) -> Option<Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    Some(match take_byte(bytes)? {
        NULL => Value::Null,
        BOOL => Value::Bool(take_byte(bytes)? != 0),
        INT => Value::Int(i64::from_le_bytes(take(bytes, 8)?.try_into().ok()?)),
        DOUBLE => Value::Double(f64::from_bits(u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?))),
        STRING => Value::String(read_text(bytes)?),
        BYTES => {
            let length = read_length(bytes)?;
            Value::Bytes(take(bytes, length)?.to_vec())
        }
        ARRAY => {
            let length = read_length(bytes)?;
            Value::Array((0..length).map(|_| read_value(bytes, depth + 1)).collect::<Option<_>>()?)
        }
        MAP => {
            let length = read_length(bytes)?;
            let entry = |_| Some((read_text(bytes)?, read_value(bytes, depth + 1)?));
            Value::Map((0..length).map(entry).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn read_text(bytes: &mut &[u8]) -> Option<String> {
    let length = read_length(bytes)?;
    String::from_utf8(take(bytes, length)?.to_vec()).ok()
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

pub(crate) fn write_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

pub(crate) fn read_length(bytes: &mut &[u8]) -> Option<usize> {
    let mut length = 0usize;
    for shift in (0..35).step_by(7) {
        let byte = take_byte(bytes)?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}

pub(crate) fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(attributes: &Attributes) -> Attributes {
        let pairs: Vec<(&str, Cow<'_, str>)> =
            attributes.iter().map(|(key, value)| (key, text(value))).collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (*key, value.as_ref())).collect();
        let read = texts(&pairs);
        match cell(attributes) {
            Cell::Bytes(types) => retype(&read, &types),
            _ => read,
        }
    }

    #[test]
    fn every_type_comes_back_in_order() {
        let nested = Value::Map(vec![
            ("k".to_string(), Value::Double(1.0)),
            ("k".to_string(), Value::Bytes(vec![0, 255])),
            (
                "list".to_string(),
                Value::Array(vec![Value::Int(-3), Value::Null, Value::String("ü".to_string())]),
            ),
        ]);
        let attributes: Attributes = [
            ("z", Value::String("plain".to_string())),
            ("int", Value::Int(i64::MIN)),
            ("whole double", Value::Double(200.0)),
            ("double", Value::Double(0.1 + 0.2)),
            ("minus zero", Value::Double(-0.0)),
            ("infinite", Value::Double(f64::NEG_INFINITY)),
            ("flag", Value::Bool(false)),
            ("bytes", Value::Bytes(vec![1, 2, 254])),
            ("none", Value::Null),
            ("digits as text", Value::String("42".to_string())),
            ("nested", nested),
            ("empty", Value::Array(Vec::new())),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_string(), value))
        .collect();
        assert_eq!(round_trip(&attributes), attributes);
        let Some(Value::Double(zero)) = round_trip(&attributes).get("minus zero").cloned() else { panic!() };
        assert!(zero.is_sign_negative());
    }

    #[test]
    fn all_strings_need_no_types() {
        let attributes: Attributes =
            [("a".to_string(), "1".into()), ("b".to_string(), "".into())].into_iter().collect();
        assert!(cell(&attributes).is_null());
        assert_eq!(round_trip(&attributes), attributes);
    }

    #[test]
    fn broken_types_leave_text() {
        let read = texts(&[("a", "1"), ("b", "x")]);
        assert_eq!(retype(&read, b"ii").get("a"), Some(&Value::Int(1)));
        assert_eq!(retype(&read, b"ii").get("b"), Some(&Value::String("x".to_string())));
        assert_eq!(retype(&read, &[WHOLE, 200, 200]), read);
        assert_eq!(decode(&[ARRAY, 0xff, 0xff, 0xff, 0xff, 0x7f]), None);
    }
}

//! Trace context in headers: the grammars of B3 and W3C, and what is read and written.
//!
//! The single `b3` header wins over `x-b3-*`. A B3 header that is broken means no span and untouched
//! headers, as in Envoy; a broken `traceparent` starts a new trace, as W3C asks.

use http::{HeaderMap, HeaderName, HeaderValue};
use pharos_model::{SpanId, TraceId};
use serde::Deserialize;

/// A family of trace headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Zipkin's: the single `b3` header wins over `x-b3-*`.
    B3,
    /// `traceparent` and `tracestate`.
    W3c,
}

const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) sampled: bool,
    /// B3's flag: sampled, and marked so for those who come after.
    pub(crate) debug: bool,
}

/// What a request brought along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// No trace; perhaps a decision about the one to start.
    New { sampled: Option<bool>, debug: bool },
    /// A trace to continue. Without a decision it is ours to make.
    Continue { trace_id: TraceId, span_id: SpanId, sampled: Option<bool>, debug: bool },
    /// B3 headers that mean nothing: make no span and leave the headers alone.
    Broken,
}

/// Reads the first family of `order` that names a trace. A decision alone only counts when none does.
pub(crate) fn extract(headers: &HeaderMap, order: &[Propagation]) -> Incoming {
    let mut decision = None;
    for family in order {
        let found = match family {
            Propagation::B3 => extract_b3(headers),
            Propagation::W3c => extract_w3c(headers),
        };
        match found {
            Some(new @ Incoming::New { .. }) => {
                decision.get_or_insert(new);
            }
            Some(found) => return found,
            None => {}
        }
    }
    decision.unwrap_or(Incoming::New { sampled: None, debug: false })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

fn extract_b3(headers: &HeaderMap) -> Option<Incoming> {
    if let Some(single) = text(headers, &B3) {
        return Some(parse_b3_single(single).unwrap_or(Incoming::Broken));
    }
    let debug = text(headers, &B3_FLAGS) == Some("1");
    let sampled = match text(headers, &B3_SAMPLED) {
        _ if debug => Some(true),
        Some("1" | "true") => Some(true),
        Some("0" | "false") => Some(false),
        _ => None,
    };
    match (text(headers, &B3_TRACE_ID), text(headers, &B3_SPAN_ID)) {
        (Some(trace), Some(span)) => {
            let parent_is_fine = text(headers, &B3_PARENT).is_none_or(|parent| span_id(parent).is_some());
            let context = trace_id(trace).zip(span_id(span)).filter(|_| parent_is_fine);
            Some(context.map_or(Incoming::Broken, |(trace_id, span_id)| Incoming::Continue {
                trace_id,
                span_id,
                sampled,
                debug,
            }))
        }
        // Both ids are needed; a decision alone still counts.
        _ if sampled.is_some() => Some(Incoming::New { sampled, debug }),
        _ => None,
    }
}

/// `{trace 16|32}-{span 16}[-{0|1|d}[-{parent 16}]]`, or the flag alone.
fn parse_b3_single(value: &str) -> Option<Incoming> {
    let decision = |flag: &str| match flag {
        "0" => Some((false, false)),
        "1" => Some((true, false)),
        "d" => Some((true, true)),
        _ => None,
    };
    let mut parts = value.split('-');
    let (first, second) = (parts.next()?, parts.next());
    let Some(second) = second else {
        let (sampled, debug) = decision(first)?;
        return Some(Incoming::New { sampled: Some(sampled), debug });
    };
    let (trace_id, span_id) = (trace_id(first)?, span_id(second)?);
    let flag = match parts.next() {
        Some(flag) => Some(decision(flag)?),
        None => None,
    };
    if let Some(parent) = parts.next() {
        self::span_id(parent)?;
    }
    if parts.next().is_some() {
        return None;
    }
    Some(Incoming::Continue {
        trace_id,
        span_id,
        sampled: flag.map(|(sampled, _)| sampled),
        debug: flag.is_some_and(|(_, debug)| debug),
    })
}

/// `{version 2}-{trace 32}-{parent 16}-{flags 2}`, lower-case hex, exactly 55 characters.
fn extract_w3c(headers: &HeaderMap) -> Option<Incoming> {
    let value = text(headers, &TRACEPARENT)?;
    let start_anew = Incoming::New { sampled: None, debug: false };
    Some(parse_traceparent(value).unwrap_or(start_anew))
}

fn parse_traceparent(value: &str) -> Option<Incoming> {
    if value.len() != 55 || value.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let mut parts = value.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version.len() != 2 || version == "ff" || parts.next().is_some() || trace.len() != 32 {
        return None;
    }
    u8::from_str_radix(version, 16).ok()?;
    let flags = Some(flags).filter(|f| f.len() == 2).and_then(|f| u8::from_str_radix(f, 16).ok())?;
    Some(Incoming::Continue {
        trace_id: trace_id(trace)?,
        span_id: span_id(parent)?,
        sampled: Some(flags & 1 == 1),
        debug: false,
    })
}

/// 16 or 32 hex digits that are not all zero.
fn trace_id(hex: &str) -> Option<TraceId> {
    let width = hex.len() == 16 || hex.len() == 32;
    Some(hex).filter(|_| width).and_then(|hex| hex.parse().ok()).filter(|id: &TraceId| !id.is_zero())
}

/// 16 hex digits that are not all zero.
fn span_id(hex: &str) -> Option<SpanId> {
    Some(hex)
        .filter(|hex| hex.len() == 16)
        .and_then(|hex| hex.parse().ok())
        .filter(|id: &SpanId| !id.is_zero())
}

impl Context {
    /// Writes the families of `order`. A `b3` header that is there is always brought up to date: left
    /// as it came it would win over what we write.
    pub(crate) fn inject(&self, headers: &mut HeaderMap, order: &[Propagation]) {
        let mut text = Text::default();
        for family in order {
            match family {
                Propagation::B3 => {
                    if headers.contains_key(B3) {
                        headers.insert(B3, self.b3_single(&mut text));
                    }
                    headers.insert(B3_TRACE_ID, text.clear().hex(self.b3_trace_id()).value());
                    headers.insert(B3_SPAN_ID, text.clear().hex(&self.span_id.0).value());
                    match self.parent {
                        Some(parent) => {
                            headers.insert(B3_PARENT, text.clear().hex(&parent.0).value());
                        }
                        None => {
                            headers.remove(B3_PARENT);
                        }
                    }
                    headers
                        .insert(B3_SAMPLED, HeaderValue::from_static(if self.sampled { "1" } else { "0" }));
                    if self.debug {
                        headers.insert(B3_FLAGS, HeaderValue::from_static("1"));
                    }
                }
                Propagation::W3c => {
                    let same_trace = matches!(
                        extract_w3c(headers),
                        Some(Incoming::Continue { trace_id, .. }) if trace_id == self.trace_id
                    );
                    if !same_trace {
                        headers.remove(TRACESTATE);
                    }
                    let text = text.clear().put(b"00-").hex(&self.trace_id.0).put(b"-").hex(&self.span_id.0);
                    headers.insert(TRACEPARENT, text.put(if self.sampled { b"-01" } else { b"-00" }).value());
                }
            }
        }
    }

    fn b3_single(&self, text: &mut Text) -> HeaderValue {
        let flag = match (self.debug, self.sampled) {
            (true, _) => b"-d",
            (false, true) => b"-1",
            (false, false) => b"-0",
        };
        text.clear().hex(self.b3_trace_id()).put(b"-").hex(&self.span_id.0).put(flag);
        if let Some(parent) = self.parent {
            text.put(b"-").hex(&parent.0);
        }
        text.value()
    }

    /// B3 ids keep the width they came with: 64 bits when the upper half is zero.
    fn b3_trace_id(&self) -> &[u8] {
        let (high, low) = self.trace_id.0.split_at(8);
        if high == [0; 8] { low } else { &self.trace_id.0 }
    }

    /// A span below this one.
    pub(crate) fn child(&self) -> Self {
        Self { span_id: new_span_id(), parent: Some(self.span_id), ..*self }
    }
}

/// Where header values are put together, without a detour over the heap.
#[derive(Default)]
struct Text(smallvec::SmallVec<[u8; 80]>);

impl Text {
    fn clear(&mut self) -> &mut Self {
        self.0.clear();
        self
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn hex(&mut self, bytes: &[u8]) -> &mut Self {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
        for byte in bytes {
            self.0.extend([digit(byte >> 4), digit(byte & 15)]);
        }
        self
    }

    fn value(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or(HeaderValue::from_static("0"))
    }
}

pub(crate) fn new_trace_id() -> TraceId {
    TraceId(rand::random::<u128>().max(1).to_be_bytes())
}

pub(crate) fn new_span_id() -> SpanId {
    SpanId(rand::random::<u64>().max(1).to_be_bytes())
}

#[cfg(test)]
mod tests;

//! A finished span, as both exporters take it.

use crate::trace::Context;
use pharos_model::SpanKind;
use std::time::{Duration, SystemTime};

#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) context: Context,
    pub(crate) kind: SpanKind,
    pub(crate) name: String,
    pub(crate) start: SystemTime,
    pub(crate) duration: Duration,
    pub(crate) tags: Vec<(&'static str, String)>,
    pub(crate) error: bool,
}

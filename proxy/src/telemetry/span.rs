//! A finished span, as both exporters take it.

use crate::trace::Context;
use pharos_model::SpanKind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) context: Context,
    pub(crate) kind: SpanKind,
    pub(crate) name: Arc<str>,
    pub(crate) start: SystemTime,
    pub(crate) duration: Duration,
    pub(crate) tags: Vec<(&'static str, Tag)>,
    pub(crate) error: bool,
}

/// A tag's value. Spans wait by the hundred when their receiver is away: what all of them say is
/// there once.
#[derive(Debug, Clone)]
pub(crate) enum Tag {
    Fixed(&'static str),
    Shared(Arc<str>),
    Own(Box<str>),
}

impl Tag {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Fixed(text) => text,
            Self::Shared(text) => text,
            Self::Own(text) => text,
        }
    }
}

impl From<&'static str> for Tag {
    fn from(text: &'static str) -> Self {
        Self::Fixed(text)
    }
}

impl From<&Arc<str>> for Tag {
    fn from(text: &Arc<str>) -> Self {
        Self::Shared(text.clone())
    }
}

impl From<String> for Tag {
    fn from(text: String) -> Self {
        Self::Own(text.into())
    }
}

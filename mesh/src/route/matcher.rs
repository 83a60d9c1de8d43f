//! Does a request fit a rule? All of a matcher's conditions have to hold.

use crate::istio::{HttpMatch, StringMatch};
use http::{HeaderMap, HeaderName};
use regex::{Regex, RegexBuilder};
use std::borrow::Cow;

/// The parts of a request that rules look at.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    pub method: &'a str,
    pub scheme: &'a str,
    /// The Host header as sent, port and all.
    pub authority: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
}

#[derive(Debug, Clone)]
pub struct Matcher {
    pub path: PathMatch,
    pub method: Option<ValueMatch>,
    pub scheme: Option<ValueMatch>,
    pub authority: Option<ValueMatch>,
    pub headers: Vec<HeaderCondition>,
    pub query: Vec<(String, ValueMatch)>,
}

#[derive(Debug, Clone)]
pub enum PathMatch {
    Exact {
        path: String,
        ignore_case: bool,
    },
    /// A raw string prefix: `/foo` fits `/foobar`.
    Prefix {
        prefix: String,
        ignore_case: bool,
    },
    Regex(Regex),
}

#[derive(Debug, Clone)]
pub enum ValueMatch {
    Exact(String),
    Prefix(String),
    Regex(Regex),
    Present,
}

#[derive(Debug, Clone)]
pub struct HeaderCondition {
    pub name: HeaderName,
    pub value: ValueMatch,
    /// From `withoutHeaders`: holds when the value does not fit; a missing header counts as empty.
    pub inverted: bool,
}

impl Default for Matcher {
    fn default() -> Self {
        Self {
            path: PathMatch::Prefix { prefix: "/".into(), ignore_case: false },
            method: None,
            scheme: None,
            authority: None,
            headers: Vec::new(),
            query: Vec::new(),
        }
    }
}

/// Longest program a configured expression may compile to.
const REGEX_BYTES: usize = 1 << 20;

/// Compiles a pattern that has to fit a value as a whole.
pub(crate) fn compile_regex(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
        .size_limit(REGEX_BYTES)
        .build()
        .map_err(|error| error.to_string())
}

impl ValueMatch {
    fn compile(value: &StringMatch) -> Option<Self> {
        Some(match value {
            StringMatch::Exact(text) => Self::Exact(text.clone()),
            StringMatch::Prefix(text) => Self::Prefix(text.clone()),
            StringMatch::Regex(pattern) => Self::Regex(compile_regex(pattern).ok()?),
            StringMatch::Present => Self::Present,
        })
    }

    fn fits(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => value == text,
            Self::Prefix(prefix) => value.starts_with(prefix),
            Self::Regex(regex) => regex.is_match(value),
            Self::Present => true,
        }
    }
}

impl PathMatch {
    fn compile(uri: &StringMatch, ignore_case: bool) -> Option<Self> {
        Some(match uri {
            StringMatch::Exact(path) => Self::Exact { path: path.clone(), ignore_case },
            StringMatch::Prefix(prefix) => Self::Prefix { prefix: prefix.clone(), ignore_case },
            StringMatch::Regex(pattern) => Self::Regex(compile_regex(pattern).ok()?),
            StringMatch::Present => Self::Prefix { prefix: "/".into(), ignore_case: false },
        })
    }

    fn fits(&self, path: &str) -> bool {
        match self {
            Self::Exact { path: wanted, ignore_case: false } => path == wanted,
            Self::Exact { path: wanted, ignore_case: true } => path.eq_ignore_ascii_case(wanted),
            Self::Prefix { prefix, ignore_case: false } => path.starts_with(prefix.as_str()),
            Self::Prefix { prefix, ignore_case: true } => {
                path.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            }
            Self::Regex(regex) => regex.is_match(path),
        }
    }

    /// As Istio writes it into the name of a span.
    pub(crate) fn operation(&self) -> String {
        match self {
            Self::Exact { path, .. } => path.clone(),
            Self::Prefix { prefix, .. } => format!("{prefix}*"),
            // The anchors were put around by us.
            Self::Regex(regex) => {
                let text = regex.as_str();
                text.strip_prefix(r"\A(?:").and_then(|t| t.strip_suffix(r")\z")).unwrap_or(text).to_owned()
            }
        }
    }
}

impl Matcher {
    /// `None` when an entry can never fit: an expression that does not compile (validation has
    /// reported it), a header name that cannot occur, or a claim of a token that nobody verifies yet.
    pub(crate) fn compile(entry: &HttpMatch) -> Option<Self> {
        let optional = |value: &Option<StringMatch>| -> Option<Option<ValueMatch>> {
            value.as_ref().map_or(Some(None), |value| ValueMatch::compile(value).map(Some))
        };
        let mut matcher = Self {
            method: optional(&entry.method)?,
            scheme: optional(&entry.scheme)?,
            authority: optional(&entry.authority)?,
            ..Self::default()
        };
        if let Some(uri) = &entry.uri {
            matcher.path = PathMatch::compile(uri, entry.ignore_uri_case)?;
        }
        for (fields, inverted) in [(&entry.headers, false), (&entry.without_headers, true)] {
            for (name, value) in fields {
                if matches!(name.as_str(), "uri" | "scheme" | "method" | "authority") {
                    continue;
                }
                let name = HeaderName::try_from(name.as_str()).ok()?;
                matcher.headers.push(HeaderCondition { name, value: ValueMatch::compile(value)?, inverted });
            }
        }
        for (name, value) in &entry.query_params {
            matcher.query.push((name.clone(), ValueMatch::compile(value)?));
        }
        Some(matcher)
    }

    /// True when every request fits, so that rules after this one are never reached.
    pub fn is_catch_all(&self) -> bool {
        let any_path = match &self.path {
            PathMatch::Prefix { prefix, .. } => prefix == "/",
            PathMatch::Regex(_) => self.path.operation() == ".*",
            PathMatch::Exact { .. } => false,
        };
        any_path
            && self.method.is_none()
            && self.scheme.is_none()
            && self.authority.is_none()
            && self.headers.is_empty()
            && self.query.is_empty()
    }

    pub fn fits(&self, request: &RequestView<'_>) -> bool {
        let field = |condition: &Option<ValueMatch>, value: &str| {
            condition.as_ref().is_none_or(|condition| condition.fits(value))
        };
        self.path.fits(request.path)
            && field(&self.method, request.method)
            && field(&self.scheme, request.scheme)
            && field(&self.authority, request.authority)
            && self.headers.iter().all(|condition| condition.holds(request.headers))
            && self.query.iter().all(|(name, value)| {
                query_parameter(request.query.unwrap_or_default(), name).is_some_and(|v| value.fits(v))
            })
    }
}

impl HeaderCondition {
    fn holds(&self, headers: &HeaderMap) -> bool {
        let value = joined(headers, &self.name);
        match (value, self.inverted) {
            (Some(value), inverted) => self.value.fits(&value) != inverted,
            (None, false) => false,
            (None, true) => matches!(self.value, ValueMatch::Present) || !self.value.fits(""),
        }
    }
}

/// All lines of a header as one value, joined by commas; `None` when there is none.
fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut lines = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let first = lines.next()?;
    Some(lines.fold(first, |all, line| Cow::Owned(format!("{all},{line}"))))
}

/// The first parameter of that name, undecoded; a bare key is empty.
pub(crate) fn query_parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

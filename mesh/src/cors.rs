//! Cross-origin rules of a route, as data; header values are made once.

use crate::istio::{CorsPolicy, StringMatch};
use crate::route::compile_regex;
use http::HeaderValue;
use regex::Regex;

#[derive(Debug, Clone)]
pub struct Cors {
    origins: Vec<Origin>,
    /// Values of the `access-control-*` answer headers; `None` where the policy says nothing.
    pub allow_methods: Option<HeaderValue>,
    pub allow_headers: Option<HeaderValue>,
    pub expose_headers: Option<HeaderValue>,
    pub max_age_s: Option<HeaderValue>,
    pub allow_credentials: bool,
    /// A preflight from an origin that is not allowed goes to the service, unless this is false.
    pub forward_unmatched_preflights: bool,
}

#[derive(Debug, Clone)]
enum Origin {
    Any,
    Exact(String),
    Prefix(String),
    Regex(Regex),
}

impl Cors {
    pub(crate) fn new(policy: &CorsPolicy) -> Self {
        let legacy = policy.allow_origin.iter().map(|origin| match origin.as_str() {
            "*" => Origin::Any,
            exact => Origin::Exact(exact.to_owned()),
        });
        let origins = policy.allow_origins.iter().filter_map(|origin| {
            Some(match origin {
                StringMatch::Exact(text) if text == "*" => Origin::Any,
                StringMatch::Exact(text) => Origin::Exact(text.clone()),
                StringMatch::Prefix(text) => Origin::Prefix(text.clone()),
                StringMatch::Regex(pattern) => Origin::Regex(compile_regex(pattern).ok()?),
                StringMatch::Present => Origin::Any,
            })
        });
        let list = |items: &[String]| match items {
            [] => None,
            items => HeaderValue::try_from(items.join(",")).ok(),
        };
        Self {
            origins: origins.chain(legacy).collect(),
            allow_methods: list(&policy.allow_methods),
            allow_headers: list(&policy.allow_headers),
            expose_headers: list(&policy.expose_headers),
            max_age_s: policy.max_age.map(|age| HeaderValue::from(age.0.as_secs())),
            allow_credentials: policy.allow_credentials.unwrap_or(false),
            forward_unmatched_preflights: policy.unmatched_preflights.as_deref() != Some("IGNORE"),
        }
    }

    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| match allowed {
            Origin::Any => true,
            Origin::Exact(text) => text == origin,
            Origin::Prefix(text) => origin.starts_with(text.as_str()),
            Origin::Regex(regex) => regex.is_match(origin),
        })
    }
}

//! Delegation: a rule of one VirtualService that hands its requests to the rules of another.

use crate::istio::{HttpMatch, HttpRoute, StringMatch};

/// The rules of a delegate under one rule of its root. A rule of the delegate stays only where its
/// conditions lie within the root's; what the delegate leaves open it takes from the root.
pub(crate) fn merge(root: &HttpRoute, delegate: &[HttpRoute]) -> Vec<HttpRoute> {
    delegate
        .iter()
        // One level only: a delegate's own delegate is refused by validation.
        .filter(|rule| rule.delegate.is_none())
        .filter_map(|rule| {
            let matches = merge_matches(&root.matches, &rule.matches)?;
            let mut merged = rule.clone();
            merged.matches = matches;
            merged.name = match (root.name.is_empty(), rule.name.is_empty()) {
                (true, _) => rule.name.clone(),
                (false, true) => root.name.clone(),
                (false, false) => format!("{}-{}", root.name, rule.name),
            };
            merged.rewrite = rule.rewrite.clone().or_else(|| root.rewrite.clone());
            merged.timeout = rule.timeout.or(root.timeout);
            merged.retries = rule.retries.clone().or_else(|| root.retries.clone());
            merged.fault = rule.fault.clone().or_else(|| root.fault.clone());
            if rule.mirror.is_none() && rule.mirrors.is_empty() {
                merged.mirror = root.mirror.clone();
                merged.mirrors = root.mirrors.clone();
                merged.mirror_percentage = root.mirror_percentage;
            }
            merged.cors_policy = rule.cors_policy.clone().or_else(|| root.cors_policy.clone());
            merged.headers = rule.headers.clone().or_else(|| root.headers.clone());
            Some(merged)
        })
        .collect()
}

/// `None` when no entry of the delegate lies within an entry of the root.
fn merge_matches(root: &[HttpMatch], delegate: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    match (root.is_empty(), delegate.is_empty()) {
        (true, _) => Some(delegate.to_vec()),
        (false, true) => Some(root.to_vec()),
        (false, false) => {
            let merged: Vec<HttpMatch> = delegate
                .iter()
                .flat_map(|inner| root.iter().filter_map(|outer| merge_match(outer, inner)))
                .collect();
            (!merged.is_empty()).then_some(merged)
        }
    }
}

fn merge_match(outer: &HttpMatch, inner: &HttpMatch) -> Option<HttpMatch> {
    let mut merged = inner.clone();
    merged.uri = within(&outer.uri, &inner.uri)?;
    merged.scheme = within(&outer.scheme, &inner.scheme)?;
    merged.method = within(&outer.method, &inner.method)?;
    merged.authority = within(&outer.authority, &inner.authority)?;
    for (outer, merged) in [
        (&outer.headers, &mut merged.headers),
        (&outer.without_headers, &mut merged.without_headers),
        (&outer.query_params, &mut merged.query_params),
    ] {
        for (name, value) in outer {
            match merged.get(name) {
                Some(own) if own != value => return None,
                Some(_) => {}
                None => {
                    merged.insert(name.clone(), value.clone());
                }
            }
        }
    }
    for (key, value) in &outer.source_labels {
        if merged.source_labels.insert(key.clone(), value.clone()).is_some_and(|own| own != *value) {
            return None;
        }
    }
    match (outer.port, inner.port) {
        (Some(a), Some(b)) if a != b => return None,
        (port, None) => merged.port = port,
        _ => {}
    }
    if inner.gateways.is_empty() {
        merged.gateways.clone_from(&outer.gateways);
    }
    if inner.source_namespace.is_empty() {
        merged.source_namespace.clone_from(&outer.source_namespace);
    }
    merged.name = match (outer.name.is_empty(), inner.name.is_empty()) {
        (true, _) => inner.name.clone(),
        (false, true) => outer.name.clone(),
        (false, false) => format!("{}-{}", outer.name, inner.name),
    };
    Some(merged)
}

/// The inner condition if it lies within the outer one. Expressions cannot be compared, so that two
/// conditions of which one is an expression are in conflict.
fn within(outer: &Option<StringMatch>, inner: &Option<StringMatch>) -> Option<Option<StringMatch>> {
    use StringMatch::{Exact, Prefix, Present};
    match (outer, inner) {
        (None, inner) => Some(inner.clone()),
        (outer, None) => Some(outer.clone()),
        (Some(Present), Some(inner)) => Some(Some(inner.clone())),
        (Some(Prefix(outer)), Some(inner @ (Exact(text) | Prefix(text))))
            if text.starts_with(outer.as_str()) =>
        {
            Some(Some(inner.clone()))
        }
        (Some(Exact(outer)), Some(Exact(inner))) if outer == inner => Some(Some(Exact(inner.clone()))),
        _ => None,
    }
}

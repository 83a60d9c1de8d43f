//! Host names: short names, wildcards and which of several is the most specific.

use std::borrow::Cow;

/// What a host written in an object of `namespace` stands for: a name without a dot is a service of
/// that namespace, everything else is taken as it is.
pub(crate) fn resolve(host: &str, namespace: &str, domain: &str) -> String {
    let host = host.to_ascii_lowercase();
    if host.contains('.') || host.starts_with('*') || host.contains(':') {
        host
    } else {
        format!("{host}.{namespace}.svc.{domain}")
    }
}

/// True when `pattern` (`*`, `*.suffix` or a whole name) covers `host`, which may be a wildcard too.
/// `*.example.com` covers any depth below `example.com`, and not that itself.
pub(crate) fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => host.strip_prefix('*').unwrap_or(host).ends_with(suffix) && host.len() > suffix.len(),
        None => pattern == host,
    }
}

/// The names that both patterns cover, as the narrower of the two; `None` when they share none.
pub(crate) fn intersection<'a>(a: &'a str, b: &'a str) -> Option<&'a str> {
    if covers(a, b) {
        Some(b)
    } else if covers(b, a) {
        Some(a)
    } else {
        None
    }
}

/// Orders patterns from the most to the least specific: whole names, then longer wildcards.
pub(crate) fn specificity(pattern: &str) -> (bool, usize) {
    (!pattern.starts_with('*'), pattern.len())
}

/// The authority without its port, in lower case and without a final dot, and the port if there is one.
pub fn split_authority(authority: &str) -> (Cow<'_, str>, Option<u16>) {
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of a bare IPv6 address is no port separator.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    };
    let host = host.trim_end_matches('.');
    let lower = if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    };
    (lower, port)
}

/// True when an object with this `exportTo` in `namespace` is visible from `viewer`. Absent means all.
pub(crate) fn exported(export_to: &[String], namespace: &str, viewer: &str) -> bool {
    export_to.is_empty()
        || export_to.iter().any(|to| match to.as_str() {
            "*" => true,
            "." => namespace == viewer,
            "~" => false,
            other => other == viewer,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_belong_to_the_rules_namespace() {
        for (host, expected) in [
            ("reviews", "reviews.bookinfo.svc.cluster.local"),
            ("Reviews", "reviews.bookinfo.svc.cluster.local"),
            ("reviews.shop", "reviews.shop"),
            ("*", "*"),
            ("*.example.com", "*.example.com"),
        ] {
            assert_eq!(resolve(host, "bookinfo", "cluster.local"), expected, "{host}");
        }
    }

    #[test]
    fn wildcards_cover_any_depth_but_not_their_own_suffix() {
        for (pattern, host, expected) in [
            ("*", "a", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "*.a.example.com", true),
            ("*.a.example.com", "*.example.com", false),
            ("a.example.com", "a.example.com", true),
            ("a.example.com", "b.example.com", false),
        ] {
            assert_eq!(covers(pattern, host), expected, "{pattern} {host}");
        }
        assert_eq!(intersection("*.example.com", "*"), Some("*.example.com"));
        assert_eq!(intersection("*.example.org", "a.example.com"), None);
    }

    #[test]
    fn authorities_split_at_their_port() {
        for (authority, host, port) in [
            ("reviews", "reviews", None),
            ("Reviews:9080", "reviews", Some(9080)),
            ("reviews.:80", "reviews", Some(80)),
            ("[::1]:80", "[::1]", Some(80)),
            ("[::1]", "[::1]", None),
            ("::1", "::1", None),
            ("a:b", "a:b", None),
            ("", "", None),
        ] {
            assert_eq!(split_authority(authority), (Cow::Borrowed(host), port), "{authority}");
        }
    }
}

//! What a client accepts, as `Accept` and its kin say it (RFC 9110, 12.4.2).

/// The comma-separated members of a header's value, each with its weight: 1 where none is said, 0 where it is no number.
pub(crate) fn weighted(value: &str) -> impl Iterator<Item = (&str, f64)> {
    value.split(',').map(str::trim).map(|member| {
        let q = member.split(';').find_map(|part| part.trim().strip_prefix("q="));
        (member, q.map_or(1.0, |q| q.parse().unwrap_or(0.0)))
    })
}

use std::borrow::Cow;

use pharos_model::METRIC_NAME;

use super::text::{BLANKS, closing_quote};

/// A name and its value, borrowed where nothing is escaped.
pub(crate) type LabelText<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The labels of a series as it was written, its name among them; also of an exemplar's braces.
pub(crate) fn series_labels(series: &str) -> Result<Vec<LabelText<'_>>, String> {
    let mut labels = Vec::new();
    let (name, braces) = match series.split_once('{') {
        Some((name, braces)) => (name.trim_end_matches(BLANKS), braces.strip_suffix('}').unwrap_or(braces)),
        None => (series, ""),
    };
    if !name.is_empty() {
        labels.push((Cow::Borrowed(METRIC_NAME), Cow::Borrowed(name)));
    }
    let mut rest = braces.trim_start_matches(BLANKS);
    while !rest.is_empty() {
        let (label, after, quoted) = word(rest)?;
        match after.strip_prefix('=') {
            Some(after) => {
                let Some(value) = after.trim_start_matches(BLANKS).strip_prefix('"') else {
                    return Err(format!("the value of label {label:?} is not quoted"));
                };
                let end = closing_quote(value)
                    .ok_or_else(|| format!("the value of label {label:?} does not end"))?;
                labels.push((label, unescape(value.get(..end).unwrap_or_default())));
                rest = value.get(end + 1..).unwrap_or_default().trim_start_matches(BLANKS);
            }
            // A quoted text alone is the metric's name.
            None if quoted && name.is_empty() && (after.is_empty() || after.starts_with(',')) => {
                labels.push((Cow::Borrowed(METRIC_NAME), label));
                rest = after;
            }
            None => return Err(format!("label {label:?} has no value")),
        }
        // Plain text takes labels without a comma between them.
        rest = rest.strip_prefix(',').map_or(rest, |next| next.trim_start_matches(BLANKS));
    }
    Ok(labels)
}

/// A label's name, plain or quoted, and what follows it.
fn word(text: &str) -> Result<(Cow<'_, str>, &str, bool), String> {
    if let Some(quoted) = text.strip_prefix('"') {
        let end = closing_quote(quoted).ok_or("a quoted label name does not end")?;
        let after = quoted.get(end + 1..).unwrap_or_default().trim_start_matches(BLANKS);
        return Ok((unescape(quoted.get(..end).unwrap_or_default()), after, true));
    }
    let end = text.bytes().position(|b| !(b.is_ascii_alphanumeric() || b == b'_')).unwrap_or(text.len());
    if end == 0 || text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("{:?} is no label name", text.chars().take(40).collect::<String>()));
    }
    let (name, after) = text.split_at(end);
    Ok((Cow::Borrowed(name), after.trim_start_matches(BLANKS), false))
}

/// `\\`, `\"` and `\n`; other backslashes stay as they are.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(ch) = chars.next() {
        if ch != '\\' {
            out.push(ch);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some(other @ ('\\' | '"')) => out.push(other),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    Cow::Owned(out)
}

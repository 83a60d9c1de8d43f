//! YAML in, typed values out, and errors that say where: file, document, line, field.

use serde::de::DeserializeOwned;
use serde_saphyr::Options;
use std::fmt;

/// A fault in a configuration text, with everything that is known about its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// File the text came from, as the caller named it.
    pub file: String,
    /// Which document of the file, counted from 1.
    pub document: usize,
    /// Line in the file, counted from 1; 0 when the fault has no line of its own.
    pub line: usize,
    /// `Kind namespace/name` when the document got that far.
    pub object: Option<String>,
    /// Path of the field, such as `spec.http[0].timeout`; empty for the document as a whole.
    pub field: String,
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": document {}", self.document)?;
        if let Some(object) = &self.object {
            write!(f, " ({object})")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// One document of a YAML stream, still text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Document<'a> {
    /// Counted from 1.
    pub(crate) number: usize,
    /// Lines of the file that come before the document's first.
    pub(crate) lines_before: usize,
    pub(crate) text: &'a str,
}

/// Cuts a YAML stream into its documents without parsing it, so that a broken document does not take
/// its neighbours along. A line that starts with `---` is always a marker: inside block scalars
/// content is indented. Documents with nothing but blanks and comments are left out.
pub(crate) fn documents(text: &str) -> Vec<Document<'_>> {
    let mut found = Vec::new();
    let (mut start, mut start_line, mut at, mut number) = (0, 0, 0, 1);
    let mut close = |start: usize, end: usize, lines_before: usize, number: &mut usize| {
        let text = &text[start..end];
        let empty = text.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#') || line == "..."
        });
        if !empty {
            found.push(Document { number: *number, lines_before, text });
            *number += 1;
        }
    };
    for (line_number, line) in text.split_inclusive('\n').enumerate() {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']));
        if marker {
            close(start, at, start_line, &mut number);
            // What follows the marker on its line belongs to the document: `--- {a: 1}`.
            start = at + 3;
            start_line = line_number;
        }
        at += line.len();
    }
    close(start, at, start_line, &mut number);
    found
}

/// Parses one document into `T`; the error carries the path of the field and the line in the file.
pub(crate) fn parse<T: DeserializeOwned>(file: &str, document: Document<'_>) -> Result<T, ConfigError> {
    parse_with(file, document, serde_saphyr::options! {})
}

/// Like [`parse`], for schemaless targets: only `true` and `false` are booleans, so that a label
/// `on` or `y` stays a string.
pub(crate) fn parse_untyped(file: &str, document: Document<'_>) -> Result<serde_json::Value, ConfigError> {
    parse_with(file, document, serde_saphyr::options! { strict_booleans: true })
}

fn parse_with<T: DeserializeOwned>(
    file: &str,
    document: Document<'_>,
    options: Options,
) -> Result<T, ConfigError> {
    let mut field = String::new();
    serde_saphyr::with_deserializer_from_str_with_options(document.text, options, |de| {
        serde_path_to_error::deserialize(de).map_err(|error| {
            field = error.path().to_string();
            error.into_inner()
        })
    })
    .map_err(|error| {
        let line = error.location().map_or(0, |at| at.line() as usize + document.lines_before);
        let mut message = error.without_snippet().to_string();
        // The place within the document would only confuse beside the place in the file.
        if let Some(own_place) = message.rfind(" at line ") {
            message.truncate(own_place);
        }
        ConfigError {
            file: file.to_owned(),
            document: document.number,
            line,
            object: None,
            field: if field == "." { String::new() } else { field },
            message,
        }
    })
}

/// Parses a file that is one document of settings, such as a registry.
///
/// # Errors
/// The first fault, with its file, line and field; also when the file has no or several documents.
pub fn parse_single<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, ConfigError> {
    let documents = documents(text);
    match documents.as_slice() {
        [one] => parse(file, *one),
        other => Err(ConfigError {
            file: file.to_owned(),
            document: other.len().max(1),
            line: 0,
            object: None,
            field: String::new(),
            message: format!("expected one YAML document, found {}", other.len()),
        }),
    }
}

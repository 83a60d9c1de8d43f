//! The forms of an answer, written a stretch of rows at a time.

use datafusion::arrow::{
    array::RecordBatch, datatypes::SchemaRef, error::ArrowError, ipc::writer::StreamWriter,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::json;

/// What a client may accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One document: columns, rows, whether that is all of them.
    Json,
    /// An object for each row, on a line of its own.
    JsonLines,
    /// RFC 4180, with the names of the columns first.
    Csv,
    /// Arrow's IPC stream.
    Arrow,
}

impl Form {
    const ALL: [Form; 4] = [Form::Json, Form::JsonLines, Form::Csv, Form::Arrow];

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::JsonLines => "application/x-ndjson",
            Form::Csv => "text/csv; charset=utf-8",
            Form::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// The first one that an `Accept` header names; a document if it names none of them.
    pub(super) fn accepted(accept: &str) -> Form {
        let named = accept.split(',').filter_map(|media| {
            let media = media.split(';').next().unwrap_or_default().trim();
            Form::ALL.into_iter().find(|form| form.media_type().split(';').next() == Some(media))
        });
        named.into_iter().next().unwrap_or(Form::Json)
    }
}

/// How an answer ended.
pub(super) struct End {
    /// More rows matched than were given.
    pub(super) is_truncated: bool,
    pub(super) took_ms: f64,
    /// What broke it off.
    pub(super) error: Option<String>,
}

/// Writes rows; what is written is taken away with [`Writer::take`].
pub(super) enum Writer {
    Text { form: Form, schema: SchemaRef, out: Vec<u8>, is_first: bool },
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

#[derive(Serialize)]
struct Column<'a> {
    name: &'a str,
    r#type: String,
}

impl Writer {
    pub(super) fn new(form: Form, schema: &SchemaRef) -> Result<Writer, ArrowError> {
        let mut out = Vec::new();
        let names = schema.fields().iter().map(|field| field.name().as_str());
        match form {
            Form::Arrow => return Ok(Writer::Arrow(Box::new(StreamWriter::try_new(out, schema)?))),
            Form::Json => {
                let kinds = schema.fields().iter().map(|field| json::type_name(field.data_type()));
                let columns: Vec<Column<'_>> =
                    names.zip(kinds).map(|(name, r#type)| Column { name, r#type }).collect();
                out.extend_from_slice(b"{\"columns\":");
                out.extend(serde_json::to_vec(&columns).unwrap_or_default());
                out.extend_from_slice(b",\"rows\":[");
            }
            Form::Csv => csv_line(&mut out, names.map(str::to_owned)),
            Form::JsonLines => {}
        }
        Ok(Writer::Text { form, schema: schema.clone(), out, is_first: true })
    }

    pub(super) fn rows(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let (form, schema, out, is_first) = match self {
            Writer::Arrow(writer) => return writer.write(batch),
            Writer::Text { form, schema, out, is_first } => (form, schema, out, is_first),
        };
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| json::cell(column, row));
            let cells: Vec<Value> = cells.collect::<Result<_, _>>()?;
            let written = match form {
                Form::Csv => {
                    csv_line(out, cells.into_iter().map(csv_text));
                    Ok(())
                }
                Form::JsonLines => {
                    let names = schema.fields().iter().map(|field| field.name().clone());
                    let row: Map<String, Value> = names.zip(cells).collect();
                    serde_json::to_writer(&mut *out, &row).map(|()| out.push(b'\n'))
                }
                _ => {
                    if !std::mem::take(is_first) {
                        out.push(b',');
                    }
                    serde_json::to_writer(&mut *out, &cells)
                }
            };
            written.map_err(|error| ArrowError::JsonError(error.to_string()))?;
        }
        Ok(())
    }

    /// Closes the answer. One that was broken off is closed by a document alone, which can say so.
    pub(super) fn end(&mut self, end: &End) -> Result<(), ArrowError> {
        match self {
            Writer::Arrow(writer) => writer.finish(),
            Writer::Text { form: Form::Json, out, .. } => {
                out.extend_from_slice(format!("],\"truncated\":{}", end.is_truncated).as_bytes());
                if let Some(error) = &end.error {
                    out.extend_from_slice(format!(",\"error\":{}", Value::from(error.as_str())).as_bytes());
                }
                out.extend_from_slice(format!(",\"tookMs\":{}}}", Value::from(end.took_ms)).as_bytes());
                Ok(())
            }
            Writer::Text { .. } => Ok(()),
        }
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        match self {
            Writer::Arrow(writer) => std::mem::take(writer.get_mut()),
            Writer::Text { out, .. } => std::mem::take(out),
        }
    }
}

/// As text without quotes around it; null is empty.
fn csv_text(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn csv_line(out: &mut Vec<u8>, cells: impl Iterator<Item = String>) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        // An empty line would be no row.
        if cell.contains([',', '"', '\n', '\r']) || (at == 0 && cell.is_empty()) {
            out.extend_from_slice(format!("\"{}\"", cell.replace('"', "\"\"")).as_bytes());
        } else {
            out.extend_from_slice(cell.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

//! Rows back from batches, as `pharos_model` has them: exactly what was stored.

use arrow::array::RecordBatch;
use pharos_model::{AccessLog, Edge, LogRecord, MeshObject, Span};

use crate::{StorageError, TraceSummary, columns::from_batch};

/// Columns that the batch lacks leave their field blank; `attributes` without `attribute_types` are all text.
pub fn spans_of(batch: &RecordBatch) -> Result<Vec<Span>, StorageError> {
    Ok(from_batch(batch)?)
}

pub fn access_logs_of(batch: &RecordBatch) -> Result<Vec<AccessLog>, StorageError> {
    Ok(from_batch(batch)?)
}

pub fn logs_of(batch: &RecordBatch) -> Result<Vec<LogRecord>, StorageError> {
    Ok(from_batch(batch)?)
}

pub fn edges_of(batch: &RecordBatch) -> Result<Vec<Edge>, StorageError> {
    Ok(from_batch(batch)?)
}

pub fn trace_summaries_of(batch: &RecordBatch) -> Result<Vec<TraceSummary>, StorageError> {
    Ok(from_batch(batch)?)
}

pub fn mesh_objects_of(batch: &RecordBatch) -> Result<Vec<MeshObject>, StorageError> {
    Ok(from_batch(batch)?)
}

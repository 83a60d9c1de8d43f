//! A generation's rows for the files of a table: at once if they are in memory, and a share at a time if they have to
//! be read from the WAL, so that writing them takes a bounded amount of memory.

use arrow::array::RecordBatch;
use pharos_model::TimeRange;

use crate::{
    StorageError, Table,
    columns::{concat, to_batch},
    derive::TraceSums,
    head::{Chunk, Generation},
    shared::Shared,
    wal::Unreadable,
};

/// Rows that are read from the WAL for one file, in bytes.
const SHARE_BYTES: usize = 64 << 20;

/// Hands over all rows of a generation for one table, those of derived tables made from the others'.
pub(super) fn each(
    shared: &Shared,
    generation: &Generation,
    table: Table,
    mut write: impl FnMut(RecordBatch) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let mut write = |batches: &[RecordBatch]| {
        if batches.iter().all(|batch| batch.num_rows() == 0) { Ok(()) } else { write(concat(batches)?) }
    };
    match table {
        Table::Edges => {
            let load = |chunk: &Chunk, columns: &[&str]| load_or_put_aside(shared, chunk, Some(columns));
            let edges = generation.rows_of_edges().edges(TimeRange::ALL, load)?;
            write(&[to_batch(&edges)?])
        }
        Table::TraceSummaries => {
            let columns: Vec<&str> = TraceSums::columns().collect();
            for chunks in shares(generation.chunks(Table::Spans, TimeRange::ALL)?) {
                let mut traces = TraceSums::default();
                for chunk in &chunks {
                    let spans = load_or_put_aside(shared, chunk, Some(&columns))?;
                    spans.iter().try_for_each(|spans| traces.add(spans))?;
                }
                write(&[to_batch(&traces.take_all())?])?;
            }
            Ok(())
        }
        _ => {
            for chunks in shares(generation.chunks(table, TimeRange::ALL)?) {
                let mut batches = Vec::with_capacity(chunks.len());
                for chunk in &chunks {
                    batches.extend(load_or_put_aside(shared, chunk, None)?);
                }
                write(&batches)?;
            }
            Ok(())
        }
    }
}

fn shares(chunks: Vec<Chunk>) -> Vec<Vec<Chunk>> {
    let mut shares: Vec<Vec<Chunk>> = Vec::new();
    let mut bytes = 0;
    for chunk in chunks {
        let more = chunk.bytes_to_load();
        match shares.last_mut() {
            Some(share) if bytes + more <= SHARE_BYTES => share.push(chunk),
            _ => {
                shares.push(vec![chunk]);
                bytes = 0;
            }
        }
        bytes += more;
    }
    shares
}

/// Rows of the WAL that were whole at the start and cannot be read any more are kept for somebody to look at; waiting
/// for them would keep all others from files.
fn load_or_put_aside(
    shared: &Shared,
    chunk: &Chunk,
    columns: Option<&[&str]>,
) -> Result<Option<RecordBatch>, StorageError> {
    match chunk.load(columns) {
        Ok(rows) => Ok(Some(rows)),
        Err(Unreadable::Broken { segment, at, bytes, error }) => {
            tracing::error!(segment, at, rows = chunk.rows(), %error, "rows of the WAL cannot be read");
            shared.put_aside(segment, at, &bytes)?;
            Ok(None)
        }
        Err(unreadable) => Err(unreadable.into()),
    }
}

//! What is read from disk at a start and by queries, given any bytes: it must answer or complain, and never panic or
//! take memory without bound. For the targets in `fuzz/`, whose corpus is run as tests here.

use std::{collections::BTreeMap, io, ops::Range, sync::Arc, time::SystemTime};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use pharos_model::{TimeRange, UnixNanos};

use crate::{
    DataFile, Scan, ScanValue, Table, TableSnapshot,
    checked_files::FileSums,
    disk::{Disk, DiskFile, FileStat, OpenFile},
    promoted::Promoted,
    read::footer_cache,
    table_log::{DeltaLog, TableLog},
    wal::{self, Schemas},
};

/// Files that are only read.
#[derive(Debug)]
struct Given(BTreeMap<String, Bytes>);

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for Given {
    fn create(&self, _: &str) -> io::Result<Box<dyn DiskFile>> {
        read_only()
    }
    fn link(&self, _: &str, _: &str) -> io::Result<()> {
        read_only()
    }
    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        read_only()
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        read_only()
    }
    fn sync_names(&self, _: &str) -> io::Result<()> {
        read_only()
    }

    fn read(&self, path: &str, range: Range<u64>) -> io::Result<Bytes> {
        self.open(path)?.read(range)
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(self.0.get(path).ok_or(io::ErrorKind::NotFound)?.clone()))
    }

    fn stat(&self, path: &str) -> io::Result<FileStat> {
        let size = self.0.get(path).ok_or(io::ErrorKind::NotFound)?.len() as u64;
        Ok(FileStat { size, modified: SystemTime::UNIX_EPOCH })
    }

    fn list(&self, directory: &str) -> io::Result<Vec<(String, FileStat)>> {
        let within = self.0.keys().filter(|path| path.starts_with(directory));
        within.map(|path| Ok((path.clone(), self.stat(path)?))).collect()
    }
}

/// A segment of the write-ahead log. Every byte of it is either read or put aside or a tail that was cut off.
pub fn wal_segment(bytes: &[u8]) {
    let disk = Given([(wal::segment_path(7), Bytes::copy_from_slice(bytes))].into());
    let mut aside = 0;
    let replayed = wal::look(&disk, &mut |_, _, broken| {
        aside += broken.len();
        Ok(())
    });
    if let Ok(replayed) = replayed {
        let counted: u64 = replayed.iter().map(|segment| segment.length).sum();
        assert!(counted <= bytes.len() as u64 && aside <= bytes.len());
    }
}

/// The payload of a frame whose checksum is right: read whole, and one column of it.
pub fn wal_payload(bytes: &[u8]) {
    let schemas = Schemas::current().encode().ok().and_then(|schemas| Schemas::decode(&schemas));
    let schemas = schemas.expect("our own schemas");
    let payload = Bytes::copy_from_slice(bytes);
    let _ = schemas.columns(&payload);
    for part in schemas.parts(&payload).into_iter().flatten() {
        let _ = (part.rows(Some(&["time"])), part.decoded_bytes());
    }
}

fn run(work: impl Future<Output = ()>) {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(work));
}

/// A data file of the table `spans`: its checksums, then read whole, and searched as queries search.
pub fn data_file(bytes: &[u8]) {
    let _ = FileSums::parse(bytes.len() as u64, bytes);
    run(async {
        let path = Path::from("spans/date=2026-11-21/file.parquet");
        let objects = Arc::new(InMemory::new());
        objects.put(&path, Bytes::copy_from_slice(bytes).into()).await.expect("memory");
        let file = DataFile {
            path,
            size_bytes: bytes.len() as u64,
            rows: 1,
            min_time: UnixNanos::MIN,
            max_time: UnixNanos::MAX,
            modified_ms: 0,
        };
        let snapshot = TableSnapshot {
            table: Table::Spans,
            schema: Table::Spans.schema(),
            promoted: Arc::new(Promoted::of_schema(Table::Spans, &Table::Spans.schema())),
            files: vec![Arc::new(file)],
            head: Vec::new(),
            made: None,
            object_store: objects,
            footers: Arc::new(footer_cache(1 << 20)),
        };
        let of_trace = Scan::new(TimeRange::ALL).equal("trace_id", ScanValue::Bytes(vec![0; 16]));
        let scans = [
            Scan::new(TimeRange::ALL),
            of_trace,
            Scan::new(TimeRange::new(UnixNanos(1), UnixNanos::MAX)).newest_first().limit(3),
        ];
        for scan in scans {
            if let Ok(batches) = snapshot.read(&scan).await {
                let _ = batches.try_for_each(|_| std::future::ready(Ok(()))).await;
            }
        }
    });
}

/// The second commit of a table's log.
pub fn log_entry(bytes: &[u8]) {
    run(async {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        DeltaLog::open(objects.clone(), Table::Spans).await.expect("a new log");
        let second = Path::from("spans/_delta_log/00000000000000000001.json");
        objects.put(&second, Bytes::copy_from_slice(bytes).into()).await.expect("memory");
        if let Ok(Some(log)) = DeltaLog::find(objects, Table::Spans).await {
            let _ = (log.files().await, log.through_segment().await);
        }
    });
}

/// Reads any bytes.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Target); 4] = [
    ("wal_segment", wal_segment),
    ("wal_payload", wal_payload),
    ("data_file", data_file),
    ("log_entry", log_entry),
];

#[cfg(test)]
mod tests;

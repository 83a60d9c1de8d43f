//! The same promises where the tables are in a bucket whose store misbehaves: it times out before or after it has done
//! what was asked, says of an object it has just taken that it was there already, lets a rival's commit come first,
//! and lists new objects late.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    memory::InMemory, path::Path,
};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Found, Kind, Ledger, Run, config, points, setting};
use crate::{
    Storage, StorageError,
    disk::{CrashDisk, Moment, Unsynced},
    open::Places,
    table_log::DeltaLogs,
    table_store::TableStore,
};

/// Lists show an object after this many further calls.
const LISTED_AFTER: u64 = 3;

#[derive(Clone)]
struct Bucket {
    objects: Arc<InMemory>,
    state: Arc<Mutex<State>>,
}

struct State {
    random: StdRng,
    /// Share of the calls that go wrong.
    trouble: f64,
    calls: u64,
    /// Objects that lists do not show yet, and since which call they are there.
    unlisted: Vec<(Path, u64)>,
    rivals: u64,
    troubles: u64,
    watcher: Option<Arc<dyn Fn() + Send + Sync>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    NotDone,
    DoneButTimedOut,
    DoneButSaidToExist,
}

fn timed_out() -> Error {
    Error::Generic { store: "bucket", source: "the request timed out".into() }
}

impl Bucket {
    fn new(objects: InMemory, seed: u64, trouble: f64) -> Bucket {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            trouble,
            calls: 0,
            unlisted: Vec::new(),
            rivals: 0,
            troubles: 0,
            watcher: None,
        };
        Bucket { objects: Arc::new(objects), state: Arc::new(Mutex::new(state)) }
    }

    fn fate(&self) -> Fate {
        let mut state = self.state.lock();
        state.calls += 1;
        let trouble = state.trouble;
        if !state.random.random_bool(trouble) {
            return Fate::Well;
        }
        state.troubles += 1;
        let fates = [Fate::NotDone, Fate::DoneButTimedOut, Fate::DoneButSaidToExist];
        fates[state.random.random_range(0..fates.len())]
    }

    fn has_rival(&self) -> bool {
        let mut state = self.state.lock();
        state.trouble > 0.0 && state.random.random_bool(0.2)
    }

    fn tell_watcher(&self) {
        let watcher = self.state.lock().watcher.clone();
        if let Some(watcher) = watcher {
            watcher();
        }
    }

    fn is_listed(&self, path: &Path) -> bool {
        let mut state = self.state.lock();
        let calls = state.calls;
        state.unlisted.retain(|(_, since)| since + LISTED_AFTER > calls);
        !state.unlisted.iter().any(|(unlisted, _)| unlisted == path)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a misbehaving bucket")
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bucket")
    }
}

fn is_commit(path: &Path) -> bool {
    path.as_ref().contains("/_delta_log/") && path.as_ref().ends_with(".json")
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.tell_watcher();
        let fate = self.fate();
        let create = options.mode == PutMode::Create;
        if fate == Fate::NotDone {
            return Err(timed_out());
        }
        if create && is_commit(location) && self.has_rival() {
            let commit =
                r#"{"commitInfo":{"timestamp":1795248000000,"operation":"WRITE","operationParameters":{}}}"#;
            if self.objects.put_opts(location, commit.into(), PutMode::Create.into()).await.is_ok() {
                self.state.lock().rivals += 1;
            }
        }
        let done = self.objects.put_opts(location, payload, options).await?;
        {
            let mut state = self.state.lock();
            let calls = state.calls;
            state.unlisted.push((location.clone(), calls));
        }
        self.tell_watcher();
        match fate {
            Fate::DoneButTimedOut => Err(timed_out()),
            Fate::DoneButSaidToExist if create => {
                Err(Error::AlreadyExists { path: location.to_string(), source: "it is there".into() })
            }
            _ => Ok(done),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.fate() {
            Fate::NotDone | Fate::DoneButTimedOut => Err(timed_out()),
            _ => self.objects.get_opts(location, options).await,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let bucket = self.clone();
        locations
            .and_then(move |location| {
                let bucket = bucket.clone();
                async move {
                    bucket.tell_watcher();
                    let fate = bucket.fate();
                    if fate != Fate::NotDone {
                        bucket.objects.delete(&location).await?;
                    }
                    match fate {
                        Fate::NotDone | Fate::DoneButTimedOut => Err(timed_out()),
                        _ => Ok(location),
                    }
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let bucket = self.clone();
        if matches!(self.fate(), Fate::NotDone) {
            return futures::stream::iter([Err(timed_out())]).boxed();
        }
        self.objects
            .list(prefix)
            .try_filter(move |object| std::future::ready(bucket.is_listed(&object.location)))
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut found = self.objects.list_with_delimiter(prefix).await?;
        found.objects.retain(|object| self.is_listed(&object.location));
        Ok(found)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

async fn open(disk: &CrashDisk, bucket: &Bucket) -> Result<Storage, StorageError> {
    let disk: Arc<dyn crate::disk::Disk> = Arc::new(disk.clone());
    let tables = TableStore::in_bucket(Arc::new(bucket.clone()), disk.clone());
    Storage::open_in(config(), Places { disk, tables, logs: Arc::new(DeltaLogs) }, None).await
}

/// The bucket, the data directory and the writers' knowledge at one moment.
type Instant = (InMemory, Moment, Ledger);

/// Runs a workload on a bucket in trouble. Returns what all was at each of the bucket's changes.
async fn record(disk: &CrashDisk, bucket: &Bucket, seed: u64) -> Vec<Instant> {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let storage = open(disk, bucket).await.unwrap();
    let instants: Arc<Mutex<Vec<Instant>>> = Arc::default();
    {
        let (objects, disk) = (bucket.objects.clone(), disk.clone());
        let (ledger, instants) = (ledger.clone(), instants.clone());
        let mut state = bucket.state.lock();
        state.trouble = 0.25;
        state.watcher = Some(Arc::new(move || {
            let known = ledger.lock().clone();
            instants.lock().push((objects.fork(), disk.now(), known));
        }));
    }
    let run = Run { storage, disk: disk.clone(), ledger };
    run.work(seed).await;
    {
        let mut state = bucket.state.lock();
        (state.trouble, state.watcher) = (0.0, None);
    }
    run.storage.flush().await.unwrap();
    run.storage.compact().await.unwrap();
    let ledger = run.ledger.lock().clone();
    assert!(Kind::ALL.iter().any(|kind| ledger.rows(*kind, true) > 0));
    Found::read(&run.storage).await.unwrap().check(&ledger, &ledger).unwrap();
    drop(run);
    let reopened = open(disk, bucket).await.unwrap();
    Found::read(&reopened).await.unwrap().check(&ledger, &ledger).unwrap();
    std::mem::take(&mut *instants.lock())
}

#[tokio::test]
async fn acknowledged_rows_survive_a_misbehaving_object_store_and_crashes_of_ours() {
    // Of each workload; a moment takes as long as many crashes.
    let points = points().div_ceil(800) as usize;
    let first = setting("PHAROS_CRASH_SEED", 1);
    let (mut troubles, mut rivals) = (0, 0);
    for seed in first..first + 6 {
        let disk = CrashDisk::new();
        let bucket = Bucket::new(InMemory::new(), seed, 0.0);
        open(&disk, &bucket).await.unwrap().close().await.unwrap();
        let instants = record(&disk, &bucket, seed).await;
        {
            let state = bucket.state.lock();
            (troubles, rivals) = (troubles + state.troubles, rivals + state.rivals);
        }
        let stride = instants.len().div_ceil(points).max(1);
        for (place, (objects, moment, ledger)) in instants.into_iter().enumerate().step_by(stride) {
            let context = format!("PHAROS_CRASH_SEED={seed}, change {place} of the bucket");
            let disk = moment.after_crash(Unsynced::Torn(place as u64));
            let bucket = Bucket::new(objects, seed, 0.0);
            let storage = open(&disk, &bucket).await.unwrap_or_else(|error| panic!("{context}: {error}"));
            let check = async |storage: &Storage| {
                let found = Found::read(storage).await.unwrap();
                found.check(&ledger, &ledger).unwrap_or_else(|error| panic!("{context}: {error}"));
            };
            check(&storage).await;
            storage.flush().await.unwrap();
            check(&storage).await;
        }
    }
    assert!(troubles > 20 && rivals > 0, "{troubles} calls went wrong, {rivals} rivals were first");
}

#[tokio::test]
async fn a_commit_that_lists_do_not_show_yet_is_found() {
    let disk = CrashDisk::new();
    let bucket = Bucket::new(InMemory::new(), 1, 0.0);
    let run = Run { storage: open(&disk, &bucket).await.unwrap(), disk, ledger: Arc::default() };
    run.append(Kind::Spans, 5).await;
    run.storage.flush().await.unwrap();
    let newest = Path::from("spans/_delta_log/00000000000000000001.json");
    bucket.objects.head(&newest).await.unwrap();
    let bucket = Bucket::new(bucket.objects.fork(), 1, 0.0);
    // The segment is in the table and gone from the WAL: who trusts the list misses its rows.
    bucket.state.lock().unlisted.push((newest, 60));
    let reopened = open(&run.disk.now().after_crash(Unsynced::Kept), &bucket).await.unwrap();
    let ledger = run.ledger.lock().clone();
    Found::read(&reopened).await.unwrap().check(&ledger, &ledger).unwrap();
}

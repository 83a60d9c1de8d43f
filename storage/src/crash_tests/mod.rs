//! What was acknowledged is there exactly once, whenever the power goes off and whatever the disk refuses.
//!
//! A random workload runs once on a disk that keeps what it was before every step. Then the power goes off at each of
//! these steps, with several fates for what was not synced; the storage is opened on what is left and asked for every
//! row. Recoveries are recorded in turn, and crash at each of their steps as well.
//!
//! `PHAROS_CRASH_POINTS` sets how many crashes are tried (default 10,000), and with them how many faults of the disk and
//! moments of a bucket; `PHAROS_CRASH_SEED` is the first workload's seed. A failure names the seed of its workload: with
//! it as the first, the same workload is the first to run.

mod faults;
mod known_logs;
mod ledger;
mod objects;

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use pharos_model::TimeRange;
use rand::{Rng, SeedableRng, rngs::StdRng};

use self::{
    known_logs::{Known, KnownLogs},
    ledger::{Found, Kind, Ledger, check_contents},
};
use crate::{
    Storage, StorageConfig, StorageError,
    disk::{CrashDisk, Fault, Moment, Unsynced},
    open::Places,
    table_log::DeltaLogs,
    table_store::TableStore,
};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn config() -> StorageConfig {
    StorageConfig {
        flush_after: Duration::from_secs(3_600),
        group_commit: Duration::ZERO,
        retention: None,
        compact_files: 3,
        vacuum_after: Duration::ZERO,
        ..StorageConfig::new("")
    }
}

fn places(disk: &CrashDisk, known: Option<&Known>) -> Places {
    let own: Arc<dyn crate::disk::Disk> = Arc::new(disk.clone());
    Places {
        tables: TableStore::on_disk(own.clone()),
        disk: own,
        logs: match known {
            Some(known) => Arc::new(KnownLogs { disk: disk.clone(), known: known.clone() }),
            None => Arc::new(DeltaLogs),
        },
    }
}

async fn open(disk: &CrashDisk) -> Result<Storage, StorageError> {
    Storage::open_in(config(), places(disk, None), None).await
}

/// One run of a workload: its writers' ledger, and those who look over its shoulder.
struct Run {
    storage: Storage,
    disk: CrashDisk,
    ledger: Arc<Mutex<Ledger>>,
}

impl Run {
    async fn append(&self, kind: Kind, rows: u64) {
        let (place, batch) = self.ledger.lock().begin(kind, rows, self.disk.steps());
        let mut stored = self.storage.append(batch.clone()).await.is_ok();
        // What has an identity is sent again, as a real client would.
        if !stored && kind != Kind::AccessLogs {
            stored = self.storage.append(batch).await.is_ok();
        }
        if stored {
            self.ledger.lock().acknowledged(place, self.disk.steps());
        }
    }

    /// Depends on the seed alone.
    async fn work(&self, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..12 {
            match random.random_range(0..10) {
                0..7 => {
                    let kind = Kind::ALL[random.random_range(0..3)];
                    self.append(kind, random.random_range(1..7)).await;
                }
                7..9 => drop(self.storage.flush().await),
                _ => drop(self.storage.compact().await),
            }
        }
        drop(self.storage.flush().await);
        drop(self.storage.compact().await);
    }
}

/// Looks at the tables at every step of the disk, in the middle of flush, commit and merge; and now and then appends
/// there.
struct Onlooker {
    run: Run,
    runtime: tokio::runtime::Handle,
    random: Mutex<StdRng>,
    busy: AtomicBool,
    complaints: Mutex<Vec<String>>,
}

impl Onlooker {
    fn look(&self, path: &str) {
        if self.busy.swap(true, Ordering::SeqCst) {
            return;
        }
        let (deep, append, kind) = {
            let mut random = self.random.lock();
            (random.random_bool(0.04), random.random_bool(0.01), Kind::ALL[random.random_range(0..3)])
        };
        let looked = self.count_rows();
        // The thread that writes the WAL cannot wait for itself.
        let looked = looked.and_then(|()| match append && !path.starts_with("wal/") {
            true => self.aside(self.run.append(kind, 2)),
            false => Ok(()),
        });
        let looked = looked.and_then(|()| match deep {
            true => self.aside(self.read_rows())?,
            false => Ok(()),
        });
        if let Err(complaint) = looked {
            let complaint = format!("before step {} on {path}: {complaint}", self.run.disk.steps() + 1);
            self.complaints.lock().push(complaint);
        }
        self.busy.store(false, Ordering::SeqCst);
    }

    /// On a thread of its own, since this one may be driving other tasks.
    fn aside<T: Send>(&self, work: impl Future<Output = T> + Send) -> Result<T, String> {
        std::thread::scope(|scope| scope.spawn(|| self.runtime.block_on(work)).join())
            .map_err(|_| "panicked".to_string())
    }

    fn count_rows(&self) -> Result<(), String> {
        for kind in Kind::ALL {
            let least = self.run.ledger.lock().rows(kind, true);
            let snapshot = self.run.storage.snapshot(kind.table(), TimeRange::ALL);
            let rows = snapshot.map_err(|error| error.to_string())?.rows();
            let most = self.run.ledger.lock().rows(kind, false);
            if rows < least || rows > most {
                return Err(format!("{rows} {kind:?} in a snapshot, {least} to {most} are stored"));
            }
        }
        Ok(())
    }

    async fn read_rows(&self) -> Result<(), String> {
        let before = self.run.ledger.lock().clone();
        let found = Found::read(&self.run.storage).await.map_err(|error| error.to_string())?;
        let after = self.run.ledger.lock().clone();
        found.check(&before, &after)
    }
}

/// Runs a workload under an onlooker's eyes. Returns what the disk was before each step, and the ledger.
async fn record(at_rest: &CrashDisk, seed: u64) -> Result<(Vec<(Moment, String)>, Ledger), String> {
    let disk = at_rest.copy(Fault::None);
    disk.record();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let run = |storage| Run { storage, disk: disk.clone(), ledger: ledger.clone() };
    // Files are merged when the workload says so, and so in the same order again.
    let storage = Storage::open_without_compactor(config(), places(&disk, None), true);
    let storage = storage.await.map_err(|error| error.to_string())?;
    let onlooker = Arc::new(Onlooker {
        run: run(storage.clone()),
        runtime: tokio::runtime::Handle::current(),
        random: Mutex::new(StdRng::seed_from_u64(seed)),
        busy: AtomicBool::new(false),
        complaints: Mutex::default(),
    });
    let eyes = onlooker.clone();
    disk.watch(Some(Arc::new(move |path| eyes.look(path))));
    run(storage).work(seed).await;
    disk.watch(None);
    let recorded = disk.recorded();
    match onlooker.complaints.lock().first() {
        Some(complaint) => Err(complaint.clone()),
        None => Ok((recorded, ledger.lock().clone())),
    }
}

/// Crashes that were tried, of all threads.
#[derive(Default)]
struct Tally {
    crashes: AtomicU64,
    /// Those that left something that no other did.
    opened: AtomicU64,
    recoveries: AtomicU64,
}

/// Tries crashes of one recording, each state of the disk once.
struct Explorer<'a> {
    tally: &'a Tally,
    known: Known,
    seen: HashSet<u64>,
    random: StdRng,
}

impl<'a> Explorer<'a> {
    fn new(tally: &'a Tally, seed: u64) -> Explorer<'a> {
        let random = StdRng::seed_from_u64(seed);
        Explorer { tally, known: Known::default(), seen: HashSet::new(), random }
    }

    /// Turns the power off before every step of a recording that began when the writers knew `ledger`.
    async fn explore(
        &mut self,
        recorded: &[(Moment, String)],
        ledger: &Ledger,
        fates: u64,
        with_recoveries: bool,
    ) -> Result<(), String> {
        for (step, (moment, what)) in recorded.iter().enumerate() {
            let ledger = ledger.at(step as u64);
            for fate in 0..fates {
                let unsynced = match fate {
                    0 => Unsynced::Lost,
                    1 => Unsynced::Kept,
                    _ => Unsynced::Torn(self.random.random()),
                };
                let context =
                    |error| format!("crash before step {} ({what}), {unsynced:?}: {error}", step + 1);
                let disk = moment.after_crash(unsynced);
                self.tally.crashes.fetch_add(1, Ordering::Relaxed);
                let mut key = DefaultHasher::new();
                (disk.fingerprint(""), ledger.rows(Kind::Spans, true), ledger.sent.len()).hash(&mut key);
                if !self.seen.insert(key.finish()) {
                    continue;
                }
                self.tally.opened.fetch_add(1, Ordering::Relaxed);
                if with_recoveries && self.random.random_ratio(1, 150) {
                    self.recover_and_crash(&disk, &ledger).await.map_err(context)?;
                }
                self.reopen(&disk, &ledger).await.map_err(context)?;
            }
        }
        Ok(())
    }

    /// Opens what a crash left, checks it, sends again what was not answered, and checks again.
    async fn reopen(&self, disk: &CrashDisk, ledger: &Ledger) -> Result<(), String> {
        let places = places(disk, Some(&self.known));
        let storage = Storage::open_without_compactor(config(), places, false);
        let storage = storage.await.map_err(|error| error.to_string())?;
        let found = Found::read(&storage).await.map_err(|error| error.to_string())?;
        found.check(ledger, ledger)?;
        if storage.stats().quarantined_bytes > 0 {
            return Err("something was put into quarantine".to_string());
        }
        for sent in ledger.sent.iter().rev().take(2).filter(|sent| sent.kind != Kind::AccessLogs) {
            storage.append(sent.batch()).await.map_err(|error| error.to_string())?;
            let rows =
                storage.snapshot(sent.kind.table(), TimeRange::ALL).map_err(|error| error.to_string())?;
            let (least, most) = (ledger.rows(sent.kind, true), ledger.rows(sent.kind, false));
            if !(least..=most).contains(&rows.rows()) {
                return Err(format!("{} rows after {sent:?} was sent again", rows.rows()));
            }
        }
        Ok(())
    }

    /// Opens what a crash left and works on; then lets that crash as well, at each of its steps.
    async fn recover_and_crash(&self, disk: &CrashDisk, ledger: &Ledger) -> Result<(), String> {
        self.tally.recoveries.fetch_add(1, Ordering::Relaxed);
        let text = |error: StorageError| error.to_string();
        let disk = disk.now().after_crash(Unsynced::Kept);
        disk.record();
        let storage = open(&disk).await.map_err(text)?;
        let run = Run { storage, disk: disk.clone(), ledger: Arc::new(Mutex::new(ledger.clone())) };
        run.append(Kind::Spans, 2).await;
        run.append(Kind::Samples, 2).await;
        run.storage.flush().await.map_err(text)?;
        run.append(Kind::AccessLogs, 2).await;
        let found = Found::read(&run.storage).await.map_err(text)?;
        let ledger = run.ledger.lock().clone();
        found.check(&ledger, &ledger)?;
        check_contents(&run.storage).await?;
        let recorded = disk.recorded();
        drop(run);
        let mut explorer = Explorer::new(self.tally, recorded.len() as u64);
        Box::pin(explorer.explore(&recorded, &ledger, 3, false))
            .await
            .map_err(|error| format!("in the recovery: {error}"))
    }
}

/// A disk with empty tables: making them is tried apart.
async fn tables_at_rest() -> CrashDisk {
    let disk = CrashDisk::new();
    open(&disk).await.unwrap().close().await.unwrap();
    disk
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn on_all_cores(work: impl Fn() + Sync) {
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get().min(8));
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(&work))));
}

/// How many crashes are to be tried.
fn points() -> u64 {
    setting("PHAROS_CRASH_POINTS", 10_000)
}

#[test]
fn acknowledged_rows_survive_a_crash_at_every_step() {
    let at_rest = runtime().block_on(tables_at_rest());
    let (points, first_seed) = (points(), setting("PHAROS_CRASH_SEED", 1));
    let (tally, next_seed) = (Tally::default(), AtomicU64::new(first_seed));
    let work = || {
        let runtime = runtime();
        while tally.crashes.load(Ordering::Relaxed) < points {
            let seed = next_seed.fetch_add(1, Ordering::Relaxed);
            let outcome = runtime.block_on(async {
                let (recorded, ledger) = record(&at_rest, seed).await?;
                Explorer::new(&tally, seed).explore(&recorded, &ledger, 5, true).await
            });
            outcome.unwrap_or_else(|error| panic!("PHAROS_CRASH_SEED={seed}: {error}"));
        }
    };
    on_all_cores(work);
    let [crashes, opened, recoveries] =
        [&tally.crashes, &tally.opened, &tally.recoveries].map(|count| count.load(Ordering::Relaxed));
    eprintln!(
        "{crashes} crashes of {} workloads and {recoveries} recoveries left {opened} different disks",
        next_seed.load(Ordering::Relaxed) - first_seed
    );
    assert!(crashes >= points);
}

#[tokio::test]
async fn a_crash_while_the_tables_are_made_leaves_nothing_in_the_way() {
    let disk = CrashDisk::new();
    disk.record();
    open(&disk).await.unwrap().close().await.unwrap();
    let recorded = disk.recorded();
    assert!(recorded.len() > 50);
    for (step, (moment, what)) in recorded.iter().enumerate().step_by(9) {
        let disk = moment.after_crash(Unsynced::Torn(step as u64));
        let storage =
            open(&disk).await.unwrap_or_else(|error| panic!("before step {step} ({what}): {error}"));
        let run = Run { storage, disk, ledger: Arc::default() };
        run.append(Kind::Spans, 3).await;
        let ledger = run.ledger.lock().clone();
        assert_eq!(ledger.rows(Kind::Spans, true), 3);
        Found::read(&run.storage).await.unwrap().check(&ledger, &ledger).unwrap();
    }
}

#[tokio::test]
async fn a_seed_gives_the_same_steps_again() {
    let at_rest = tables_at_rest().await;
    let steps = async || -> Vec<String> {
        let (recorded, _) = record(&at_rest, 7).await.unwrap();
        // But for names that are drawn.
        let kind = |what: String| what.split_whitespace().next().unwrap_or_default().to_string();
        recorded.into_iter().map(|(_, what)| kind(what)).collect()
    };
    let first = steps().await;
    assert!(first.len() > 100);
    assert_eq!(first, steps().await);
}

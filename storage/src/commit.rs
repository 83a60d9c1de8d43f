//! The one thread through which all rows come in: it gathers appends, drops what was stored before, makes the rest
//! durable with one sync, and only then shows it to readers and wakes the writers.

mod samples;

use std::{
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use arrow::array::RecordBatch;
use hashbrown::HashSet;
use pharos_model::{AccessLog, LogRecord, MeshObject, Span};
use tokio::sync::oneshot;

use crate::{
    AppendError, Batch, Durability, StorageError, Table,
    columns::{Row, to_batch},
    head::Generation,
    identity::{self, Identity, RecentIdentities},
    rows::{ExemplarRow, HistogramRow, SeriesRow},
    series_index::Ordinal,
    shared::Shared,
    wal::{self, Segment},
};

/// Rows of one commit, in bytes: enough to make the sync's cost vanish, little enough to encode at once.
const COMMIT_BYTES: usize = 8 << 20;

/// How often the thread looks at the head's age when nothing comes in.
const IDLE: Duration = Duration::from_millis(500);

pub(crate) enum Command {
    Append {
        batch: Batch,
        weight: usize,
        reply: oneshot::Sender<Result<Appended, AppendError>>,
    },
    /// Seals the head's rows so that they can be written to files. The answer is the newest segment that has any.
    Seal {
        reply: oneshot::Sender<Result<u64, StorageError>>,
    },
    Stop {
        reply: oneshot::Sender<()>,
    },
}

pub(crate) use samples::NewSample;
use samples::Refused;

/// The rows of one commit.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) spans: Vec<Span>,
    pub(crate) access_logs: Vec<AccessLog>,
    pub(crate) logs: Vec<LogRecord>,
    pub(crate) series: Vec<SeriesRow>,
    pub(crate) samples: Vec<NewSample>,
    pub(crate) histograms: Vec<HistogramRow>,
    pub(crate) exemplars: Vec<ExemplarRow>,
    pub(crate) mesh_config: Vec<MeshObject>,
}

/// The rows of one commit as columns, which the WAL and the head have alike.
#[derive(Default)]
pub(crate) struct Columns {
    /// Of the tables that have rows.
    pub(crate) tables: Vec<(Table, RecordBatch)>,
    pub(crate) samples: Vec<NewSample>,
}

impl Columns {
    /// All but the samples, which are columns by themselves.
    fn of(rows: &Rows) -> Result<Columns, StorageError> {
        let mut columns = Columns::default();
        columns.add(Table::Series, &rows.series)?;
        columns.add(Table::Histograms, &rows.histograms)?;
        columns.add(Table::Exemplars, &rows.exemplars)?;
        columns.add(Table::Spans, &rows.spans)?;
        columns.add(Table::AccessLogs, &rows.access_logs)?;
        columns.add(Table::Logs, &rows.logs)?;
        columns.add(Table::MeshConfig, &rows.mesh_config)?;
        Ok(columns)
    }

    fn add<R: Row>(&mut self, table: Table, rows: &[R]) -> Result<(), StorageError> {
        if !rows.is_empty() {
            self.tables.push((table, to_batch(rows)?));
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.samples.is_empty()
    }
}

/// One commit under construction.
#[derive(Default)]
struct Commit {
    rows: Rows,
    identities: Vec<Identity>,
    tail: Vec<Arc<Batch>>,
    replies: Vec<(oneshot::Sender<Result<Appended, AppendError>>, Appended)>,
    weight: usize,
    /// The samples in `rows`, once one of them came late.
    staged: Option<HashSet<(Ordinal, i64)>>,
}

pub(crate) struct Committer {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    identities: RecentIdentities,
    segment: Segment,
    /// The segment must not be written any more.
    broken: bool,
    synced: Instant,
    /// When samples were last refused with a word in the log.
    warned: Option<Instant>,
}

impl Committer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        commands: Receiver<Command>,
        identities: RecentIdentities,
        segment: Segment,
    ) -> Committer {
        Committer {
            shared,
            commands,
            identities,
            segment,
            broken: false,
            synced: Instant::now(),
            warned: None,
        }
    }

    /// Until told to stop, or until the last handle of the storage is gone.
    pub(crate) fn run(mut self) {
        loop {
            match self.commands.recv_timeout(IDLE) {
                Ok(command) => {
                    if self.control(command) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.keep_promises();
        }
    }

    /// Whether to stop.
    fn control(&mut self, command: Command) -> bool {
        match command {
            Command::Append { batch, weight, reply } => {
                self.commit(batch, weight, reply).is_some_and(|command| self.control(command))
            }
            Command::Seal { reply } => {
                let _ = reply.send(self.seal());
                false
            }
            Command::Stop { reply } => {
                self.sync();
                let _ = reply.send(());
                true
            }
        }
    }

    /// Gathers what comes in within the group-commit window and stores it. Gives back the command, if any, that
    /// came between.
    fn commit(
        &mut self,
        batch: Batch,
        weight: usize,
        reply: oneshot::Sender<Result<Appended, AppendError>>,
    ) -> Option<Command> {
        let until = Instant::now() + self.shared.config.group_commit;
        let mut commit = Commit::default();
        self.add(&mut commit, batch, weight, reply);
        let mut other = None;
        while commit.weight < COMMIT_BYTES {
            match self.commands.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Command::Append { batch, weight, reply }) => self.add(&mut commit, batch, weight, reply),
                Ok(command) => {
                    other = Some(command);
                    break;
                }
                Err(_) => break,
            }
        }
        self.store(commit);
        other
    }

    fn add(
        &mut self,
        commit: &mut Commit,
        mut batch: Batch,
        weight: usize,
        reply: oneshot::Sender<Result<Appended, AppendError>>,
    ) {
        let sent = batch.len();
        commit.weight += weight;
        let mut refused = Refused::default();
        if let Batch::Spans(spans) = &mut batch {
            spans.retain(|span| {
                let identity = identity::of_span(span);
                let new = self.identities.insert(identity);
                if new {
                    commit.identities.push(identity);
                }
                new
            });
        }
        if let Batch::Samples(series) = &mut batch {
            refused = self.add_samples(commit, series);
        }
        let rows = batch.len();
        if rows > 0 && self.shared.tail.receiver_count() > 0 {
            commit.tail.push(Arc::new(batch.clone()));
        }
        match batch {
            Batch::Spans(rows) => commit.rows.spans.extend(rows),
            Batch::AccessLogs(rows) => commit.rows.access_logs.extend(rows),
            Batch::Logs(rows) => commit.rows.logs.extend(rows),
            Batch::MeshConfig(rows) => commit.rows.mesh_config.extend(rows),
            Batch::Samples(_) => {}
        }
        let Refused { items: rejected, reasons } = refused;
        let appended = Appended { rows, duplicates: sent - rows - rejected.all(), rejected, reasons };
        commit.replies.push((reply, appended));
    }

    fn store(&mut self, mut commit: Commit) {
        let durable = Columns::of(&commit.rows).and_then(|mut columns| {
            columns.samples = std::mem::take(&mut commit.rows.samples);
            let durable = self.make_durable(&columns);
            if durable.is_err() {
                commit.rows.samples = std::mem::take(&mut columns.samples);
            }
            durable.map(|()| columns)
        });
        if durable.is_err() {
            self.unstage(&commit.rows);
        }
        let result = durable.and_then(|columns| self.show(columns));
        self.shared.pending_bytes.fetch_sub(commit.weight, Ordering::Relaxed);
        match result {
            Ok(()) => {
                for batch in commit.tail {
                    // An error means that nobody listens any more.
                    let _ = self.shared.tail.send(batch);
                }
                for (reply, appended) in commit.replies {
                    let _ = reply.send(Ok(appended));
                }
            }
            Err(error) => {
                commit.identities.iter().for_each(|identity| self.identities.remove(*identity));
                for (reply, _) in commit.replies {
                    let _ = reply.send(Err(AppendError::Failed(error.clone())));
                }
            }
        }
    }

    /// Forgets rows that were not stored, so that they can be sent again.
    fn unstage(&self, rows: &Rows) {
        let mut index = self.shared.index.write();
        for row in &rows.samples {
            index.unstage(row.ordinal, row.time_ms);
        }
        for row in &rows.histograms {
            index.unstage_histogram(row.series, row.time_ms);
        }
        for row in &rows.series {
            index.unstage_row(row.series);
        }
    }

    fn make_durable(&mut self, columns: &Columns) -> Result<(), StorageError> {
        if columns.is_empty() {
            return Ok(());
        }
        let payload = wal::encode(columns)?;
        if self.broken {
            self.roll()?;
        }
        let path = wal::segment_path(self.segment.number());
        let before = self.segment.length();
        if let Err(error) = self.segment.append(&payload, self.shared.config.durability == Durability::Fsync)
        {
            // What of this frame reached the disk is unknown, and a second sync would not tell: the segment ends
            // where it was acknowledged last.
            tracing::error!(%error, path, "the WAL could not be written; going on in a new segment");
            self.broken = true;
            return Err(StorageError::io(path, error));
        }
        self.shared.wal_bytes.fetch_add(self.segment.length() - before, Ordering::Relaxed);
        Ok(())
    }

    /// Puts rows into the head, where the next snapshot sees them.
    fn show(&self, columns: Columns) -> Result<(), StorageError> {
        let index = self.shared.index.read();
        let mut state = self.shared.state.write();
        let added = state.open.add(columns, &index);
        self.shared.head_bytes.store(state.head_bytes(), Ordering::Relaxed);
        added
    }

    fn keep_promises(&mut self) {
        if let Durability::Interval(interval) = self.shared.config.durability
            && self.synced.elapsed() >= interval
        {
            self.sync();
        }
        let config = &self.shared.config;
        let due = {
            let state = self.shared.state.read();
            let pressure = self.shared.head_bytes.load(Ordering::Relaxed) > config.head_bytes / 2;
            !state.open.is_empty()
                && (state.open.bytes() >= config.flush_bytes
                    || self.segment.length() >= config.wal_bytes / 8
                    || state.open.opened.elapsed() >= config.flush_after
                    || (pressure && state.sealed.is_empty()))
        };
        if due && let Err(error) = self.seal() {
            tracing::error!(%error, "the head could not be sealed");
        }
    }

    fn sync(&mut self) {
        self.synced = Instant::now();
        if let Err(error) = self.segment.sync() {
            tracing::error!(%error, "the WAL could not be synced; going on in a new segment");
            self.broken = true;
        }
    }

    /// Hands the head's rows over for flushing. Returns the newest segment that has any.
    fn seal(&mut self) -> Result<u64, StorageError> {
        let (number, empty) = {
            let state = self.shared.state.read();
            (state.open.segment, state.open.is_empty())
        };
        if empty && !self.broken {
            return Ok(number - 1);
        }
        self.roll()?;
        Ok(number)
    }

    /// Goes on in a new segment, and with a new generation of the head.
    fn roll(&mut self) -> Result<(), StorageError> {
        if !self.broken {
            self.sync();
        }
        let (old, length) = (self.segment.number(), self.segment.length());
        self.segment = open_segment(&self.shared, old + 1, Some((old, length)))?;
        self.broken = false;
        let mut state = self.shared.state.write();
        let mut sealed = std::mem::replace(&mut state.open, Generation::new(old + 1));
        sealed.samples.shrink();
        sealed.wal_bytes = length;
        state.sealed.push(Arc::new(sealed));
        drop(state);
        self.shared.sealed.notify_one();
        Ok(())
    }
}

/// A new segment for the head's next generation.
pub(crate) fn open_segment(
    shared: &Shared,
    number: u64,
    previous: Option<(u64, u64)>,
) -> Result<Segment, StorageError> {
    let schemas = wal::Schemas::current().encode()?;
    let segment = Segment::create(&*shared.disk, number, previous, schemas)
        .map_err(|error| StorageError::io(wal::segment_path(number), error))?;
    shared.wal_bytes.fetch_add(segment.length(), Ordering::Relaxed);
    Ok(segment)
}

/// What became of a batch's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    pub rows: usize,
    /// Stored before, recognised by their identity.
    pub duplicates: usize,
    pub rejected: RejectedSamples,
    /// Why the first of them were rejected, naming their series.
    pub reasons: Vec<String>,
}

/// What was not stored of series: beyond a limit of the configuration, of a time that is no 64-bit nanoseconds, or of a
/// time at which the series has another value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RejectedSamples {
    pub samples: usize,
    pub histograms: usize,
    pub exemplars: usize,
}

impl RejectedSamples {
    fn all(self) -> usize {
        self.samples + self.histograms + self.exemplars
    }
}

//! The one thread through which all rows come in: it gathers appends, drops what was stored before, makes the rest
//! durable with one sync, and only then shows it to readers and wakes the writers.

use std::{
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use pharos_model::{AccessLog, LogRecord, MeshObject, Span, TimeSeries};
use tokio::sync::oneshot;

use crate::{
    AppendError, Batch, StorageError,
    identity::{self, Identity, RecentIdentities},
    rows::{ExemplarRow, SampleRow, SeriesRow},
    series_index::Staged,
    shared::Shared,
};

/// Rows of one commit, in bytes: enough to make the sync's cost vanish, little enough to encode at once.
const COMMIT_BYTES: usize = 8 << 20;

/// How often the thread looks at the head's age when nothing comes in.
const IDLE: Duration = Duration::from_millis(500);

/// 9999-12-31T23:59:59.999Z: Delta and Arrow print no later date.
const MAX_TIME_MS: i64 = 253_402_300_799_999;

pub(crate) enum Command {
    Append {
        batch: Batch,
        weight: usize,
        reply: oneshot::Sender<Result<Appended, AppendError>>,
    },
    /// Seals the head's rows so that they can be written to files.
    Seal {
        reply: oneshot::Sender<()>,
    },
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// The rows of one commit.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) spans: Vec<Span>,
    pub(crate) access_logs: Vec<AccessLog>,
    pub(crate) logs: Vec<LogRecord>,
    pub(crate) series: Vec<SeriesRow>,
    pub(crate) samples: Vec<SampleRow>,
    pub(crate) exemplars: Vec<ExemplarRow>,
    pub(crate) mesh_config: Vec<MeshObject>,
}

impl Rows {
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
            && self.access_logs.is_empty()
            && self.logs.is_empty()
            && self.series.is_empty()
            && self.samples.is_empty()
            && self.exemplars.is_empty()
            && self.mesh_config.is_empty()
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
}

pub(crate) struct Committer {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    identities: RecentIdentities,
}

impl Committer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        commands: Receiver<Command>,
        identities: RecentIdentities,
    ) -> Committer {
        Committer { shared, commands, identities }
    }

    /// Until told to stop, or until the last handle of the storage is gone.
    pub(crate) fn run(mut self) {
        loop {
            match self.commands.recv_timeout(IDLE) {
                Ok(Command::Append { batch, weight, reply }) => {
                    if let Some(command) = self.commit(batch, weight, reply) {
                        if self.control(command) {
                            return;
                        }
                    }
                }
                Ok(command) => {
                    if self.control(command) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.seal_if_due();
        }
    }

    /// Whether to stop.
    fn control(&mut self, command: Command) -> bool {
        match command {
            Command::Append { batch, weight, reply } => {
                self.commit(batch, weight, reply).is_some_and(|command| self.control(command))
            }
            Command::Seal { reply } => {
                self.seal();
                let _ = reply.send(());
                false
            }
            Command::Stop { reply } => {
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
        let mut rejected = 0;
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
            rejected = self.add_samples(&mut commit.rows, series);
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
        commit.replies.push((reply, Appended { rows, duplicates: sent - rows - rejected, rejected }));
    }

    /// Takes the new samples over, and leaves just those in `all`. Returns how many were refused.
    fn add_samples(&self, rows: &mut Rows, all: &mut Vec<TimeSeries>) -> usize {
        let mut index = self.shared.index.write();
        let state = self.shared.state.read();
        let mut refused = 0;
        for series in all.iter_mut() {
            let id = series.labels.series_id();
            let labels = Arc::new(series.labels.clone());
            if index.get(id).is_none() && index.len() >= self.shared.config.max_series {
                refused += series.samples.len() + series.exemplars.len();
                series.samples.clear();
                series.exemplars.clear();
                continue;
            }
            if let Some(metadata) = &series.metadata {
                index.set_metadata(metadata);
            }
            series.samples.retain(|sample| {
                if !(-MAX_TIME_MS..=MAX_TIME_MS).contains(&sample.time_ms) {
                    refused += 1;
                    return false;
                }
                if !index.has_day(id, sample.time_ms) {
                    let row = SeriesRow {
                        first_ms: sample.time_ms,
                        series: id,
                        labels: index.get(id).map_or_else(|| labels.clone(), |entry| entry.labels.clone()),
                        metadata: series.metadata.clone(),
                    };
                    index.insert(&row);
                    rows.series.push(row);
                }
                let new = match index.stage(id, sample.time_ms) {
                    Staged::New => true,
                    Staged::Late => !state.head_has_sample(id, sample.time_ms),
                    Staged::Known => false,
                };
                if new && let Some(entry) = index.get(id) {
                    let metric = entry.metric.clone();
                    rows.samples.push(SampleRow {
                        metric,
                        series: id,
                        time_ms: sample.time_ms,
                        value: sample.value,
                    });
                }
                new
            });
            series.exemplars.retain(|exemplar| (-MAX_TIME_MS..=MAX_TIME_MS).contains(&exemplar.time_ms));
            let metric =
                index.get(id).map_or_else(|| Arc::from(labels.metric_name()), |entry| entry.metric.clone());
            rows.exemplars.extend(series.exemplars.iter().map(|exemplar| ExemplarRow {
                metric: metric.clone(),
                series: id,
                exemplar: exemplar.clone(),
            }));
        }
        all.retain(|series| !series.samples.is_empty() || !series.exemplars.is_empty());
        refused
    }

    fn store(&mut self, commit: Commit) {
        let result = self.make_durable(&commit.rows).and_then(|()| self.show(commit.rows));
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

    fn make_durable(&mut self, rows: &Rows) -> Result<(), StorageError> {
        if rows.is_empty() {
            return Ok(());
        }
        Ok(())
    }

    /// Puts rows into the head, where the next snapshot sees them.
    fn show(&self, rows: Rows) -> Result<(), StorageError> {
        let mut state = self.shared.state.write();
        state.open.add(rows);
        let settled = state.open.settle(false);
        self.shared.head_bytes.store(state.head_bytes(), Ordering::Relaxed);
        settled
    }

    fn seal_if_due(&mut self) {
        let config = &self.shared.config;
        let due = {
            let state = self.shared.state.read();
            !state.open.is_empty()
                && (state.open.bytes() >= config.flush_bytes
                    || state.open.opened.elapsed() >= config.flush_after)
        };
        if due {
            self.seal();
        }
    }

    fn seal(&mut self) {}
}

/// What became of a batch's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    pub rows: usize,
    /// Stored before, recognised by their identity.
    pub duplicates: usize,
    /// Samples of more series than `max_series`, or of a time past the year 9999.
    pub rejected: usize,
}

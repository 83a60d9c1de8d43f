//! SQL over the tables, read-only, by DataFusion.

mod answer;
pub(crate) mod api;
mod json;
mod metric;
mod promql;
mod series_rows;
mod stoppable;
mod table;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    error::DataFusionError,
    execution::{
        SendableRecordBatchStream,
        config::SessionConfig,
        context::{SQLOptions, SessionContext},
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::GreedyMemoryPool,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
        session_state::SessionStateBuilder,
    },
    physical_plan::{EmptyRecordBatchStream, stream::RecordBatchReceiverStream},
};
use futures::StreamExt;
use pharos_promql::SourceError;
use pharos_storage::{Storage, StorageError, Table};
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{EngineConfig, engine::CancelOnDrop};
use metric::MetricFunction;
use promql::{PromqlFunction, PromqlLimits};
use stoppable::{StopJoins, Threads};
use table::StorageTable;

/// Longer queries are refused.
const MAX_QUERY_BYTES: usize = 100_000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SqlError {
    /// What the person who wrote the query can mend.
    #[error("{0}")]
    Query(String),
    #[error("the query took longer than {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("there are more than the {0} rows that an answer may have; ask for fewer, or set a limit")]
    TooManyRows(usize),
    #[error("the query needs more memory than it may have: {0}")]
    Memory(String),
    #[error("{0}")]
    Internal(String),
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> SqlError {
        if let Some(broken) = StorageError::damage_behind(&error) {
            return SqlError::Internal(broken.to_string());
        }
        let message = error.strip_backtrace();
        match error.find_root() {
            DataFusionError::ResourcesExhausted(reason) => SqlError::Memory(reason.clone()),
            DataFusionError::IoError(_)
            | DataFusionError::ObjectStore(_)
            | DataFusionError::ParquetError(_)
            | DataFusionError::Internal(_) => SqlError::Internal(message),
            // Others than our own come from what a query says, such as a regular expression.
            DataFusionError::External(inner) if inner.is::<StorageError>() || inner.is::<SourceError>() => {
                SqlError::Internal(message)
            }
            _ => SqlError::Query(message),
        }
    }
}

/// The rows of an answer, made as they are asked for. Dropped, the query ends.
pub(crate) struct Rows {
    pub(crate) schema: SchemaRef,
    rows: SendableRecordBatchStream,
    /// Read ahead, so that most faults are known before an answer begins.
    first: Option<RecordBatch>,
    /// How many more the one who asked wants, and may get.
    wanted: usize,
    allowed: usize,
    max_rows: usize,
    is_truncated: bool,
    /// Of the time that the query itself may still take; that of a slow reader is not counted.
    left: Duration,
    timeout: Duration,
    cancel: CancelOnDrop,
}

impl Rows {
    /// The next rows; `None` after the last one, or when as many were given as were wanted.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        let batch = match self.first.take() {
            Some(first) => first,
            None => match self.read().await? {
                Some(batch) => batch,
                None => return Ok(None),
            },
        };
        let given = batch.num_rows().min(self.wanted);
        if given > self.allowed {
            return Err(SqlError::TooManyRows(self.max_rows));
        }
        self.wanted -= given;
        self.allowed -= given;
        if given < batch.num_rows() {
            self.is_truncated = true;
            return Ok((given > 0).then(|| batch.slice(0, given)));
        }
        Ok(Some(batch))
    }

    /// Whether there were more rows than were wanted.
    pub(crate) fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    async fn read(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        if self.is_truncated {
            return Ok(None);
        }
        let began = Instant::now();
        let Ok(batch) = tokio::time::timeout(self.left, self.rows.next()).await else {
            // Whoever reads the answer may take a while to hear of it.
            self.rows = Box::pin(EmptyRecordBatchStream::new(self.schema.clone()));
            self.cancel = CancelOnDrop::default();
            return Err(SqlError::Timeout(self.timeout));
        };
        self.left = self.left.saturating_sub(began.elapsed());
        Ok(batch.transpose()?)
    }
}

/// Runs queries, a few at a time, within one pool of memory.
pub(crate) struct SqlEngine {
    storage: Storage,
    runtime: Arc<RuntimeEnv>,
    permits: Arc<Semaphore>,
    threads: Threads,
    timeout: Duration,
    max_rows: usize,
    promql: PromqlLimits,
}

impl SqlEngine {
    pub(crate) fn new(storage: Storage, config: &EngineConfig) -> SqlEngine {
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(config.sql_memory_bytes)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()
            // Without a disk manager nothing of it can fail.
            .unwrap_or_default();
        SqlEngine {
            storage,
            runtime,
            permits: Arc::new(Semaphore::new(config.sql_concurrency.max(1))),
            threads: Threads::default(),
            timeout: config.sql_timeout,
            max_rows: config.sql_max_rows,
            promql: PromqlLimits {
                features: config.promql_features,
                lookback_ms: i64::try_from(config.promql_lookback.as_millis()).unwrap_or(i64::MAX),
                max_samples: config.promql_max_samples,
                max_series: config.promql_max_series,
                timeout: config.sql_timeout,
            },
        }
    }

    /// The rows of one query, at most `limit` of them.
    pub(crate) async fn run(&self, query: &str, limit: Option<usize>) -> Result<Rows, SqlError> {
        if query.len() > MAX_QUERY_BYTES {
            return Err(SqlError::Query(format!("the query is longer than {MAX_QUERY_BYTES} bytes")));
        }
        let work = self.begin(query, limit);
        tokio::time::timeout(self.timeout, work).await.unwrap_or(Err(SqlError::Timeout(self.timeout)))
    }

    /// Up to the first rows.
    async fn begin(&self, query: &str, limit: Option<usize>) -> Result<Rows, SqlError> {
        let began = Instant::now();
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|error| SqlError::Internal(error.to_string()))?;
        let cancel = CancelOnDrop::default();
        let context = self.session(&cancel)?;
        let threads = self.threads.handle().map_err(|error| SqlError::Internal(error.to_string()))?;
        let (query, runtime) = (query.to_string(), threads.clone());
        // A call of `promql` is evaluated while the plan is made, which takes its time.
        let planned = threads.spawn_blocking(move || {
            let read_only =
                SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
            runtime
                .block_on(async { context.sql_with_options(&query, read_only).await?.execute_stream().await })
        });
        let made = planned.await.map_err(|_| SqlError::Internal("the planning broke off".into()))??;
        let mut rows = RecordBatchReceiverStream::builder(made.schema(), 1);
        let send = rows.tx();
        let make = async move {
            // Its place is taken for as long as it computes.
            let (_permit, mut made) = (permit, made);
            while let Some(batch) = made.next().await {
                let is_last = batch.is_err();
                if send.send(batch).await.is_err() || is_last {
                    break;
                }
            }
            Ok(())
        };
        rows.spawn_on(make, &threads);
        let rows = rows.build();
        let mut rows = Rows {
            schema: rows.schema(),
            rows,
            first: None,
            wanted: limit.unwrap_or(usize::MAX),
            allowed: self.max_rows,
            max_rows: self.max_rows,
            is_truncated: false,
            left: self.timeout.saturating_sub(began.elapsed()),
            timeout: self.timeout,
            cancel,
        };
        rows.first = rows.read().await?;
        match &rows.first {
            Some(first) if first.num_rows().min(rows.wanted) > rows.allowed => {
                Err(SqlError::TooManyRows(self.max_rows))
            }
            _ => Ok(rows),
        }
    }

    /// A session of its own for each query, so that none sees another's settings.
    fn session(&self, cancel: &CancelOnDrop) -> Result<SessionContext, SqlError> {
        let config = SessionConfig::new().with_information_schema(true).with_target_partitions(4);
        let context = SessionContext::new_with_config_rt(config, self.runtime.clone());
        let state = SessionStateBuilder::new_from_existing(context.state())
            .with_physical_optimizer_rule(Arc::new(StopJoins { cancelled: cancel.flag() }));
        let context = SessionContext::new_with_state(state.build());
        for table in Table::ALL {
            context.register_table(table.name(), Arc::new(StorageTable::new(self.storage.clone(), table)))?;
        }
        let storage = self.storage.clone();
        let metric = MetricFunction { storage: storage.clone(), max_series: self.promql.max_series };
        context.register_udtf("metric", Arc::new(metric));
        let (runtime, cancel) = (Handle::current(), cancel.flag());
        let promql = PromqlFunction { storage, runtime, cancel, limits: self.promql };
        context.register_udtf("promql", Arc::new(promql));
        Ok(context)
    }
}

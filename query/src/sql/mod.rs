//! SQL over the tables, read-only, by DataFusion.

pub(crate) mod api;
mod json;
mod metric;
mod promql;
mod series_rows;
mod table;

use std::{sync::Arc, time::Duration};

use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    error::DataFusionError,
    execution::{
        config::SessionConfig,
        context::{SQLOptions, SessionContext},
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::GreedyMemoryPool,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
};
use futures::StreamExt;
use pharos_promql::SourceError;
use pharos_storage::{Storage, StorageError, Table};
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{EngineConfig, engine::CancelOnDrop};
use metric::MetricFunction;
use promql::{PromqlFunction, PromqlLimits};
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

/// An answer, cut off at the row limit.
pub(crate) struct SqlAnswer {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) is_truncated: bool,
}

/// Runs queries, a few at a time, within one pool of memory.
pub(crate) struct SqlEngine {
    storage: Storage,
    runtime: Arc<RuntimeEnv>,
    permits: Semaphore,
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
            permits: Semaphore::new(config.sql_concurrency.max(1)),
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
    pub(crate) async fn run(&self, query: &str, limit: Option<usize>) -> Result<SqlAnswer, SqlError> {
        if query.len() > MAX_QUERY_BYTES {
            return Err(SqlError::Query(format!("the query is longer than {MAX_QUERY_BYTES} bytes")));
        }
        let limit = limit.unwrap_or(self.max_rows).min(self.max_rows);
        let work = async {
            let _permit =
                self.permits.acquire().await.map_err(|error| SqlError::Internal(error.to_string()))?;
            self.rows(query, limit).await
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or(Err(SqlError::Timeout(self.timeout)))
    }

    async fn rows(&self, query: &str, limit: usize) -> Result<SqlAnswer, SqlError> {
        let cancel = CancelOnDrop::default();
        let context = self.session(&cancel)?;
        let (query, runtime) = (query.to_string(), Handle::current());
        // A call of `promql` is evaluated while the plan is made, which takes its time.
        let planned = tokio::task::spawn_blocking(move || {
            let read_only =
                SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
            runtime.block_on(context.sql_with_options(&query, read_only))
        });
        let frame = planned.await.map_err(|_| SqlError::Internal("the planning broke off".into()))??;
        let mut rows = frame.execute_stream().await?;
        let mut answer = SqlAnswer { schema: rows.schema(), batches: Vec::new(), is_truncated: false };
        let mut left = limit;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            if batch.num_rows() > left {
                answer.is_truncated = true;
                answer.batches.push(batch.slice(0, left));
                break;
            }
            left -= batch.num_rows();
            answer.batches.push(batch);
        }
        Ok(answer)
    }

    /// A session of its own for each query, so that none sees another's settings.
    fn session(&self, cancel: &CancelOnDrop) -> Result<SessionContext, SqlError> {
        let config = SessionConfig::new().with_information_schema(true).with_target_partitions(4);
        let context = SessionContext::new_with_config_rt(config, self.runtime.clone());
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

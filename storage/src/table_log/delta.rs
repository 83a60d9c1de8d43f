use std::{collections::HashMap, sync::Arc, time::Duration};

use arrow::datatypes::{DataType as ArrowType, Field, Schema};
use async_trait::async_trait;
use deltalake_core::{
    DeltaTable, DeltaTableError,
    kernel::{
        Action, Add, ArrayType, DataType, MapType, MetadataExt, PrimitiveType, Remove, StructField,
        StructType, Transaction, Version,
        transaction::{CommitBuilder, CommitProperties},
    },
    logstore::{LogStoreRef, StorageConfig, default_logstore},
    operations::create::CreateBuilder,
    protocol::{
        DeltaOperation, SaveMode,
        checkpoints::{cleanup_expired_logs_for, create_checkpoint},
    },
};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, path::Path, prefix::PrefixStore};
use pharos_model::UnixNanos;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Change, OpenTableLog, TableLog};
use crate::{DataFile, StorageError, Table, promoted::Promoted};

/// Our name in the log's `txn` actions; their version is the number of a WAL segment.
pub(crate) const APP_ID: &str = "pharos-wal";

/// Commits between two checkpoints.
const CHECKPOINT_COMMITS: u64 = 100;

/// How often, and after which time, a list that lacks an object is asked for again.
const LATE_LISTS: u32 = 60;
const LATE_LIST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 500 });

/// For engines that are reading the table as it was.
const KEEP_COMMITS: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(3_600) };

/// A Delta table, in the folder of its name: any engine that reads Delta reads it.
pub(crate) struct DeltaLog {
    table: Table,
    objects: Arc<dyn ObjectStore>,
    delta: DeltaTable,
    is_new: bool,
}

/// A file's statistics in the log. Times are RFC 3339 with microseconds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    num_records: u64,
    min_values: TimeStat,
    max_values: TimeStat,
}

#[derive(Serialize, Deserialize)]
struct TimeStat {
    time: String,
}

impl DeltaLog {
    /// Opens the table's log in the store, or makes a new table.
    pub(crate) async fn open(store: Arc<dyn ObjectStore>, table: Table) -> Result<DeltaLog, StorageError> {
        if let Some(log) = DeltaLog::find(store.clone(), table).await? {
            return Ok(log);
        }
        let log_store = log_store(&store, table)?;
        let created = CreateBuilder::new()
            .with_log_store(log_store.clone())
            .with_table_name(table.name())
            .with_columns(columns(&table.schema()).map_err(|error| log_error(table, error))?)
            .with_partition_columns(["date"])
            .await;
        let delta = match created {
            Ok(created) => created,
            // It was made, and what came after failed; or lists do not show it yet.
            Err(_) if exists(&*store, &commit_path(table, 0)).await? => {
                let mut delta = DeltaTable::new(log_store);
                load_newest(&mut delta, &*store, table).await?;
                delta
            }
            Err(error) => return Err(log_error(table, error)),
        };
        Ok(DeltaLog { table, objects: store, delta, is_new: true })
    }

    /// The table's log, if there is one.
    pub(crate) async fn find(
        store: Arc<dyn ObjectStore>,
        table: Table,
    ) -> Result<Option<DeltaLog>, StorageError> {
        let mut delta = DeltaTable::new(log_store(&store, table)?);
        let is_there = exists(&*store, &commit_path(table, 0)).await?
            || exists(&*store, &log_path(table, "_last_checkpoint")).await?
            || delta.verify_deltatable_existence().await.map_err(|error| log_error(table, error))?;
        if !is_there {
            return Ok(None);
        }
        load_newest(&mut delta, &*store, table).await.map_err(|error| match error {
            StorageError::TableLog { message, .. } => {
                StorageError::BrokenFile { path: format!("{}/_delta_log", table.name()), message }
            }
            other => other,
        })?;
        check_commits(&*store, table).await?;
        Ok(Some(DeltaLog { table, objects: store, delta, is_new: false }))
    }

    /// Sums the log up in one file, and removes the commits before it that no reader needs any more.
    async fn checkpoint(&self, version: Version) -> Result<(), StorageError> {
        create_checkpoint(&self.delta, None).await.map_err(|error| self.error(error))?;
        let before = UnixNanos::now().millis() - KEEP_COMMITS.as_millis() as i64;
        let cleaned = cleanup_expired_logs_for(version, &*self.delta.log_store(), before, None).await;
        cleaned.map(drop).map_err(|error| self.error(error))
    }

    fn error(&self, error: impl std::fmt::Display) -> StorageError {
        log_error(self.table, error)
    }

    fn relative(&self, file: &DataFile) -> String {
        let path = file.path.as_ref();
        path.strip_prefix(self.table.name())
            .and_then(|path| path.strip_prefix('/'))
            .unwrap_or(path)
            .to_string()
    }

    fn add(&self, file: &DataFile, data_change: bool) -> Result<Action, StorageError> {
        let stats = Stats {
            num_records: file.rows,
            min_values: TimeStat { time: rfc3339(file.min_time.micros()) },
            max_values: TimeStat { time: rfc3339(file.max_time.micros()) },
        };
        Ok(Action::Add(Add {
            path: self.relative(file),
            partition_values: partition_values(file),
            size: file.size_bytes as i64,
            modification_time: file.modified_ms,
            data_change,
            stats: Some(serde_json::to_string(&stats).map_err(|error| self.error(error))?),
            ..Add::default()
        }))
    }

    /// The table's metadata with these columns after its own.
    fn with_columns(&self, promoted: &Promoted) -> Result<Action, StorageError> {
        let snapshot = self.delta.snapshot().map_err(|error| self.error(error))?.snapshot();
        let columns = columns(&promoted.schema).map_err(|error| self.error(error))?;
        let schema = StructType::try_new(columns).map_err(|error| self.error(error))?;
        let metadata = snapshot.metadata().clone().with_schema(&schema);
        Ok(Action::Metadata(metadata.map_err(|error| self.error(error))?))
    }

    fn remove(&self, file: &DataFile, data_change: bool) -> Action {
        Action::Remove(Remove {
            path: self.relative(file),
            data_change,
            deletion_timestamp: Some(UnixNanos::now().millis()),
            extended_file_metadata: Some(true),
            partition_values: Some(partition_values(file)),
            size: Some(file.size_bytes as i64),
            ..Remove::default()
        })
    }
}

/// Delta tables, each in the folder of its name.
pub(crate) struct DeltaLogs;

#[async_trait]
impl OpenTableLog for DeltaLogs {
    async fn open(
        &self,
        objects: Arc<dyn ObjectStore>,
        table: Table,
    ) -> Result<Box<dyn TableLog>, StorageError> {
        Ok(Box::new(DeltaLog::open(objects, table).await?))
    }
}

#[async_trait]
impl TableLog for DeltaLog {
    fn is_new(&self) -> bool {
        self.is_new
    }

    async fn files(&self) -> Result<Vec<Arc<DataFile>>, StorageError> {
        let snapshot = self.delta.snapshot().map_err(|error| self.error(error))?.snapshot();
        let log_store = self.delta.log_store();
        let mut views = snapshot.file_views(&*log_store, None);
        let mut files = Vec::new();
        while let Some(view) = views.try_next().await.map_err(|error| self.error(error))? {
            let stats = view.stats().unwrap_or_default();
            let stats: Stats = serde_json::from_str(&stats)
                .map_err(|error| self.error(format!("statistics of {}: {error}", view.path())))?;
            let time = |stat: &TimeStat| {
                micros_of(&stat.time)
                    .ok_or_else(|| self.error(format!("{:?} of {} is no time", stat.time, view.path())))
            };
            files.push(Arc::new(DataFile {
                path: Path::from(format!("{}/{}", self.table.name(), view.path())),
                size_bytes: view.size().max(0) as u64,
                rows: stats.num_records,
                min_time: UnixNanos::from_micros(time(&stats.min_values)?),
                max_time: UnixNanos::from_micros(time(&stats.max_values)?).plus_nanos(999),
                modified_ms: view.modification_time(),
            }));
        }
        Ok(files)
    }

    async fn through_segment(&self) -> Result<Option<u64>, StorageError> {
        let snapshot = self.delta.snapshot().map_err(|error| self.error(error))?;
        let version = snapshot.transaction_version(&*self.delta.log_store(), APP_ID.to_string()).await;
        Ok(version.map_err(|error| self.error(error))?.and_then(|segment| u64::try_from(segment).ok()))
    }

    async fn promoted(&self) -> Result<Promoted, StorageError> {
        let snapshot = self.delta.snapshot().map_err(|error| self.error(error))?.snapshot();
        let schema = snapshot.schema();
        let field = |column: &StructField| {
            let data_type = match column.data_type() {
                DataType::Primitive(PrimitiveType::String) => ArrowType::Utf8,
                DataType::Primitive(PrimitiveType::Long) => ArrowType::Int64,
                DataType::Primitive(PrimitiveType::Double) => ArrowType::Float64,
                DataType::Primitive(PrimitiveType::Boolean) => ArrowType::Boolean,
                _ => return None,
            };
            Some(Field::new(column.name(), data_type, true))
        };
        let fields: Vec<Field> = schema.fields().filter_map(field).collect();
        Ok(Promoted::of_schema(self.table, &Schema::new(fields)))
    }

    async fn commit(&mut self, change: &Change) -> Result<(), StorageError> {
        let data_change = !change.same_rows;
        let mut actions: Vec<Action> =
            change.remove.iter().map(|file| self.remove(file, data_change)).collect();
        if let Some(promoted) = &change.promoted {
            actions.push(self.with_columns(promoted)?);
        }
        for file in &change.add {
            actions.push(self.add(file, data_change)?);
        }
        let mut properties =
            CommitProperties::default().with_create_checkpoint(false).with_cleanup_expired_logs(Some(false));
        if let Some(segment) = change.through_segment {
            properties = properties.with_application_transaction(Transaction::new(APP_ID, segment as i64));
        }
        let operation = match change.remove.is_empty() {
            true => DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None },
            false if change.same_rows => DeltaOperation::Optimize { predicate: None, target_size: 0 },
            false => DeltaOperation::Delete { predicate: None },
        };
        let snapshot = self.delta.snapshot().map_err(|error| self.error(error))?;
        let commit = CommitBuilder::from(properties).with_actions(actions).build(
            Some(snapshot),
            self.delta.log_store(),
            operation,
        );
        let done = commit.await.map_err(|error| self.error(error))?;
        self.delta.state = Some(done.snapshot());
        if done.version() > 0 && (done.version() as u64).is_multiple_of(CHECKPOINT_COMMITS) {
            // The next one makes up for it.
            if let Err(error) = self.checkpoint(done.version()).await {
                tracing::warn!(table = self.table.name(), %error, "no checkpoint of the table log");
            }
        }
        Ok(())
    }

    async fn reload(&mut self) -> Result<(), StorageError> {
        load_newest(&mut self.delta, &*self.objects, self.table).await
    }
}

fn log_store(store: &Arc<dyn ObjectStore>, table: Table) -> Result<LogStoreRef, StorageError> {
    let location =
        Url::parse(&format!("memory:///{}/", table.name())).map_err(|error| log_error(table, error))?;
    let prefixed = Arc::new(PrefixStore::new(store.clone(), table.name()));
    Ok(default_logstore(prefixed, store.clone(), &location, &StorageConfig::default()))
}

/// What a line of a commit may be. Readers pass over others, and so over a file whose line is damaged.
const ACTIONS: [&str; 9] = [
    "add",
    "remove",
    "txn",
    "commitInfo",
    "protocol",
    "metaData",
    "domainMetadata",
    "cdc",
    "checkpointMetadata",
];

/// Commits since the newest checkpoint that are read at once.
const COMMITS_AT_ONCE: usize = 16;

/// Looks for damage that readers do not notice.
async fn check_commits(objects: &dyn ObjectStore, table: Table) -> Result<(), StorageError> {
    let found: Vec<_> = objects.list(Some(&log_path(table, ""))).try_collect().await?;
    let version = |path: &Path| path.filename()?.split('.').next()?.parse::<u64>().ok();
    let (checkpoints, commits): (Vec<Path>, Vec<Path>) = found
        .into_iter()
        .map(|object| object.location)
        .filter(|path| version(path).is_some())
        .partition(|path| path.as_ref().contains(".checkpoint."));
    let newest_checkpoint = checkpoints.iter().filter_map(version).max();
    let since = commits
        .into_iter()
        .filter(|path| path.as_ref().ends_with(".json") && version(path) > newest_checkpoint);
    futures::stream::iter(since.map(Ok))
        .try_for_each_concurrent(COMMITS_AT_ONCE, async |path| {
            let commit = objects.get(&path).await?.bytes().await?;
            let is_known = |line: &[u8]| {
                let action = serde_json::from_slice::<HashMap<String, serde::de::IgnoredAny>>(line);
                action.is_ok_and(|action| action.keys().all(|name| ACTIONS.contains(&name.as_str())))
            };
            let broken = commit
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .find(|line| !is_known(line));
            match broken {
                None => Ok(()),
                Some(line) => Err(StorageError::BrokenFile {
                    path: path.to_string(),
                    message: format!("{:.40}… is no action of Delta", String::from_utf8_lossy(line)),
                }),
            }
        })
        .await
}

fn log_path(table: Table, name: &str) -> Path {
    Path::from(format!("{}/_delta_log/{name}", table.name()))
}

fn commit_path(table: Table, version: Version) -> Path {
    log_path(table, &format!("{version:020}.json"))
}

async fn exists(objects: &dyn ObjectStore, path: &Path) -> Result<bool, StorageError> {
    match objects.head(path).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Loads the newest version. A store's lists may be late, but it always gives an object that is asked for by name: a
/// version that is there and was not loaded is waited for.
async fn load_newest(
    delta: &mut DeltaTable,
    objects: &dyn ObjectStore,
    table: Table,
) -> Result<(), StorageError> {
    for _ in 0..LATE_LISTS {
        let loaded = delta.load().await;
        let next = match (&loaded, delta.version()) {
            (Ok(()), Some(version)) => version + 1,
            _ => 0,
        };
        if !exists(objects, &commit_path(table, next)).await? {
            return loaded.map_err(|error| log_error(table, error));
        }
        if let Err(error) = loaded
            && !matches!(error, DeltaTableError::NotATable(_))
        {
            return Err(log_error(table, error));
        }
        tokio::time::sleep(LATE_LIST_PAUSE).await;
    }
    Err(log_error(table, "the object store does not list a commit that is there"))
}

fn log_error(table: Table, error: impl std::fmt::Display) -> StorageError {
    StorageError::TableLog { table: table.name(), message: error.to_string() }
}

fn partition_values(file: &DataFile) -> HashMap<String, Option<String>> {
    [("date".to_string(), file.date().map(str::to_string))].into()
}

pub(crate) fn rfc3339(micros: i64) -> String {
    match arrow::temporal_conversions::timestamp_us_to_datetime(micros) {
        Some(time) => format!("{}Z", time.format("%Y-%m-%dT%H:%M:%S%.6f")),
        None => "1970-01-01T00:00:00.000000Z".to_string(),
    }
}

fn micros_of(text: &str) -> Option<i64> {
    arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(text)
        .ok()
        .map(|nanos| nanos.div_euclid(1_000))
}

/// The log's schema: the table's columns and the partition's.
fn columns(schema: &Schema) -> Result<Vec<StructField>, String> {
    let mut columns = vec![StructField::nullable("date", DataType::DATE)];
    for field in schema.fields() {
        columns.push(StructField::nullable(field.name(), delta_type(field.data_type())?));
    }
    Ok(columns)
}

fn delta_type(arrow: &ArrowType) -> Result<DataType, String> {
    Ok(match arrow {
        ArrowType::Boolean => DataType::BOOLEAN,
        ArrowType::Int32 => DataType::INTEGER,
        ArrowType::Int64 => DataType::LONG,
        ArrowType::Float64 => DataType::DOUBLE,
        ArrowType::Utf8 => DataType::STRING,
        ArrowType::Binary => DataType::BINARY,
        ArrowType::Timestamp(_, Some(_)) => DataType::Primitive(PrimitiveType::Timestamp),
        ArrowType::Dictionary(_, value) => delta_type(value)?,
        ArrowType::Map(..) => MapType::new(DataType::STRING, DataType::STRING, true).into(),
        ArrowType::List(element) => ArrayType::new(delta_type(element.data_type())?, true).into(),
        ArrowType::Struct(fields) => {
            let fields = fields
                .iter()
                .map(|field| Ok(StructField::nullable(field.name(), delta_type(field.data_type())?)))
                .collect::<Result<Vec<_>, String>>()?;
            StructType::try_new(fields).map_err(|error| error.to_string())?.into()
        }
        other => return Err(format!("Delta has no type for {other}")),
    })
}

#[cfg(test)]
mod tests;

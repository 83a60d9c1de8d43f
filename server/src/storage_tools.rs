//! `pharos storage …`: looking at the tables, checking and mending them, taking rows out.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pharos_model::{TimeRange, UnixNanos};
use pharos_storage::{
    CheckReport, DataDirectory, DirectoryStat, OtherFile, RepairReport, Storage, StorageConfig, Table,
};

use crate::{say, settings::Settings};

#[derive(Subcommand, Debug)]
pub(crate) enum StorageCommand {
    /// Show what is stored: files, rows and bytes of each table and column; also while a server runs
    Stat {
        #[command(flatten)]
        place: Place,
        /// Every column of every table, instead of the five largest
        #[arg(long)]
        columns: bool,
    },
    /// Read every file, every value and the write-ahead log, and tell of all that is broken
    #[command(after_help = "Ends with exit code 1 if something is broken. The server must not be running.")]
    Check {
        #[command(flatten)]
        place: Place,
    },
    /// Put aside what is broken, keep the rest, and say what is lost
    #[command(after_help = "Broken files are kept in the folder quarantine. The server must not be running.")]
    Repair {
        #[command(flatten)]
        place: Place,
    },
    /// Make the derived tables anew from the spans, access logs and samples
    #[command(after_help = "The server must not be running.")]
    Rebuild {
        #[command(flatten)]
        place: Place,
        /// Only this one
        #[arg(long, value_name = "TABLE")]
        table: Option<Derived>,
    },
    /// Write tables to plain Parquet files
    #[command(after_help = "Example:\n  pharos storage export --table spans --from 2026-11-21T08:00:00Z \
        --to 2026-11-21T09:00:00Z --out /tmp/spans\n\nThe server must not be running.")]
    Export {
        #[command(flatten)]
        place: Place,
        /// Folder for the files, one for each table; made if it is missing
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Only this table; may be given more than once
        #[arg(long = "table", value_name = "TABLE", value_parser = parse_table)]
        tables: Vec<Table>,
        /// First moment, such as 2026-11-21T08:00:00Z [default: the beginning]
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        from: Option<UnixNanos>,
        /// Moment after the last [default: the end]
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        to: Option<UnixNanos>,
    },
}

/// Where the data is.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// The server's data folder [default: that of the configuration file, else ./pharos-data]
    #[arg(long, value_name = "DIR", env = "PHAROS_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Where the tables are, if not in the data folder: s3://…, gs://…, az://…, file:///…
    #[arg(long, value_name = "URL", env = "PHAROS_TABLES_URL")]
    tables_url: Option<String>,
    /// The server's configuration file
    #[arg(long, value_name = "FILE", env = "PHAROS_CONFIG")]
    config: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Derived {
    Edges,
    TraceSummaries,
}

impl Derived {
    fn table(self) -> Table {
        match self {
            Derived::Edges => Table::Edges,
            Derived::TraceSummaries => Table::TraceSummaries,
        }
    }
}

fn parse_table(name: &str) -> Result<Table, String> {
    Table::from_name(name).ok_or_else(|| {
        let known = Table::ALL.map(Table::name).join(", ");
        format!("there are {known}")
    })
}

fn parse_time(text: &str) -> Result<UnixNanos, String> {
    let time: jiff::Timestamp = text.parse().map_err(|error| format!("{error}"))?;
    i64::try_from(time.as_nanosecond()).map(UnixNanos).map_err(|_| "too far from now".to_string())
}

impl Place {
    fn storage_config(&self) -> anyhow::Result<StorageConfig> {
        let file = self.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
        let own = Settings::of_place(self.data_dir.clone(), self.tables_url.clone());
        let config = own.or(file).resolve(PathBuf::new())?;
        Ok(StorageConfig {
            tables_url: config.tables_url,
            // Nothing is dropped by looking at it.
            retention: None,
            ..StorageConfig::new(config.data_dir)
        })
    }
}

/// A bar on a terminal, from when something is known of the work; and nothing elsewhere.
struct Bar(ProgressBar);

/// What is done now, how much of all is done, and how long the rest may take.
const OF_BYTES: &str = "{msg:16} {wide_bar} {percent:>3}% of {total_bytes}  {eta} left";
const OF_PARTS: &str = "{msg:16} {wide_bar} {percent:>3}%  {eta} left";

impl Bar {
    fn new(template: &str) -> Bar {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━━╌"));
        }
        Bar(bar)
    }

    fn at(&self, what: &str, done: u64, of: u64) {
        self.0.set_length(of.max(1));
        self.0.set_position(done);
        if self.0.message() != what {
            self.0.set_message(what.to_string());
        }
        if self.0.is_hidden() && std::io::stderr().is_terminal() {
            self.0.set_draw_target(ProgressDrawTarget::stderr());
            self.0.enable_steady_tick(Duration::from_millis(200));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

pub(crate) async fn run(command: StorageCommand) -> anyhow::Result<()> {
    match command {
        StorageCommand::Stat { place, columns } => stat(&place, columns).await,
        StorageCommand::Check { place } => check(&place).await,
        StorageCommand::Repair { place } => repair(&place).await,
        StorageCommand::Rebuild { place, table } => rebuild(&place, table).await,
        StorageCommand::Export { place, out, tables, from, to } => {
            let range = TimeRange::new(from.unwrap_or(UnixNanos::MIN), to.unwrap_or(UnixNanos::MAX));
            export(&place, &out, &tables, range).await
        }
    }
}

async fn stat(place: &Place, all_columns: bool) -> anyhow::Result<()> {
    let found = {
        let bar = Bar::new(OF_PARTS);
        DataDirectory::to_read(place.storage_config()?)?
            .stat(&|what, done, of| bar.at(what, done, of))
            .await?
    };
    match place.json {
        true => say!("{}", serde_json::to_string_pretty(&found)?),
        false => say!("{}", stat_text(&found, all_columns)),
    }
    Ok(())
}

fn stat_text(found: &DirectoryStat, all_columns: bool) -> String {
    let mut lines = vec![format!(
        "{:<16} {:>6} {:>13} {:>10} {:>9}  {:<20} {:<20}",
        "table", "files", "rows", "bytes", "bytes/row", "oldest", "newest"
    )];
    for table in &found.tables {
        let second = |time: &Option<String>| {
            time.as_ref().and_then(|time| time.get(..19)).map_or(String::new(), |time| format!("{time}Z"))
        };
        lines.push(format!(
            "{:<16} {:>6} {:>13} {:>10} {:>9}  {:<20} {:<20}",
            table.table,
            table.files,
            table.rows,
            size(table.bytes),
            per_row(table.bytes, table.rows),
            second(&table.oldest),
            second(&table.newest),
        ));
    }
    for table in found.tables.iter().filter(|table| !table.columns.is_empty()) {
        lines.push(format!("\n{:<33} {:>10} {:>9}", table.table, "bytes", "bytes/row"));
        let shown = if all_columns { table.columns.len() } else { 5 };
        for column in table.columns.iter().take(shown) {
            lines.push(format!(
                "  {:<31} {:>10} {:>9}",
                column.name,
                size(column.bytes),
                per_row(column.bytes, table.rows)
            ));
        }
    }
    lines.push(format!("\nwrite-ahead log: {} segments, {}", found.wal_segments, size(found.wal_bytes)));
    lines.extend(quarantine_text(&found.quarantine));
    lines.extend(
        found.tables.iter().flat_map(|table| &table.problems).map(|problem| format!("BROKEN {problem}")),
    );
    lines.join("\n")
}

fn quarantine_text(files: &[OtherFile]) -> Vec<String> {
    let mut lines = Vec::new();
    if !files.is_empty() {
        lines.push("put aside because it could not be read:".to_string());
        lines.extend(files.iter().map(|file| format!("  {} ({})", file.path, size(file.bytes))));
    }
    lines
}

fn per_row(bytes: u64, rows: u64) -> String {
    if rows == 0 { String::new() } else { format!("{:.2}", bytes as f64 / rows as f64) }
}

fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

async fn check(place: &Place) -> anyhow::Result<()> {
    let found = {
        let bar = Bar::new(OF_BYTES);
        let directory = DataDirectory::to_change(place.storage_config()?)?;
        directory.check(&|what, done, of| bar.at(what, done, of)).await?
    };
    match place.json {
        true => say!("{}", serde_json::to_string_pretty(&found)?),
        false => say!("{}", check_text(&found)),
    }
    match found.problems.len() {
        0 => Ok(()),
        problems => bail!("{problems} broken; `pharos storage repair` puts them aside and keeps the rest"),
    }
}

fn check_text(found: &CheckReport) -> String {
    let mut lines = Vec::new();
    for table in &found.tables {
        lines.push(format!(
            "{:<16} {:>13} rows in {} files, {}: read",
            table.table,
            table.rows,
            table.files,
            size(table.bytes)
        ));
    }
    lines.push(format!(
        "write-ahead log: {} commits in {} segments: read",
        found.wal_frames, found.wal_segments
    ));
    for problem in &found.problems {
        let rows = problem.rows.map_or(String::new(), |rows| format!(" ({rows} rows)"));
        lines.push(format!("BROKEN {}{rows}: {}", problem.path, problem.message));
    }
    if !found.unnamed.is_empty() {
        lines.push(format!("{} files that no table names; the server removes them", found.unnamed.len()));
    }
    lines.extend(quarantine_text(&found.quarantine));
    lines.join("\n")
}

async fn repair(place: &Place) -> anyhow::Result<()> {
    let done = {
        let bar = Bar::new(OF_PARTS);
        let directory = DataDirectory::to_change(place.storage_config()?)?;
        directory.repair(&|what, done, of| bar.at(what, done, of)).await?
    };
    match place.json {
        true => say!("{}", serde_json::to_string_pretty(&done)?),
        false => say!("{}", repair_text(&done)),
    }
    Ok(())
}

fn repair_text(done: &RepairReport) -> String {
    let mut lines: Vec<String> = done
        .repaired
        .iter()
        .map(|repaired| {
            let kept =
                repaired.kept_as.as_ref().map_or(String::new(), |path| format!("; put aside as {path}"));
            format!(
                "{}: {}. {} rows kept, {} lost{kept}",
                repaired.path, repaired.problem, repaired.rows_kept, repaired.rows_lost
            )
        })
        .collect();
    if done.wal_quarantined_bytes > 0 {
        lines.push(format!("{} of the write-ahead log put aside", size(done.wal_quarantined_bytes)));
    }
    if lines.is_empty() {
        lines.push("nothing is broken".to_string());
    }
    lines.join("\n")
}

/// The storage as the server would open it.
async fn open(place: &Place) -> anyhow::Result<Storage> {
    let config = place.storage_config()?;
    if !config.data_dir.is_dir() {
        bail!("{} is no directory", config.data_dir.display());
    }
    let path = config.data_dir.clone();
    Storage::open(config).await.with_context(|| format!("cannot open the data in {}", path.display()))
}

async fn rebuild(place: &Place, table: Option<Derived>) -> anyhow::Result<()> {
    let storage = open(place).await?;
    let tables = table.map_or(vec![Derived::Edges, Derived::TraceSummaries], |table| vec![table]);
    for table in tables.into_iter().map(Derived::table) {
        let bar = Bar::new(OF_PARTS);
        let seconds =
            |from: UnixNanos, to: UnixNanos| u64::try_from((to.0 - from.0) / 1_000_000_000).unwrap_or(0);
        let rows = storage
            .rebuild(table, move |at| {
                bar.at(table.name(), seconds(at.first, at.through), seconds(at.first, at.last));
            })
            .await?;
        match place.json {
            true => say!("{}", serde_json::json!({ "table": table.name(), "rows": rows })),
            false => say!("{}: {rows} rows", table.name()),
        }
    }
    storage.close().await.context("cannot close the data")
}

async fn export(place: &Place, out: &Path, tables: &[Table], range: TimeRange) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let storage = open(place).await?;
    let tables = if tables.is_empty() { &Table::ALL[..] } else { tables };
    for table in tables {
        let bar = Bar::new(OF_PARTS);
        let path = out.join(format!("{}.parquet", table.name()));
        let name = table.name();
        let rows = storage.export(*table, range, &path, move |done, of| bar.at(name, done, of)).await?;
        match place.json {
            true => say!("{}", serde_json::json!({ "table": name, "rows": rows, "path": path })),
            false => say!("{}: {rows} rows", path.display()),
        }
    }
    storage.close().await.context("cannot close the data")
}

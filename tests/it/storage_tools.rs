//! `pharos storage …` as an operator runs it, on a data folder that a server wrote.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    backend::{Pharos, binary, sql_count},
    table_readers::fill,
};

fn storage(data_dir: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary("pharos"));
    command.arg("storage").args(arguments).arg("--data-dir").arg(data_dir);
    Ok(command.output()?)
}

fn json(data_dir: &Path, arguments: &[&str]) -> Result<Value> {
    let output = storage(data_dir, &[arguments, &["--json"]].concat())?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .with_context(|| format!("{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// The table's row in `stat`.
fn of_table<'a>(stat: &'a Value, table: &str) -> &'a Value {
    let tables = stat["tables"].as_array().map(Vec::as_slice).unwrap_or_default();
    tables.iter().find(|row| row["table"] == table).unwrap_or(&Value::Null)
}

fn a_file_of(data_dir: &Path, table: &str) -> Result<PathBuf> {
    for date in std::fs::read_dir(data_dir.join(table))? {
        let date = date?.path();
        if date.to_string_lossy().contains("date=") {
            return Ok(std::fs::read_dir(date)?.next().context("no file")??.path());
        }
    }
    anyhow::bail!("no partition")
}

#[tokio::test]
async fn an_operator_looks_checks_repairs_rebuilds_and_exports() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path();
    let pharos = Pharos::serve(data, &[])?;
    fill(&pharos).await?;
    let in_use = storage(data, &["check"])?;
    ensure!(String::from_utf8_lossy(&in_use.stderr).contains("in use"), "{in_use:?}");
    ensure!(json(data, &["stat"])?["wal_bytes"].as_u64() > Some(0), "a server's folder can be looked at");
    pharos.interrupt()?;

    let stat = json(data, &["stat"])?;
    let spans = of_table(&stat, "spans");
    ensure!(spans["rows"] == 160 && spans["columns"][0]["bytes"].as_u64() > Some(0), "{spans}");
    let text = String::from_utf8(storage(data, &["stat"])?.stdout)?;
    ensure!(text.contains("bytes/row") && text.contains("trace_id"), "{text}");
    let check = json(data, &["check"])?;
    ensure!(check["problems"] == serde_json::json!([]), "{check}");

    let rebuilt = storage(data, &["rebuild"])?;
    ensure!(String::from_utf8_lossy(&rebuilt.stdout).contains("trace_summaries: 40 rows"), "{rebuilt:?}");
    let out = data.join("exported");
    let path = out.to_str().context("a path")?;
    let exported = json(data, &["export", "--out", path, "--table", "samples"])?;
    ensure!(exported["rows"] == 350 && out.join("samples.parquet").exists(), "{exported}");

    // A flipped bit in the middle.
    let file = a_file_of(data, "spans")?;
    let mut bytes = std::fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&file, bytes)?;
    let check = storage(data, &["check"])?;
    let told = String::from_utf8_lossy(&check.stdout);
    ensure!(!check.status.success() && told.contains("BROKEN spans/") && told.contains("checksum"), "{told}");
    let repaired = json(data, &["repair"])?;
    let [done] = repaired["repaired"].as_array().context("no list")?.as_slice() else {
        anyhow::bail!("{repaired}")
    };
    let (kept, lost) = (done["rows_kept"].as_i64().unwrap_or(0), done["rows_lost"].as_i64().unwrap_or(0));
    ensure!(kept + lost == 160, "{done}");
    ensure!(data.join(done["kept_as"].as_str().context("no copy")?).exists(), "{done}");
    ensure!(storage(data, &["check"])?.status.success());
    let pharos = Pharos::serve(data, &[])?;
    assert_eq!(sql_count(&pharos, "select count(*) from spans").await?, kept);
    assert_eq!(sql_count(&pharos, "select count(*) from samples").await?, 350);
    Ok(())
}

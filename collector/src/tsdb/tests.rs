use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pharos_model::{HistogramSample, Matcher, NativeHistogram, SeriesId, TimeRange, is_stale};
use pharos_proto::prometheus::remote_write_v1 as v1;
use pharos_storage::{Storage, StorageConfig};
use prost::Message;

use super::{
    ImportError, Imported, TsdbImport,
    bits::Bits,
    chunk::{Decoded, decode},
};

const SERIES: i64 = 40;
const SAMPLES: i64 = 700;
const START_S: i64 = 1_700_000_000;

fn value(series: i64, n: i64) -> f64 {
    match n % 10 {
        0 => (series * n) as f64,
        1 => (series * n) as f64 * 0.1,
        2 if series % 7 == 0 => f64::NAN,
        3 => -1e300,
        _ => 42.0,
    }
}

/// Blocks as promtool makes them, or `None` where there is no promtool.
fn blocks(folder: &Path) -> Option<PathBuf> {
    let mut text = String::from("# TYPE m gauge\n");
    for series in 0..SERIES {
        for n in 0..SAMPLES {
            let value = value(series, n);
            // Uneven steps take the longer forms of a time.
            let time = START_S as f64 + (n * 15 + n % 3) as f64 + 0.125 * (n % 2) as f64;
            text.push_str(&format!("m{{series=\"{series}\",text=\"ü \\\" {series}\"}} {value:?} {time}\n"));
        }
    }
    text.push_str("# EOF\n");
    let text = text.replace("inf", "Inf");
    let file = folder.join("input.om");
    fs::write(&file, text).unwrap();
    let out = folder.join("tsdb");
    let made = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([&file, &out])
        .output();
    match made {
        Ok(made) => {
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            Some(out)
        }
        Err(error) => {
            eprintln!("absent: promtool ({error})");
            None
        }
    }
}

async fn open(folder: &Path) -> Storage {
    Storage::open(StorageConfig { retention: None, ..StorageConfig::new(folder) }).await.unwrap()
}

fn import(folder: &Path, data: &Path) -> TsdbImport {
    TsdbImport { folder: folder.to_path_buf(), notes: data.join("imported"), from_ms: i64::MIN }
}

#[tokio::test]
async fn blocks_of_promtool_come_in_whole_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tsdb) = blocks(folder.path()) else { return };
    let data = folder.path().join("data");
    let storage = open(&data).await;
    let mut told = Vec::new();
    let imported = import(&tsdb, &data).run(&storage, |progress| told.push(progress.clone())).await.unwrap();
    assert!(imported.blocks >= 2, "{imported:?}");
    let expected = Imported { samples: (SERIES * SAMPLES) as u64, duplicates: 0, rejected: 0, ..imported };
    assert_eq!(imported, expected);
    let last = told.last().unwrap();
    assert_eq!((last.series_done, last.samples), (last.series, expected.samples));
    storage.flush().await.unwrap();
    for series in 0..SERIES {
        let matchers = [Matcher::equal("__name__", "m"), Matcher::equal("text", format!("ü \" {series}"))];
        let found = storage.select_series(&matchers, TimeRange::ALL, 10).unwrap();
        let ids: Vec<SeriesId> = found.iter().map(|(id, _)| *id).collect();
        let columns = storage.read_samples(&ids, i64::MIN / 4, i64::MAX / 4).await.unwrap();
        assert_eq!((found.len(), columns[0].times_ms.len()), (1, SAMPLES as usize));
        for (n, (time_ms, got)) in (0..).zip(columns[0].times_ms.iter().zip(&columns[0].values)) {
            let wanted = value(series, n);
            assert_eq!(*time_ms, (START_S + n * 15 + n % 3) * 1_000 + 125 * (n % 2));
            assert!(*got == wanted || (got.is_nan() && wanted.is_nan()), "{series} {n}: {got} {wanted}");
        }
    }
    let again = import(&tsdb, &data).run(&storage, |_| {}).await.unwrap();
    assert_eq!(again, Imported { blocks_skipped: imported.blocks, ..Imported::default() });
    // As after an end in the middle.
    let block = fs::read_dir(data.join("imported")).unwrap().next().unwrap().unwrap().path();
    fs::write(&block, "30").unwrap();
    let resumed = import(&tsdb, &data).run(&storage, |_| {}).await.unwrap();
    assert_eq!((resumed.blocks, resumed.series), (1, SERIES as u64 - 30));
    let late = TsdbImport { from_ms: i64::MAX, ..import(&tsdb, &data) };
    assert_eq!(late.run(&storage, |_| {}).await.unwrap().blocks_too_old, imported.blocks);
    let none = import(folder.path(), &data).run(&storage, |_| {}).await.unwrap_err();
    assert!(matches!(none, ImportError::NoBlocks(_)), "{none}");
}

/// Every flipped bit is either found or harmless, and what is found is named with its file.
#[tokio::test]
async fn damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let Some(tsdb) = blocks(folder.path()) else { return };
    let mut found: Vec<PathBuf> = fs::read_dir(&tsdb)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("meta.json").exists())
        .collect();
    found.sort();
    let block = &found[0];
    let data = folder.path().join("data");
    let storage = open(&data).await;
    for name in ["meta.json", "index", "chunks/000001", "tombstones"] {
        let path = block.join(name);
        let whole = fs::read(&path).unwrap();
        let step = (whole.len() / 60).max(1);
        let mut faults = 0;
        for at in (0..whole.len()).step_by(step) {
            for damaged in [
                whole
                    .iter()
                    .enumerate()
                    .map(|(n, b)| if n == at { b ^ 0x5a } else { *b })
                    .collect::<Vec<u8>>(),
                whole[..at].to_vec(),
            ] {
                fs::write(&path, damaged).unwrap();
                let notes = tempfile::tempdir().unwrap();
                let import = TsdbImport { notes: notes.path().to_path_buf(), ..import(block, &data) };
                if let Err(error) = import.run(&storage, |_| {}).await {
                    faults += 1;
                    let text = error.to_string();
                    assert!(text.contains("at byte") && text.contains(block.to_str().unwrap()), "{text}");
                }
            }
        }
        fs::write(&path, &whole).unwrap();
        assert!(faults > 0, "{name}");
    }
}

/// Writes as Prometheus' `bstream` does.
#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    used: usize,
}

impl BitWriter {
    fn bits(&mut self, value: u64, count: u32) {
        for at in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if value >> at & 1 == 1 {
                *self.bytes.last_mut().unwrap() |= 0x80 >> (self.used % 8);
            }
            self.used += 1;
        }
    }

    fn varbit(&mut self, value: i64) {
        match value {
            0 => self.bits(0, 1),
            -3..=4 => {
                self.bits(0b10, 2);
                self.bits(value as u64 & 0b111, 3);
            }
            _ => {
                self.bits(0xff, 8);
                self.bits(value as u64, 64);
            }
        }
    }

    fn varbit_uint(&mut self, value: u64) {
        match value {
            0 => self.bits(0, 1),
            1..=7 => {
                self.bits(0b10, 2);
                self.bits(value, 3);
            }
            _ => {
                self.bits(0xff, 8);
                self.bits(value, 64);
            }
        }
    }
}

#[test]
fn chunks_of_native_histograms() {
    for float in [false, true] {
        let mut bits = BitWriter::default();
        // A zero threshold of 2^-7, schema 1, one span of two positive buckets from index 3 on, no negative ones.
        bits.bits(237, 8);
        bits.varbit(1);
        bits.varbit_uint(1);
        bits.varbit_uint(2);
        bits.varbit(3);
        bits.varbit_uint(0);
        let first = |bits: &mut BitWriter, value: u64| match float {
            true => bits.bits((value as f64).to_bits(), 64),
            false => bits.varbit_uint(value),
        };
        bits.varbit(1_000);
        first(&mut bits, 6);
        first(&mut bits, 1);
        bits.bits(2.5f64.to_bits(), 64);
        match float {
            true => {
                first(&mut bits, 2);
                first(&mut bits, 3);
            }
            false => {
                bits.varbit(2);
                bits.varbit(1);
            }
        }
        // The same again 15 s later, then the end.
        bits.varbit(15_000);
        let same = |bits: &mut BitWriter| if float { bits.bits(0, 1) } else { bits.varbit(0) };
        same(&mut bits);
        same(&mut bits);
        bits.bits(0, 1);
        same(&mut bits);
        same(&mut bits);
        bits.varbit(0);
        same(&mut bits);
        same(&mut bits);
        let difference = 2.5f64.to_bits() ^ pharos_model::STALE_NAN_BITS;
        bits.bits(0b11, 2);
        bits.bits(0, 5);
        bits.bits(0, 6);
        bits.bits(difference, 64);
        let mut data = vec![0, 3, 0];
        data.extend(&bits.bytes);
        let Decoded { histograms, samples } = decode(if float { 3 } else { 2 }, &data).unwrap();
        assert!(samples.is_empty());
        let text = "{count:6 sum:2.5 schema:1 zero:1 [3]:2 [4]:3}";
        let lines: Vec<String> = histograms
            .iter()
            .map(|HistogramSample { time_ms, histogram }| format!("{histogram} @{time_ms}"))
            .collect();
        assert_eq!(lines, [format!("{text} @1000"), format!("{text} @16000"), "stale @31000".to_string()]);
        assert_eq!(histograms[0].histogram.zero_threshold, 2f64.powi(-7));
        assert!(is_stale(NativeHistogram::stale().sum));
        for cut in 0..data.len() {
            drop(decode(if float { 3 } else { 2 }, &data[..cut]));
        }
    }
    assert!(decode(9, &[0, 1, 0]).unwrap_err().contains("encoding 9"));
    assert_eq!(Bits::new(&[0b1010_0000]).bits(3), Ok(0b101));
}

/// A Prometheus that was killed: nothing of it is in a block. `None` where there is no Prometheus.
async fn killed_prometheus(folder: &Path, series: &[v1::TimeSeries]) -> Option<PathBuf> {
    let address = std::net::TcpListener::bind("127.0.66.1:0").unwrap().local_addr().unwrap().to_string();
    let config = folder.join("prometheus.yml");
    fs::write(&config, "global: {}\n").unwrap();
    let started = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
        .arg(format!("--web.listen-address={address}"))
        .args([
            "--web.enable-remote-write-receiver",
            "--enable-feature=native-histograms",
            "--log.level=error",
        ])
        .spawn();
    let mut process = match started {
        Ok(process) => process,
        Err(error) => {
            eprintln!("absent: prometheus ({error})");
            return None;
        }
    };
    let client = reqwest::Client::new();
    let ready = async {
        while !client
            .get(format!("http://{address}/-/ready"))
            .send()
            .await
            .is_ok_and(|said| said.status() == 200)
        {
            tokio::task::yield_now().await;
        }
    };
    let ready = tokio::time::timeout(std::time::Duration::from_secs(60), ready).await;
    for part in series.chunks(50) {
        let request = v1::WriteRequest { timeseries: part.to_vec(), ..v1::WriteRequest::default() };
        let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap();
        let said = client.post(format!("http://{address}/api/v1/write")).body(body).send().await.unwrap();
        assert!(said.status().is_success(), "{}", said.text().await.unwrap());
    }
    process.kill().unwrap();
    process.wait().unwrap();
    ready.expect("a Prometheus that is ready");
    Some(folder.join("tsdb"))
}

#[tokio::test]
async fn what_is_in_no_block_yet_comes_from_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let now_ms = pharos_model::UnixNanos::now().millis();
    let label = |name: &str, value: &str| v1::Label { name: name.into(), value: value.into() };
    let mut sent: Vec<v1::TimeSeries> = (0..SERIES)
        .map(|series| v1::TimeSeries {
            labels: vec![label("__name__", "m"), label("series", &series.to_string())],
            samples: (0..200)
                .map(|n| v1::Sample { value: value(series, n), timestamp: now_ms - (200 - n) * 1_000 })
                .collect(),
            ..v1::TimeSeries::default()
        })
        .collect();
    sent.push(v1::TimeSeries {
        labels: vec![label("__name__", "h")],
        histograms: vec![v1::Histogram {
            count: Some(v1::histogram::Count::CountInt(6)),
            sum: 2.5,
            schema: 1,
            zero_threshold: 0.0078125,
            zero_count: Some(v1::histogram::ZeroCount::ZeroCountInt(1)),
            positive_spans: vec![v1::BucketSpan { offset: 3, length: 2 }],
            positive_deltas: vec![2, 1],
            timestamp: now_ms,
            ..v1::Histogram::default()
        }],
        ..v1::TimeSeries::default()
    });
    let Some(tsdb) = killed_prometheus(folder.path(), &sent).await else { return };
    let data = folder.path().join("data");
    let storage = open(&data).await;
    let imported = import(&tsdb, &data).run(&storage, |_| {}).await.unwrap();
    let samples = (SERIES * 200) as u64 + 1;
    assert_eq!((imported.blocks, imported.log, imported.samples, imported.duplicates), (0, true, samples, 0));
    assert_eq!(imported.series, SERIES as u64 + 1);
    for series in 0..SERIES {
        let matchers = [Matcher::equal("__name__", "m"), Matcher::equal("series", series.to_string())];
        let found = storage.select_series(&matchers, TimeRange::ALL, 10).unwrap();
        let ids: Vec<SeriesId> = found.iter().map(|(id, _)| *id).collect();
        let columns = storage.read_samples(&ids, i64::MIN / 4, i64::MAX / 4).await.unwrap();
        assert_eq!(columns[0].times_ms.len(), 200);
        for (n, (time_ms, got)) in (0..).zip(columns[0].times_ms.iter().zip(&columns[0].values)) {
            let wanted = value(series, n);
            assert_eq!(*time_ms, now_ms - (200 - n) * 1_000);
            assert!(*got == wanted || (got.is_nan() && wanted.is_nan()), "{series} {n}: {got} {wanted}");
        }
    }
    // Again: all is there already.
    let again = import(&tsdb, &data).run(&storage, |_| {}).await.unwrap();
    assert_eq!((again.samples, again.duplicates), (samples, samples));

    // The last segment may end anywhere, an earlier one may not; damage is found or harmless.
    let segment = tsdb.join("wal/00000000");
    let whole = fs::read(&segment).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    for at in (0..used).step_by(used / 15) {
        fs::write(&segment, &whole[..at]).unwrap();
        let cut = import(&tsdb, &data).run(&storage, |_| {}).await.unwrap();
        assert!(cut.samples <= samples, "{cut:?}");
    }
    fs::write(&segment, &whole[..used / 2]).unwrap();
    fs::write(tsdb.join("wal/00000001"), "").unwrap();
    let error = import(&tsdb, &data).run(&storage, |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("wal/00000000: at byte"), "{error}");
    // As after a checkpoint: its records come first.
    fs::create_dir(tsdb.join("wal/checkpoint.00000000")).unwrap();
    fs::rename(&segment, tsdb.join("wal/checkpoint.00000000/00000000")).unwrap();
    fs::write(tsdb.join("wal/checkpoint.00000000/00000000"), &whole).unwrap();
    let from_checkpoint = import(&tsdb, &data).run(&storage, |_| {}).await.unwrap();
    assert_eq!(from_checkpoint.samples, samples);
}

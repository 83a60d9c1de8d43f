use arrow::array::RecordBatch;
use futures::TryStreamExt;
use pharos_model::{EdgeMeasure, EdgeOrigin, MatchOp, Matcher, UnixNanos};

use super::*;
use crate::{
    ScanValue, access_logs_of, logs_of, mesh_objects_of, spans_of,
    test_rows::{START, access_log, counter, log, mesh_object, span, trace_id},
    trace_summaries_of,
};

fn config(dir: &std::path::Path) -> StorageConfig {
    // Nothing is flushed but by asking for it.
    StorageConfig { flush_after: Duration::from_secs(3_600), retention: None, ..StorageConfig::new(dir) }
}

async fn read(storage: &Storage, table: Table, scan: &Scan) -> Vec<RecordBatch> {
    storage.snapshot(table, scan.range).unwrap().read(scan).await.unwrap().try_collect().await.unwrap()
}

async fn append_all(storage: &Storage) {
    let spans = Batch::Spans((0..200).map(span).collect());
    assert_eq!(storage.append(spans).await.unwrap().rows, 200);
    storage.append(Batch::AccessLogs((0..100).map(access_log).collect())).await.unwrap();
    storage.append(Batch::Logs((0..10).map(log).collect())).await.unwrap();
    storage.append(Batch::MeshConfig((0..3).map(mesh_object).collect())).await.unwrap();
    let samples = Batch::Samples(vec![counter("a", 0..8), counter("b", 0..4)]);
    assert_eq!(storage.append(samples).await.unwrap().rows, 14);
}

/// Everything that `append_all` stored is there once, exactly as it was.
async fn check_all(storage: &Storage, when: &str) {
    let all = Scan::new(TimeRange::ALL);
    let mut spans: Vec<_> =
        read(storage, Table::Spans, &all).await.iter().flat_map(|batch| spans_of(batch).unwrap()).collect();
    spans.sort_by_key(|span| span.start);
    assert_eq!(spans, (0..200).map(span).collect::<Vec<_>>(), "spans {when}");
    let mut logs: Vec<_> = read(storage, Table::AccessLogs, &all)
        .await
        .iter()
        .flat_map(|batch| access_logs_of(batch).unwrap())
        .collect();
    logs.sort_by_key(|log| log.time);
    assert_eq!(logs, (0..100).map(access_log).collect::<Vec<_>>(), "access logs {when}");
    let mut logs: Vec<_> =
        read(storage, Table::Logs, &all).await.iter().flat_map(|batch| logs_of(batch).unwrap()).collect();
    logs.sort_by_key(|log| log.time);
    assert_eq!(logs, (0..10).map(log).collect::<Vec<_>>(), "logs {when}");
    let objects: Vec<_> = read(storage, Table::MeshConfig, &all)
        .await
        .iter()
        .flat_map(|batch| mesh_objects_of(batch).unwrap())
        .collect();
    assert_eq!(objects, (0..3).map(mesh_object).collect::<Vec<_>>(), "mesh config {when}");

    let matcher = [Matcher::new("pod", MatchOp::Regex, "a|b").unwrap()];
    let mut series = storage.select_series(&matcher, TimeRange::ALL, 10).unwrap();
    series.sort_by_key(|(_, labels)| labels.get("pod").to_string());
    let ids: Vec<SeriesId> = series.iter().map(|(id, _)| *id).collect();
    let (first, last) = (START.millis() + 15_000, START.millis() + 60_000);
    let columns = storage.read_samples(&ids, first, last).await.unwrap();
    assert_eq!(columns[0].values, [3.0, 6.0, 9.0, 12.0], "samples {when}");
    assert_eq!(columns[1].values, [3.0, 6.0, 9.0], "samples {when}");
    assert_eq!(columns[1].times_ms[0], first);
    let count: usize = read(storage, Table::Samples, &all).await.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(count, 12, "samples {when}");
    assert_eq!(storage.metadata(Some("istio_requests_total"))[0].help, "requests");
    let exemplars = storage.exemplars(&matcher, TimeRange::ALL).await.unwrap();
    assert_eq!(exemplars.iter().map(|(_, exemplars)| exemplars.len()).collect::<Vec<_>>(), [1, 1], "{when}");
    check_derived(storage, when).await;
}

async fn check_derived(storage: &Storage, when: &str) {
    let edges = storage.edges(TimeRange::ALL).await.unwrap();
    check_joined(storage, &edges, when).await;
    let sum = |origin, measure| -> f64 {
        let chosen = edges.iter().filter(|edge| edge.key.origin == origin && edge.measure == measure);
        chosen.map(|edge| edge.counter.increase).sum()
    };
    assert_eq!(sum(EdgeOrigin::AccessLog, EdgeMeasure::Requests), 100.0, "{when}");
    assert_eq!(sum(EdgeOrigin::Span, EdgeMeasure::Requests), 200.0, "{when}");
    let counters: i64 = edges
        .iter()
        .filter(|edge| edge.key.origin == EdgeOrigin::Metrics)
        .map(|edge| edge.counter.samples)
        .sum();
    assert_eq!(counters, 12, "{when}");
    let summaries = read(storage, Table::TraceSummaries, &Scan::new(TimeRange::ALL)).await;
    let summaries: Vec<_> = summaries.iter().flat_map(|batch| trace_summaries_of(batch).unwrap()).collect();
    assert_eq!(summaries.len(), 50, "{when}");
    assert!(summaries.iter().all(|trace| trace.spans == 4 && trace.orphans == 0), "{when}");
    assert_eq!(summaries.iter().map(|trace| trace.errors).sum::<i64>(), 20, "{when}");
    assert!(summaries[0].root_service.ends_with(".bookinfo"), "{when}");
}

/// Joined rows tell of the same as single ones, and the border stays apart.
async fn check_joined(storage: &Storage, edges: &[Edge], when: &str) {
    let range = TimeRange::new(START, START.plus_nanos(105_000_000_000));
    let joined = storage.edges_joined(range).await.unwrap();
    let single: Vec<&Edge> = edges.iter().filter(|edge| edge.bucket < range.end).collect();
    assert!(joined.len() < single.len(), "{when}");
    let sum = |edges: &[&Edge]| -> f64 { edges.iter().map(|edge| edge.counter.samples as f64).sum() };
    assert_eq!(sum(&joined.iter().collect::<Vec<_>>()), sum(&single), "{when}");
    let counter = |edge: &&&Edge| edge.key.origin == EdgeOrigin::Metrics;
    let mut increase = 0.0;
    for pod in joined.iter().map(|edge| edge.key.series).collect::<std::collections::BTreeSet<_>>() {
        let mut whole = pharos_model::CounterPart::default();
        let of_pod = joined.iter().collect::<Vec<_>>();
        of_pod
            .iter()
            .filter(counter)
            .filter(|edge| edge.key.series == pod)
            .for_each(|edge| whole.join(&edge.counter));
        increase += whole.increase;
    }
    // Pod a has samples 0 to 7 and b 0 to 3 in these buckets, each 3 higher than the one before.
    assert_eq!(increase, 7.0 * 3.0 + 3.0 * 3.0, "{when}");
    let first = joined.iter().filter(|edge| edge.bucket == START.floor_to(pharos_model::EDGE_BUCKET_NS));
    assert!(first.count() > 0, "{when}");
}

#[tokio::test]
async fn rows_are_there_at_once_after_a_flush_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    append_all(&storage).await;
    check_all(&storage, "in the head").await;
    storage.flush().await.unwrap();
    assert_eq!(storage.stats().head_bytes, 0);
    check_all(&storage, "in files").await;
    storage.close().await.unwrap();
    let closed = storage.append(Batch::Logs(vec![log(1)])).await;
    assert!(matches!(closed, Err(AppendError::Failed(StorageError::Closed))));
    drop(storage);
    let storage = Storage::open(config(dir.path())).await.unwrap();
    check_all(&storage, "after a restart").await;
}

#[tokio::test]
async fn a_copy_of_the_directory_at_any_moment_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    append_all(&storage).await;
    let copy = tempfile::tempdir().unwrap();
    copy_tree(dir.path(), copy.path());
    let crashed = Storage::open(config(copy.path())).await.unwrap();
    check_all(&crashed, "from the WAL").await;
    // The rows of before are being flushed; a second crash at whatever step of it changes nothing.
    let again = tempfile::tempdir().unwrap();
    copy_tree(copy.path(), again.path());
    let twice = Storage::open(config(again.path())).await.unwrap();
    check_all(&twice, "after two crashes").await;
    twice.flush().await.unwrap();
    check_all(&twice, "after two crashes and a flush").await;
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else if let Err(error) = std::fs::copy(entry.path(), target) {
            // Removed meanwhile, as files that are replaced are.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

#[tokio::test]
async fn what_is_sent_again_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    append_all(&storage).await;
    let spans = || Batch::Spans((100..250).map(span).collect());
    assert_eq!(
        storage.append(spans()).await.unwrap(),
        Appended { rows: 50, duplicates: 100, ..Appended::default() }
    );
    storage.close().await.unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    assert_eq!(
        storage.append(spans()).await.unwrap(),
        Appended { rows: 0, duplicates: 150, ..Appended::default() }
    );
    let mut again = counter("a", 5..10);
    again.exemplars.clear();
    let appended = storage.append(Batch::Samples(vec![again])).await.unwrap();
    assert_eq!(appended, Appended { rows: 2, duplicates: 3, ..Appended::default() });
}

#[tokio::test]
async fn scans_find_what_they_ask_for_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    storage.append(Batch::Spans((0..120).map(span).collect())).await.unwrap();
    storage.flush().await.unwrap();
    storage.append(Batch::Spans((120..200).map(span).collect())).await.unwrap();
    let numbers = async |scan: Scan| -> Vec<u64> {
        let batches = read(&storage, Table::Spans, &scan).await;
        let spans = batches.iter().flat_map(|batch| spans_of(batch).unwrap());
        spans.map(|span| (span.start.0 - START.0) as u64 / 7_000_001).collect()
    };
    let sorted = |mut numbers: Vec<u64>| {
        numbers.sort_unstable();
        numbers
    };
    let by_trace =
        |number| Scan::new(TimeRange::ALL).equal("trace_id", ScanValue::Bytes(trace_id(number).0.to_vec()));
    assert_eq!(sorted(numbers(by_trace(3)).await), [12, 13, 14, 15]);
    assert_eq!(sorted(numbers(by_trace(40)).await), [160, 161, 162, 163]);
    assert!(numbers(by_trace(4_711)).await.is_empty());

    let at = |number: i64| START.plus_nanos(number * 7_000_001);
    let range = TimeRange::new(at(118), at(122));
    assert_eq!(sorted(numbers(Scan::new(range)).await), [118, 119, 120, 121]);
    assert_eq!(numbers(Scan::new(TimeRange::ALL).newest_first().limit(3)).await, [199, 198, 197]);
    let reviews = Scan::new(range).equal("service", ScanValue::Text("reviews.bookinfo".to_string()));
    assert_eq!(numbers(reviews.clone()).await, [118]);
    let old = TimeRange::new(at(0), at(60));
    let errors = Scan::new(old).equal("error", ScanValue::Bool(true)).newest_first().limit(4);
    assert_eq!(numbers(errors).await, [53, 43, 33, 23]);
    let code = Scan::new(TimeRange::ALL).equal("http_status", ScanValue::Int(503)).newest_first().limit(2);
    assert_eq!(numbers(code).await, [193, 183]);
    assert_eq!(numbers(Scan::new(TimeRange::ALL).limit(5)).await.len(), 5);

    let columns = Scan::new(TimeRange::ALL).columns(["name", "time"]).newest_first().limit(2);
    let names = read(&storage, Table::Spans, &columns).await;
    assert_eq!(names[0].schema().field(0).name(), "name");
    let wrong = storage.snapshot(Table::Spans, TimeRange::ALL).unwrap();
    let wrong = wrong.read(&Scan::new(TimeRange::ALL).columns(["nmae"])).await.err().unwrap();
    assert!(wrong.to_string().contains("nmae"), "{wrong}");
}

#[tokio::test]
async fn a_full_head_says_later_and_takes_rows_again_after_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let small = StorageConfig { head_bytes: 400_000, flush_bytes: usize::MAX, ..config(dir.path()) };
    let storage = Storage::open(small).await.unwrap();
    let batch = |n: u64| Batch::Spans((n * 50..n * 50 + 50).map(span).collect());
    let mut stored = 0;
    loop {
        match storage.append(batch(stored)).await {
            Ok(_) => stored += 1,
            Err(AppendError::Overloaded { .. }) => break,
            Err(other) => panic!("{other}"),
        }
        assert!(stored < 100, "the head has no bound");
    }
    storage.flush().await.unwrap();
    storage.append(batch(stored)).await.unwrap();
    let huge = storage.append(Batch::Spans((0..5_000).map(span).collect())).await;
    assert!(matches!(huge, Err(AppendError::Invalid { .. })));
}

#[tokio::test]
async fn subscribers_get_what_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    storage.append(Batch::Spans(vec![span(1)])).await.unwrap();
    let mut tail = storage.subscribe();
    storage.append(Batch::Spans(vec![span(1), span(2)])).await.unwrap();
    let batch = tail.recv().await.unwrap();
    let Batch::Spans(spans) = &*batch else { panic!("{batch:?}") };
    assert_eq!(spans, &[span(2)]);
}

#[tokio::test]
async fn late_samples_are_taken_and_come_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    storage.append(Batch::Samples(vec![counter("a", 10..20)])).await.unwrap();
    storage.flush().await.unwrap();
    storage.append(Batch::Samples(vec![counter("a", 0..10)])).await.unwrap();
    let series = storage.select_series(&[Matcher::equal("pod", "a")], TimeRange::ALL, 10).unwrap();
    let columns = storage.read_samples(&[series[0].0], i64::MIN, i64::MAX).await.unwrap();
    assert_eq!(columns[0].values, (0..20).map(|n| f64::from(n) * 3.0).collect::<Vec<_>>());
    let before = TimeRange::new(UnixNanos::MIN, START.plus_nanos(1));
    assert_eq!(storage.select_series(&[], before, 10).unwrap().len(), 1);
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(config(dir.path())).await.unwrap();
    let error = Storage::open(config(dir.path())).await.err().unwrap();
    assert!(error.to_string().contains("in use"), "{error}");
    drop(storage);
    Storage::open(config(dir.path())).await.unwrap();
}

use futures::TryStreamExt;
use pharos_model::{Attributes, Span, TimeRange, Value};

use super::*;
use crate::{Batch, Scan, ScanValue, Storage, StorageConfig, columns::to_batch, spans_of, test_rows::span};

/// Rows of which each has attributes of its own: types that differ, other orders, values that no column can hold.
fn odd_span(number: u64) -> Span {
    let mut span = span(number);
    let set = |attributes: &mut Attributes, key: &str, value: Value| {
        let others = attributes.iter().filter(|(known, _)| *known != key);
        let mut all: Vec<(String, Value)> =
            others.map(|(key, value)| (key.to_string(), value.clone())).collect();
        all.push((key.to_string(), value));
        *attributes = all.into_iter().collect();
    };
    match number % 5 {
        0 => {
            let mut attributes: Vec<(String, Value)> =
                span.attributes.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
            attributes.reverse();
            span.attributes = attributes.into_iter().collect();
        }
        1 => set(&mut span.attributes, "http.method", Value::Int(7)),
        2 => set(&mut span.attributes, "http.status_code", "200".into()),
        3 => {
            let kept = span.attributes.iter().filter(|(key, _)| *key != "upstream_cluster");
            span.attributes = kept.map(|(key, value)| (key.to_string(), value.clone())).collect();
        }
        _ => {
            set(&mut span.attributes, "share", Value::Double(f64::NAN));
            set(&mut span.attributes, "only.some", Value::Bytes(vec![1, 2]));
        }
    }
    span
}

fn column(key: &str, kind: ValueKind) -> PromotedColumn {
    PromotedColumn { map: OWN, key: key.to_string(), kind }
}

#[test]
fn attributes_come_back_as_they_were_sent() {
    let rows: Vec<Span> = (0..60).map(|n| if n % 3 == 0 { odd_span(n) } else { span(n) }).collect();
    let batch = to_batch(&rows).unwrap();
    let promoted = Promoted::new(
        Table::Spans,
        vec![
            column("http.method", ValueKind::Text),
            column("http.status_code", ValueKind::Int),
            column("share", ValueKind::Double),
            column("sampled", ValueKind::Bool),
            column("nobody.has.it", ValueKind::Text),
            PromotedColumn { map: OF_RESOURCE, key: "node_id".to_string(), kind: ValueKind::Text },
        ],
    );
    let Split { rows: stored, partial } = split(Table::Spans, &promoted, &batch).unwrap();
    assert_eq!(stored.schema(), promoted.schema);
    assert!(partial.contains("attributes.http.status_code"), "{partial:?}");
    assert!(!partial.contains("attributes.sampled"));
    let (attributes, types) = restore::restore(OWN, &promoted, &stored).unwrap();
    assert_eq!(&attributes, batch.column_by_name("attributes").unwrap());
    assert_eq!(&types, batch.column_by_name("attribute_types").unwrap());
    let (resource, types) = restore::restore(OF_RESOURCE, &promoted, &stored).unwrap();
    assert_eq!(&resource, batch.column_by_name("resource_attributes").unwrap());
    assert_eq!(&types, batch.column_by_name("resource_attribute_types").unwrap());
}

async fn find(storage: &Storage, column: &str, value: ScanValue) -> Vec<u64> {
    let scan = Scan::new(TimeRange::ALL).equal(column, value);
    let mut found = Vec::new();
    for scan in [scan.clone(), scan.newest_first().limit(10_000)] {
        let batches = storage.snapshot(Table::Spans, TimeRange::ALL).unwrap().read(&scan).await.unwrap();
        let batches: Vec<_> = batches.try_collect().await.unwrap();
        let spans = batches.iter().flat_map(|batch| spans_of(batch).unwrap());
        let mut numbers: Vec<u64> = spans.map(|span| u64::from_be_bytes(span.span_id.0) - 1).collect();
        numbers.sort_unstable();
        found.push(numbers);
    }
    assert_eq!(found[0], found[1], "{column}: all and newest first");
    found.remove(0)
}

fn wanted(rows: std::ops::Range<u64>, fits: impl Fn(&Span) -> bool) -> Vec<u64> {
    rows.filter(|n| fits(&odd_span(*n))).collect()
}

/// Rows of before and after a promotion, in the head, flushed, merged and after a restart: one table.
#[tokio::test]
async fn a_frequent_attribute_becomes_a_column_and_nobody_who_reads_notices() {
    let dir = tempfile::tempdir().unwrap();
    let config = StorageConfig {
        flush_after: std::time::Duration::from_secs(3_600),
        retention: None,
        compact_files: 3,
        ..StorageConfig::new(dir.path())
    };
    let mut storage = Storage::open(config.clone()).await.unwrap();
    let spans = |rows: std::ops::Range<u64>| Batch::Spans(rows.map(odd_span).collect());
    // Too few rows to decide by.
    storage.append(spans(0..40)).await.unwrap();
    storage.flush().await.unwrap();
    let own = Table::Spans.schema().fields().len();
    assert_eq!(storage.schema(Table::Spans).fields().len(), own);
    storage.append(spans(40..400)).await.unwrap();
    storage.flush().await.unwrap();
    let names: Vec<String> =
        storage.schema(Table::Spans).fields().iter().skip(own).map(|field| field.name().clone()).collect();
    for name in ["attributes.http.method", "attributes.http.status_code", "resource_attributes.node_id"] {
        assert!(names.iter().any(|known| known == name), "{name} is not among {names:?}");
    }
    assert!(!names.iter().any(|name| name.ends_with("list")), "an array is no column: {names:?}");
    storage.append(spans(400..440)).await.unwrap();

    for state in ["flushed and in the head", "merged", "after a restart"] {
        match state {
            "merged" => {
                storage.flush().await.unwrap();
                storage.compact().await.unwrap();
                let files = storage.snapshot(Table::Spans, TimeRange::ALL).unwrap().files.len();
                assert_eq!(files, 1);
            }
            "after a restart" => {
                storage.close().await.unwrap();
                drop(storage);
                storage = Storage::open(config.clone()).await.unwrap();
            }
            _ => {}
        }
        let text = |text: &str| ScanValue::Text(text.to_string());
        let has = |key: &'static str, text: &'static str| {
            move |span: &Span| span.attributes.get(key).is_some_and(|value| value.to_text() == text)
        };
        for (key, value) in [
            ("http.status_code", "503"),
            ("http.status_code", "0503"),
            ("guid:x-request-id", "request-17"),
            ("sampled", "true"),
            ("only.some", "0102"),
            ("nobody.has.it", "1"),
        ] {
            let found = find(&storage, &format!("attributes.{key}"), text(value)).await;
            assert_eq!(found, wanted(0..440, has(key, value)), "{state}: {key}={value}");
        }
        let of_resource = find(&storage, "resource_attributes.node_id", text("sidecar~10.0.0.1~pod~x")).await;
        assert_eq!(of_resource.len(), 440, "{state}");
        let typed = find(&storage, "attributes.http.status_code", ScanValue::Int(503)).await;
        assert_eq!(typed, wanted(0..440, has("http.status_code", "503")), "{state}");
        let all = storage.snapshot(Table::Spans, TimeRange::ALL).unwrap();
        let all: Vec<_> = all.read(&Scan::new(TimeRange::ALL)).await.unwrap().try_collect().await.unwrap();
        let mut spans: Vec<Span> = all.iter().flat_map(|batch| spans_of(batch).unwrap()).collect();
        spans.sort_by_key(|span| span.start);
        // A NaN equals nothing, itself included.
        assert_eq!(
            format!("{spans:?}"),
            format!("{:?}", (0..440).map(odd_span).collect::<Vec<_>>()),
            "{state}"
        );
    }
}

#[test]
fn there_is_a_limit_of_columns_and_names_that_no_column_can_have() {
    let attributes: Attributes = (0..300)
        .map(|n| (format!("key.{n:03}"), Value::Int(n)))
        .chain([("a b".to_string(), Value::Int(1)), ("KEY.001".to_string(), Value::Int(1))])
        .collect();
    let rows: Vec<Span> = (0..200).map(|n| Span { attributes: attributes.clone(), ..span(n) }).collect();
    let mut census = Census::default();
    let none = Promoted::new(Table::Spans, Vec::new());
    let more = census.count(Table::Spans, &none, &to_batch(&rows).unwrap());
    assert_eq!(more.len(), MAX_COLUMNS);
    assert!(census.refused() > 50);
    assert!(more.iter().all(|column| column.key != "a b"));
    let mut names: Vec<String> = more.iter().map(|column| column.name().to_lowercase()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), more.len(), "names that differ in capitals only are one name to others");
    let full = none.with(Table::Spans, more);
    assert_eq!(census.count(Table::Spans, &full, &to_batch(&rows).unwrap()), []);
}

use std::sync::Arc;

use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::ParquetRecordBatchReaderBuilder, bloom_filter::Sbbf, file::metadata::PageIndexPolicy,
};

use super::*;
use crate::{
    Table,
    columns::to_batch,
    disk::{Disk, LocalDisk},
    parquet_file::{FLUSH_LEVEL, FileWriter, day_of},
    promoted::Promoted,
    test_rows::{span, trace_id},
};

const SPANS_OF_GROUP: u64 = 400;

#[test]
fn filters_of_a_column_lie_side_by_side_and_know_what_is_in_their_row_group() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(LocalDisk::new(dir.path()));
    let promoted = Arc::new(Promoted::new(Table::Spans, Vec::new()));
    let day = day_of(span(0).start);
    let mut writer =
        FileWriter::create(disk.clone(), Table::Spans, promoted, day, 1_200, FLUSH_LEVEL).unwrap();
    for group in 0..3 {
        let spans = (group * SPANS_OF_GROUP..(group + 1) * SPANS_OF_GROUP).map(span).collect::<Vec<_>>();
        writer.write_stretch(&to_batch(&spans).unwrap()).unwrap();
    }
    let written = writer.finish().unwrap();
    let bytes: Bytes = disk.read(&written.unfinished, 0..u64::MAX).unwrap();

    let footer = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .parse_and_finish(&bytes)
        .unwrap();
    let mut columns = filters(&footer);
    columns.sort_by_key(|filter| (filter.column, filter.group));
    assert!(columns.len() > 6 && columns.len().is_multiple_of(3), "{} filters", columns.len());
    for (before, next) in columns.iter().zip(columns.iter().skip(1)) {
        assert_eq!(before.start + i64::from(before.length), next.start);
    }
    let ids = footer.file_metadata().schema_descr().columns();
    let of_ids = ids.iter().position(|column| column.name() == "trace_id").unwrap();
    for filter in columns.iter().filter(|filter| filter.column == of_ids) {
        let start = filter.start as usize;
        let filter_of = Sbbf::from_bytes(&bytes[start..start + filter.length as usize]).unwrap();
        // A trace has four spans.
        let traces = |group: u64| (group * 100..group * 100 + 100).map(trace_id);
        let own = filter.group as u64;
        assert!(traces(own).all(|id| filter_of.check(id.0.as_slice())), "group {own}");
        let others = traces((own + 1) % 3).filter(|id| filter_of.check(id.0.as_slice())).count();
        assert!(others < 50, "the filter of group {own} knows {others} traces of another");
    }
    let group = footer.row_group(0);
    assert!(group.columns().iter().all(|column| column.page_encoding_stats_mask().is_some()));
    let rows = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    assert_eq!(rows.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 1_200);
}

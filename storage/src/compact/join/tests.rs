use super::*;
use crate::test_rows::{START, trace_id};

fn summary(number: usize, start: usize) -> TraceSummary {
    let start = START.plus_nanos(start as i64);
    TraceSummary {
        trace_id: trace_id(4 * number as u64),
        start,
        end: start,
        spans: 1,
        ..TraceSummary::default()
    }
}

/// Of traces that start at one time no more are held than memory is meant for.
#[test]
fn so_many_traces_are_held_for_rows_to_come_and_no_more() {
    let mut open = Summaries::default();
    (0..MOST_OPEN).for_each(|number| open.add(summary(number, number)));
    assert!(open.complete().is_empty());
    (MOST_OPEN..MOST_OPEN + 7).for_each(|number| open.add(summary(number, number)));
    let given: Vec<_> = open.complete().iter().map(|row| row.trace_id).collect();
    assert_eq!(given, (0..7).map(|number| trace_id(4 * number)).collect::<Vec<_>>());
    // One that is held still gets its rows; one that was given back begins anew.
    open.add(summary(7, MOST_OPEN + 7));
    open.add(summary(0, MOST_OPEN + 8));
    assert_eq!(open.rows.front().map(|row| row.spans), Some(2));
    assert_eq!(open.rows.back().map(|row| (row.trace_id, row.spans)), Some((trace_id(0), 1)));
}

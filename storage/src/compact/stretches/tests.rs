use pharos_model::LogRecord;

use super::*;
use crate::{columns::to_batch, test_rows::log};

#[test]
fn of_large_rows_a_stretch_has_fewer() {
    let check = |body_bytes: usize, batches: usize, range: std::ops::RangeInclusive<usize>| {
        let large = |number| LogRecord { body: "x".repeat(body_bytes).into(), ..log(number) };
        let batch = to_batch(&(0..30).map(large).collect::<Vec<_>>()).unwrap();
        let waiting = Waiting::new(vec![batch; batches], 100);
        assert!(range.contains(&waiting.length), "{body_bytes} bytes: {} rows", waiting.length);
    };
    check(10, 3, 100..=100);
    // A column's buffer may be up to twice as large as its values.
    check(1 << 20, 3, 22..=48);
    check(1 << 20, 1, 22..=48);
    check(0, 0, 100..=100);
}

#[test]
fn places_are_in_the_order_of_time_and_copies_have_each_row_once() {
    let batch = |numbers: [u64; 3]| to_batch(&numbers.map(log)).unwrap();
    let waiting = Waiting::new(vec![batch([5, 1, 3]), batch([2, 4, 0])], 100);
    let places = waiting.by_time().unwrap();
    let order: Vec<(usize, u32)> = places.iter().map(|(_, batch, row)| (*batch, *row)).collect();
    assert_eq!(order, [(1, 2), (0, 1), (1, 0), (0, 2), (1, 1), (0, 0)]);
    let times = |rows: &[RecordBatch]| -> Vec<Vec<i64>> {
        rows.iter().map(|rows| times_us(rows).unwrap().to_vec()).collect()
    };
    let [zero, one, two, three, four, five] = [0, 1, 2, 3, 4, 5].map(|number| log(number).time.micros());
    assert_eq!(times(&waiting.copy(&places[..3]).unwrap()), [vec![one], vec![two, zero]]);
    assert_eq!(times(&waiting.copy(&places[3..]).unwrap()), [vec![five, three], vec![four]]);
    assert_eq!(times(&waiting.copy(&places[5..]).unwrap()), [vec![five]]);
}

use super::{Buckets, CUSTOM_SCHEMA, Histogram, HistogramSum, ResetHint};

/// Positive buckets from index 0 on; count and sum follow from them.
fn exponential(schema: i32, counts: &[f64]) -> Histogram {
    let count = counts.iter().sum();
    Histogram {
        schema,
        count,
        sum: count,
        positive: Buckets::dense(0, counts.iter().copied()),
        ..Histogram::default()
    }
}

fn custom(bounds: &[f64], counts: &[f64]) -> Histogram {
    let histogram = exponential(CUSTOM_SCHEMA, counts);
    Histogram { custom_bounds: bounds.into(), ..histogram }
}

#[test]
fn a_sum_has_the_coarser_layout_of_the_two() {
    let (sum, conflicts) =
        exponential(1, &[1.0, 2.0, 3.0, 4.0]).plus(&exponential(0, &[1.0, 1.0])).expect("a sum");
    assert_eq!((sum.schema, conflicts.bounds), (0, false));
    // Buckets 1 and 2 of schema 1 are bucket 1 of schema 0, and so on.
    assert_eq!(sum.positive, Buckets(vec![(0, 2.0), (1, 6.0), (2, 4.0)]));
    let (sum, conflicts) = custom(&[1.0, 5.0, 10.0], &[1.0, 2.0, 3.0, 4.0])
        .plus(&custom(&[5.0, 20.0], &[10.0, 20.0, 30.0]))
        .expect("a sum");
    assert!(conflicts.bounds);
    assert_eq!(&*sum.custom_bounds, [5.0]);
    assert_eq!(sum.positive, Buckets(vec![(0, 13.0), (1, 57.0)]));
    assert!(exponential(0, &[1.0]).plus(&custom(&[1.0], &[1.0])).is_err());
}

#[test]
fn zero_buckets_widen_until_no_bucket_is_cut() {
    let wide = Histogram { zero_threshold: 1.5, zero_count: 1.0, count: 1.0, ..Histogram::default() };
    let (sum, _) = exponential(0, &[1.0, 2.0, 4.0]).plus(&wide).expect("a sum");
    // 1.5 lies in the bucket (1, 2], which goes into the zero bucket as a whole.
    assert_eq!((sum.zero_threshold, sum.zero_count), (2.0, 4.0));
    assert_eq!(sum.positive, Buckets(vec![(2, 4.0)]));
}

#[test]
fn resets_are_found_by_hint_count_and_bucket() {
    let before = exponential(0, &[1.0, 2.0]);
    let with_hint = |reset_hint| Histogram { reset_hint, ..before.clone() };
    for (name, now, reset) in [
        ("the same", before.clone(), false),
        ("more", exponential(0, &[2.0, 2.0]), false),
        ("less", exponential(0, &[1.0, 1.0]), true),
        ("less in a bucket", exponential(0, &[0.0, 9.0]), true),
        ("finer", exponential(1, &[1.0, 2.0, 3.0]), true),
        ("coarser", exponential(-1, &[9.0]), true),
        ("hinted", with_hint(ResetHint::Reset), true),
        ("other kind", custom(&[1.0], &[5.0]), true),
    ] {
        assert_eq!(now.is_reset_after(&before), reset, "{name}");
    }
    assert!(!Histogram { reset_hint: ResetHint::NotReset, ..exponential(0, &[]) }.is_reset_after(&before));
}

#[test]
fn sums_of_far_apart_magnitudes_keep_the_small_part() {
    let of_sum = |sum: f64| Histogram { sum, ..exponential(0, &[1.0]) };
    let mut total = HistogramSum::new(&of_sum(1.0));
    for sum in [1e100, 1.0, -1e100] {
        total.add(&of_sum(sum)).expect("one layout");
    }
    let total = total.sum();
    assert_eq!((total.sum, total.count), (2.0, 4.0));
}

#[test]
fn quantiles_are_interpolated_along_the_growth_of_buckets() {
    let histogram = exponential(0, &[1.0, 2.0, 1.0]);
    for (q, expected) in [(-0.1, f64::NEG_INFINITY), (0.5, 2f64.sqrt()), (1.0, 4.0), (1.1, f64::INFINITY)] {
        let found = histogram.quantile(q).value;
        assert!(found == expected || (found - expected).abs() < 1e-12, "{q}: {found}");
    }
    assert_eq!(histogram.fraction(0.0, 2.0).value, 0.75);
    assert!(Histogram::default().quantile(0.5).value.is_nan());
}

#[test]
fn it_prints_as_in_prometheus() {
    let histogram = Histogram {
        zero_count: 2.0,
        zero_threshold: 0.001,
        negative: Buckets(vec![(1, 1.0)]),
        ..exponential(0, &[1.0, 2.0])
    };
    assert_eq!(histogram.to_string(), "{count:3, sum:3, [-2,-1):1, [-0.001,0.001]:2, (0.5,1]:1, (1,2]:2}");
}

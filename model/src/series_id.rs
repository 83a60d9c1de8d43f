use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The label that holds the upper bound of a histogram's bucket.
const BUCKET_BOUND: &str = "le";

/// A series' identity: 64 bits that are made of its sorted labels alone, the same on every machine and in every release.
///
/// It is a hash, but for the buckets of a histogram, which share the upper 48 bits and count in the lower 16 in the
/// order of their bounds. So they are neighbours wherever series are sorted by id, and since their counts rise
/// together, a file of them is half as large as with buckets all over it. That two of 100,000 histograms share an id has
/// a probability of 0.00002.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeriesId(pub u64);

impl SeriesId {
    /// Of pairs that are sorted by name, without empty values.
    pub fn of_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> SeriesId {
        // One call of the hash for all of the text: in pieces it is many times slower.
        let mut text = Vec::with_capacity(1_024);
        let mut add = |part: &str| {
            text.extend_from_slice(part.as_bytes());
            // In no UTF-8 text, so no two label sets feed the hash the same bytes.
            text.push(0xff);
        };
        let mut bound = None;
        for (name, value) in pairs {
            if name == BUCKET_BOUND {
                bound = Some(value);
            } else {
                add(name);
                add(value);
            }
        }
        let Some(bound) = bound else { return SeriesId(xxh3_64(&text)) };
        add(BUCKET_BOUND);
        match place_of_bound(bound) {
            Some(place) => SeriesId(xxh3_64(&text) & !0xffff | u64::from(place)),
            None => {
                add(bound);
                SeriesId(xxh3_64(&text))
            }
        }
    }

    /// For columns: Delta has no unsigned integers.
    pub const fn to_i64(self) -> i64 {
        self.0 as i64
    }

    pub const fn from_i64(id: i64) -> SeriesId {
        SeriesId(id as u64)
    }
}

/// Powers of ten of the first digit of a bound that has a place.
const EXPONENTS: std::ops::Range<i32> = -9..15;

/// A number of its own for a bound of up to three digits, in the order of bounds: of each text in which programs write
/// such a bound. `None` for all others.
fn place_of_bound(text: &str) -> Option<u16> {
    if text == "+Inf" {
        return Some(u16::MAX);
    }
    let bound: f64 = text.parse().ok()?;
    let scientific = format!("{bound:e}");
    let (digits, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let spellings = [
        format!("{bound}"),
        // OpenMetrics and Prometheus 3.
        format!("{bound}.0"),
        // Go.
        format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    ];
    let spelling = spellings.iter().position(|spelling| spelling == text)?;
    let digits = format!("{:0<3}", digits.replace('.', ""));
    let digits = digits.parse::<usize>().ok().filter(|number| (100..1_000).contains(number))? - 100;
    let tens = EXPONENTS.contains(&exponent).then_some(exponent - EXPONENTS.start)?;
    let place = (usize::try_from(tens).ok()? * 900 + digits) * spellings.len() + spelling;
    u16::try_from(place).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::Labels;

    fn id(bound: &str) -> SeriesId {
        Labels::from_pairs([("__name__", "took_bucket"), ("job", "a"), ("le", bound), ("pod", "b")])
            .series_id()
    }

    #[test]
    fn buckets_of_a_histogram_are_neighbours_in_the_order_of_their_bounds() {
        let spellings: [&[&str]; 3] = [
            &["0.005", "0.01", "0.5", "1", "2.5", "10", "25", "999", "1000", "300000", "3600000", "+Inf"],
            &["0.0001", "0.5", "1.0", "25.0", "1000.0", "300000.0", "+Inf"],
            &["1e-05", "0.5", "1", "2.5e+06", "1e+07", "1.25e+14", "+Inf"],
        ];
        for bounds in spellings {
            let ids: Vec<u64> = bounds.iter().map(|bound| id(bound).0).collect();
            assert!(ids.is_sorted_by(|left, right| left < right), "{bounds:?}: {ids:x?}");
            assert!(ids.iter().all(|id| id >> 16 == ids[0] >> 16), "{bounds:?}: {ids:x?}");
        }
    }

    #[test]
    fn bounds_that_differ_in_a_letter_are_different_series() {
        let odd = [
            "",
            "0",
            "0.0",
            "-1",
            "-1.0",
            "1.",
            "01",
            "+1",
            "1e0",
            "1e+0",
            "1e+00",
            "1e6",
            "1E+06",
            "1e+06",
            "1e+6",
            "1000000",
            "1000000.0",
            "1024",
            "1024.0",
            "1025",
            "1023.0",
            "1.001",
            "1e+15",
            "1e15",
            "1e-10",
            "1e400",
            "Inf",
            "inf",
            "+inf",
            "+Inf",
            "-Inf",
            "NaN",
            "nan",
            "x",
            "1 ",
            "0.1",
            "0.10",
            ".1",
            "1e-01",
        ];
        let numbers = (1..2_000).flat_map(|number| [f64::from(number), f64::from(number) / 1e3]);
        let texts: HashSet<String> = numbers
            .flat_map(|number| [format!("{number}"), format!("{number:?}"), format!("{number:e}")])
            .chain(odd.map(String::from))
            .collect();
        let ids: HashSet<SeriesId> = texts.iter().map(|text| id(text)).collect();
        assert_eq!(ids.len(), texts.len());
    }

    #[test]
    fn every_label_counts() {
        let of =
            |pairs: &[(&'static str, &'static str)]| Labels::from_pairs(pairs.iter().copied()).series_id();
        let all = [
            of(&[]),
            of(&[("a", "b")]),
            of(&[("a", "b"), ("le", "1")]),
            of(&[("a", "c"), ("le", "1")]),
            of(&[("a", "b"), ("le", "1"), ("z", "1")]),
            of(&[("a", "b"), ("le", "1.2345")]),
            of(&[("a", "b"), ("le", "1.2345"), ("z", "1")]),
            of(&[("le", "1")]),
        ];
        assert_eq!(HashSet::from(all).len(), all.len());
    }
}

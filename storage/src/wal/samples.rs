//! The samples of a commit: for each run of one series its id and the number of samples; for each sample the milliseconds
//! since the one before it, whatever its series, and the value, as an integer where it is whole.

use pharos_model::SeriesId;

use crate::{
    commit::NewSample,
    head::{put_varint, take_varint, unzigzag, whole, zigzag},
};

/// The low bit of a value's number.
const WHOLE: u64 = 0;
const DOUBLE: u64 = 1;

pub(super) fn encode(samples: &[NewSample]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(samples.len() * 16);
    let mut last_ms = 0i64;
    for run in samples.chunk_by(|left, right| left.series == right.series) {
        let Some(first) = run.first() else { continue };
        bytes.extend_from_slice(&first.series.0.to_le_bytes());
        put_varint(&mut bytes, run.len() as u64);
        for sample in run {
            put_varint(&mut bytes, zigzag(sample.time_ms.wrapping_sub(last_ms)));
            last_ms = sample.time_ms;
            match whole(sample.value.to_bits()) {
                Some(number) => put_varint(&mut bytes, zigzag(number) << 1 | WHOLE),
                None => {
                    put_varint(&mut bytes, DOUBLE);
                    bytes.extend_from_slice(&sample.value.to_bits().to_le_bytes());
                }
            }
        }
    }
    bytes
}

/// `None` for bytes that are no samples. Ordinals are left at 0.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<NewSample>> {
    let mut samples = Vec::with_capacity(bytes.len() / 16);
    let mut last_ms = 0i64;
    while !bytes.is_empty() {
        let series = SeriesId(u64::from_le_bytes(take_eight(&mut bytes)?));
        for _ in 0..take_varint(&mut bytes)? {
            last_ms = last_ms.wrapping_add(unzigzag(take_varint(&mut bytes)?));
            let number = take_varint(&mut bytes)?;
            let value = match number & 1 {
                WHOLE => unzigzag(number >> 1) as f64,
                _ => f64::from_bits(u64::from_le_bytes(take_eight(&mut bytes)?)),
            };
            samples.push(NewSample { ordinal: 0, series, time_ms: last_ms, value });
        }
    }
    Some(samples)
}

fn take_eight(bytes: &mut &[u8]) -> Option<[u8; 8]> {
    let (eight, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*eight)
}

#[cfg(test)]
mod tests {
    use pharos_model::stale_nan;

    use super::*;

    #[test]
    fn samples_come_back_and_a_cut_is_noticed() {
        let sample =
            |series, time_ms, value| NewSample { ordinal: 0, series: SeriesId(series), time_ms, value };
        let samples = [
            sample(7, 1_795_248_000_000, 12.0),
            sample(7, 1_795_248_015_000, -0.5),
            sample(u64::MAX, -5, 9e18),
            sample(7, 3, -9_007_199_254_740_992.0),
        ];
        let bytes = encode(&samples);
        assert_eq!(decode(&bytes).unwrap(), samples);
        for end in 1..bytes.len() {
            assert!(decode(&bytes[..end]).is_none_or(|found| samples.starts_with(&found)), "{end}");
        }
        let stale = decode(&encode(&[sample(1, 2, stale_nan())])).unwrap();
        assert!(pharos_model::is_stale(stale[0].value));
    }
}

use object_store::memory::InMemory;

use super::*;

/// A file of so many bytes before its footer, as a writer makes it.
fn file(length: usize, footer: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
    let mut sums = BlockSums::default();
    // In pieces, as they come.
    bytes.chunks(1_000).for_each(|piece| sums.add(piece));
    let mut end: Vec<u8> = (0..footer).map(|at| (at * 11 % 13) as u8).collect();
    end.extend((footer as u32).to_le_bytes());
    end.extend(b"PAR1");
    bytes.extend(sums.table(&end));
    bytes.extend(end);
    bytes
}

async fn stored(bytes: &[u8], checksum: u32) -> (CheckedFiles, Path) {
    let objects = InMemory::new();
    let path = Path::from(format!("spans/date=2026-11-21/f-{checksum:08x}.parquet"));
    objects.put(&path, Bytes::copy_from_slice(bytes).into()).await.unwrap();
    (CheckedFiles::new(Arc::new(objects)), path)
}

const BLOCK: usize = BLOCK_BYTES as usize;

#[tokio::test]
async fn any_range_of_a_whole_file_is_what_was_written() {
    for (length, footer) in [(0, 10), (1, 10), (BLOCK, 100), (BLOCK + 1, 70_000), (5 * BLOCK - 3, 3_000)] {
        let bytes = file(length, footer);
        let size = bytes.len();
        let ranges = [
            0..size,
            0..1.min(size),
            size - 8..size,
            size / 3..size / 2,
            (BLOCK - 1).min(size)..(BLOCK + 1).min(size),
            length..size,
            size / 2..size / 2,
        ];
        for range in &ranges {
            // The first read of a file, and one that follows.
            let (files, path) = stored(&bytes, 7).await;
            let wanted = range.start as u64..range.end as u64;
            for _ in 0..2 {
                let got = match wanted.is_empty() {
                    true => files.get_ranges(&path, std::slice::from_ref(&wanted)).await.unwrap().remove(0),
                    false => files.get_range(&path, wanted.clone()).await.unwrap(),
                };
                assert_eq!(got, bytes[range.clone()], "{range:?} of {length} and {footer}");
            }
        }
        let (files, path) = stored(&bytes, 7).await;
        let all: Vec<_> = ranges.iter().map(|range| range.start as u64..range.end as u64).collect();
        let got = files.get_ranges(&path, &all).await.unwrap();
        for (range, got) in ranges.iter().zip(got) {
            assert_eq!(got, bytes[range.clone()], "{range:?} of {length} and {footer}");
        }
        let options = GetOptions::new().with_range(Some(GetRange::Suffix(9)));
        let got = files.get_opts(&path, options).await.unwrap().bytes().await.unwrap();
        assert_eq!(got, bytes[size - 9..]);
        assert_eq!(files.damaged_files(), 0);
    }
}

/// A flipped bit is found by every read of its block, whichever comes first, and by no other.
#[tokio::test]
async fn a_flipped_bit_anywhere_is_found_by_the_reads_that_need_it() {
    let (length, footer) = (3 * BLOCK + 100, 500);
    let whole = file(length, footer);
    let size = whole.len();
    for flipped in [0, BLOCK - 1, BLOCK, 3 * BLOCK + 99, length, length + 3, size - 520, size - 508, size - 5]
    {
        let mut bytes = whole.clone();
        bytes[flipped] ^= 0x10;
        let damaged = match flipped {
            _ if flipped >= length => length..size,
            _ => flipped / BLOCK * BLOCK..(flipped / BLOCK * BLOCK + BLOCK).min(length),
        };
        for start in (0..size).step_by(BLOCK / 2) {
            let range = start..(start + 10).min(size);
            let (files, path) = stored(&bytes, crc32c::crc32c(&whole)).await;
            let got = files.get_range(&path, range.start as u64..range.end as u64).await;
            // Nothing is read of a file whose checksums themselves are damaged.
            if flipped >= length || (range.start < damaged.end && range.end > damaged.start) {
                let error = got.expect_err(&format!("{flipped}: {range:?}"));
                assert_eq!(Damage::behind(&error).unwrap().path, path, "{flipped}: {error}");
                assert_eq!(files.damaged_files(), 1);
            } else {
                assert_eq!(got.unwrap(), bytes[range], "{flipped}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_within_a_prefix_of_a_bucket_is_read_by_its_own_path() {
    let bytes = file(2 * BLOCK, 100);
    for first in ["a range", "ranges"] {
        let objects = object_store::prefix::PrefixStore::new(InMemory::new(), "mesh");
        let path = Path::from("spans/date=2026-11-21/f-00000007.parquet");
        objects.put(&path, bytes.clone().into()).await.unwrap();
        let files = CheckedFiles::new(Arc::new(objects));
        let end = bytes.len() as u64 - 8..bytes.len() as u64;
        if first == "a range" {
            assert_eq!(files.get_range(&path, end.clone()).await.unwrap(), bytes[bytes.len() - 8..]);
        }
        for _ in 0..2 {
            let got = files.get_ranges(&path, &[0..5, end.clone()]).await.unwrap();
            assert_eq!(got, [&bytes[..5], &bytes[bytes.len() - 8..]], "{first}");
        }
    }
}

#[tokio::test]
async fn a_file_without_sums_is_read_whole_once() {
    let mut bytes = vec![1; 100_000];
    bytes.extend(50u32.to_le_bytes());
    bytes.extend(b"PAR1");
    let (files, path) = stored(&bytes, crc32c::crc32c(&bytes)).await;
    assert_eq!(files.get_range(&path, 5..9).await.unwrap(), bytes[5..9]);
    bytes[50_000] ^= 1;
    let (files, path) = stored(&bytes, crc32c::crc32c(b"other")).await;
    let error = files.get_range(&path, 5..9).await.unwrap_err();
    assert!(Damage::behind(&error).is_some(), "{error}");
    // Of others' files nothing is known.
    let other = Path::from("spans/date=2026-11-21/part-0001.parquet");
    files.put(&other, bytes.clone().into()).await.unwrap();
    assert_eq!(files.get_range(&other, 5..9).await.unwrap(), bytes[5..9]);
}

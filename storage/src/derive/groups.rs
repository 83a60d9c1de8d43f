//! Rows that are alike in some columns, found without decoding them.

use arrow::{
    array::{Array, ArrayRef, AsArray, UInt32Array},
    datatypes::{Int32Type, Int64Type},
};
use hashbrown::{HashMap, HashSet};
use pharos_model::EDGE_ATTRIBUTES;
use std::sync::LazyLock;
use xxhash_rust::xxh3::xxh3_64;

/// A hash for each row, of what tells it from others. Two different rows share one with a probability of 5e-20.
pub(crate) struct Groups {
    hashes: Vec<u64>,
}

fn mix(hash: &mut u64, value: u64) {
    let mixed = (*hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    *hash = mixed ^ mixed >> 32;
}

impl Groups {
    pub(crate) fn new(rows: usize) -> Groups {
        Groups { hashes: vec![0; rows] }
    }

    /// By a column of whole numbers, or of text with a dictionary. Of any other each row counts as different from all
    /// others, which costs time and nothing else. A column that is missing tells nothing apart.
    pub(crate) fn tell_apart(&mut self, column: Option<&ArrayRef>) {
        let Some(column) = column else { return };
        let values: Box<dyn Fn(usize) -> u64> = if let Some(texts) = column.as_dictionary_opt::<Int32Type>() {
            let keys = texts.keys().values().clone();
            Box::new(move |row| keys.get(row).map_or(0, |key| *key as u64))
        } else if let Some(numbers) = column.as_primitive_opt::<Int32Type>() {
            let numbers = numbers.values().clone();
            Box::new(move |row| numbers.get(row).map_or(0, |number| *number as u64))
        } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
            let numbers = numbers.values().clone();
            Box::new(move |row| numbers.get(row).map_or(0, |number| *number as u64))
        } else {
            Box::new(|row| row as u64)
        };
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        for (row, hash) in self.hashes.iter_mut().enumerate() {
            let value = if nulls.is_some_and(|nulls| nulls.is_null(row)) { u64::MAX } else { values(row) };
            mix(hash, value);
        }
    }

    /// By what a column of attributes says of edges.
    pub(crate) fn tell_attributes_apart(&mut self, column: Option<&ArrayRef>) {
        static TOLD: LazyLock<HashSet<&[u8]>> =
            LazyLock::new(|| EDGE_ATTRIBUTES.iter().map(|name| name.as_bytes()).collect());
        let Some(map) = column.and_then(|column| column.as_map_opt()) else { return };
        let (Some(keys), Some(values)) =
            (map.keys().as_string_opt::<i32>(), map.values().as_string_opt::<i32>())
        else {
            return;
        };
        for (hash, ends) in self.hashes.iter_mut().zip(map.offsets().windows(2)) {
            let [start, end] = ends else { continue };
            for pair in *start as usize..*end as usize {
                let key = keys.value(pair).as_bytes();
                if TOLD.contains(key) {
                    mix(hash, xxh3_64(key));
                    mix(hash, xxh3_64(values.value(pair).as_bytes()));
                }
            }
            // So that what the next column says is not taken for this one's.
            mix(hash, 1);
        }
    }

    /// The number of each row's group, and for each group its first row.
    pub(crate) fn finish(self) -> (Vec<u32>, UInt32Array) {
        let mut known: HashMap<u64, u32> = HashMap::new();
        let mut first_rows: Vec<u32> = Vec::new();
        let mut last = None;
        let number = |(row, hash): (usize, u64)| {
            if let Some((known, number)) = last
                && known == hash
            {
                return number;
            }
            let number = *known.entry(hash).or_insert_with(|| {
                first_rows.push(row as u32);
                first_rows.len() as u32 - 1
            });
            last = Some((hash, number));
            number
        };
        let numbers = self.hashes.into_iter().enumerate().map(number).collect();
        (numbers, first_rows.into())
    }
}

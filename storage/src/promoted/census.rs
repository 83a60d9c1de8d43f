use arrow::array::{Array, AsArray, RecordBatch};
use hashbrown::HashMap;

use super::{AttributeMap, MAX_COLUMNS, Promoted, PromotedColumn, ValueKind, maps};
use crate::{Table, attribute_types::Tags};

/// A row in so many has to have an attribute for it to become a column.
const ONE_IN: u64 = 100;
/// Rows that have to have it, so that a table's first handful does not decide.
const LEAST_ROWS: u64 = 100;
/// After so many rows the older ones count half.
const WINDOW_ROWS: u64 = 1_000_000;
/// Keys that are counted at one time.
const MOST_KEYS: usize = 10_000;
/// Longer keys stay in the map.
const MOST_KEY_BYTES: usize = 128;

/// How often attributes occur in the rows that came in lately.
#[derive(Default)]
pub(crate) struct Census {
    rows: u64,
    counts: HashMap<(&'static str, String), [u64; 4]>,
    /// Attributes that would be columns if there were not too many.
    refused: u64,
}

impl Census {
    /// Attributes that would be columns if there were not too many.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Counts the rows, and says which attributes are to become columns beside those that are.
    pub(crate) fn count(
        &mut self,
        table: Table,
        promoted: &Promoted,
        rows: &RecordBatch,
    ) -> Vec<PromotedColumn> {
        for map in maps(table) {
            self.count_map(*map, promoted, rows);
        }
        self.rows += rows.num_rows() as u64;
        if self.rows >= WINDOW_ROWS {
            self.rows /= 2;
            self.counts.values_mut().flatten().for_each(|count| *count /= 2);
            self.counts.retain(|_, counts| counts.iter().any(|count| *count > 0));
        }
        self.chosen(table, promoted)
    }

    fn count_map(&mut self, map: AttributeMap, promoted: &Promoted, rows: &RecordBatch) {
        let columns = (rows.column_by_name(map.name), rows.column_by_name(map.types));
        let (Some(attributes), Some(types)) = columns else { return };
        let (Some(attributes), Some(types)) = (attributes.as_map_opt(), types.as_binary_opt::<i32>()) else {
            return;
        };
        let Some(keys) = attributes.keys().as_string_opt::<i32>() else { return };
        let known: hashbrown::HashSet<&str> =
            promoted.of_map(map).map(|column| column.key.as_str()).collect();
        // Neighbours have the same keys in the same order: looked up once.
        let mut of_batch: HashMap<&str, [u64; 4]> = HashMap::new();
        for (row, ends) in attributes.offsets().windows(2).enumerate() {
            let [start, end] = ends else { continue };
            let mut tags = Tags::new(types.is_valid(row).then(|| types.value(row)));
            for pair in *start as usize..*end as usize {
                let (Some((tag, _)), key) = (tags.next(), keys.value(pair)) else { break };
                if let Some(kind) = ValueKind::of_tag(tag) {
                    let counts = of_batch.entry(key).or_default();
                    if let Some(count) = counts.get_mut(kind as usize) {
                        *count += 1;
                    }
                }
            }
        }
        for (key, counts) in of_batch {
            if known.contains(key) || !is_column_name(key) {
                continue;
            }
            let place = (map.name, key.to_string());
            if self.counts.len() < MOST_KEYS || self.counts.contains_key(&place) {
                let all = self.counts.entry(place).or_default();
                all.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
            }
        }
    }

    fn chosen(&mut self, table: Table, promoted: &Promoted) -> Vec<PromotedColumn> {
        let enough = (self.rows / ONE_IN).max(LEAST_ROWS);
        let mut due: Vec<(u64, PromotedColumn)> = Vec::new();
        for ((map, key), counts) in &self.counts {
            let most = ValueKind::ALL.into_iter().zip(counts).max_by_key(|(_, count)| **count);
            let (Some((kind, count)), Some(map)) = (most, maps(table).iter().find(|of| of.name == *map))
            else {
                continue;
            };
            if *count >= enough {
                due.push((*count, PromotedColumn { map: *map, key: key.clone(), kind }));
            }
        }
        // The most frequent first, and in an order that does not depend on chance.
        due.sort_by(|(left, a), (right, b)| right.cmp(left).then_with(|| a.name().cmp(&b.name())));
        // To other engines a column's name is the same in small and capital letters.
        let mut names: hashbrown::HashSet<String> =
            promoted.schema.fields().iter().map(|field| field.name().to_lowercase()).collect();
        let mut chosen = Vec::new();
        self.refused = 0;
        for (_, column) in due {
            if promoted.columns.len() + chosen.len() >= MAX_COLUMNS {
                self.refused += 1;
            } else if names.insert(column.name().to_lowercase()) {
                self.counts.remove(&(column.map.name, column.key.clone()));
                chosen.push(column);
            }
        }
        chosen
    }
}

/// Delta allows no others in the name of a column.
fn is_column_name(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= MOST_KEY_BYTES
        && !key.contains(|c: char| " ,;{}()=".contains(c) || c.is_control())
}

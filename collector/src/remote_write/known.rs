use hashbrown::HashMap;
use parking_lot::Mutex;
use pharos_model::Labels;

/// Label sets by a hash of the form in which they were sent: one that comes again is neither parsed nor checked.
///
/// A hash of 128 bits stands for the form itself. Bounded: those that were not sent for the longest time go first.
#[derive(Default)]
pub(super) struct KnownLabels {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    newer: HashMap<u128, Labels>,
    older: HashMap<u128, Labels>,
}

/// Requests that are decoded at once rarely meet in one of these.
const SHARDS: usize = 32;

/// Of both halves of a shard. All of them hold about two million.
const MOST_IN_HALF: usize = 32_768;

impl KnownLabels {
    pub(super) fn get_or_check(
        &self,
        form: u128,
        check: impl FnOnce() -> Result<Labels, String>,
    ) -> Result<Labels, String> {
        let Some(shard) = self.shards.get(form as usize % SHARDS) else { return check() };
        let form = form >> 5;
        if let Some(labels) = shard.lock().get(form) {
            return Ok(labels);
        }
        let labels = check()?;
        shard.lock().put(form, labels.clone());
        Ok(labels)
    }
}

impl Shard {
    fn get(&mut self, form: u128) -> Option<Labels> {
        if let Some(labels) = self.newer.get(&form) {
            return Some(labels.clone());
        }
        let labels = self.older.remove(&form)?;
        self.put(form, labels.clone());
        Some(labels)
    }

    fn put(&mut self, form: u128, labels: Labels) {
        if self.newer.len() >= MOST_IN_HALF {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(form, labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_checked_once_and_forgotten_when_many_others_came() {
        let known = KnownLabels::default();
        let labels = Labels::from_pairs([("__name__", "up")]);
        assert!(known.get_or_check(64, || Err("bad".into())).is_err());
        assert_eq!(known.get_or_check(64, || Ok(labels.clone())).unwrap(), labels);
        assert_eq!(known.get_or_check(64, || Err("asked again".into())).unwrap(), labels);
        for other in 1..=2 * MOST_IN_HALF as u128 {
            known.get_or_check(64 + (other << 5), || Ok(Labels::empty())).unwrap();
        }
        assert!(known.get_or_check(64, || Err("asked again".into())).is_err());
    }
}

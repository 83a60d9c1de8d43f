use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pharos_model::{MetricMetadata, TimeSeries};

/// What senders told of metric families. Version 1 sends it in requests of its own, which hold no samples; here it
/// waits for a series of the family to be stored with.
#[derive(Default)]
pub(super) struct Families(Mutex<HashMap<String, Told>>);

struct Told {
    metadata: MetricMetadata,
    /// When it last went along with a series.
    attached: Option<Instant>,
}

/// Told again now and then, since what is stored has an age.
const ATTACH_EVERY: Duration = Duration::from_secs(3600);

/// Families beyond this are not remembered.
const MAX_FAMILIES: usize = 20_000;

impl Families {
    pub(super) fn learn(&self, told: impl Iterator<Item = MetricMetadata>) {
        let mut families = self.0.lock();
        for metadata in told {
            let room = families.len() < MAX_FAMILIES;
            match families.get_mut(&metadata.family) {
                Some(known) if known.metadata == metadata => {}
                Some(known) => *known = Told { metadata, attached: None },
                None if room => {
                    families.insert(metadata.family.clone(), Told { metadata, attached: None });
                }
                None => {}
            }
        }
    }

    /// Puts the metadata of each family onto the first of its series, when it is time.
    pub(super) fn attach(&self, series: &mut [TimeSeries]) {
        let mut families = self.0.lock();
        if families.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut last = None;
        for series in series.iter_mut().filter(|series| series.metadata.is_none()) {
            let name = series.labels.metric_name();
            // Texts of labels are kept once, and a family's metadata goes along once.
            if last.replace(name.as_ptr()) == Some(name.as_ptr()) {
                continue;
            }
            let candidates = ["", "_bucket", "_sum", "_count", "_total"];
            let mut found = candidates.iter().filter_map(|suffix| name.strip_suffix(suffix));
            let Some(family) = found.find(|family| families.contains_key(*family)) else { continue };
            let Some(told) = families.get_mut(family) else { continue };
            if told.attached.is_none_or(|at| now.duration_since(at) >= ATTACH_EVERY) {
                told.attached = Some(now);
                series.metadata = Some(told.metadata.clone());
            }
        }
    }
}

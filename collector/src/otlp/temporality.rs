use std::collections::HashMap;

use pharos_model::{NativeHistogram, SeriesId};

use crate::histogram::Histogram;

/// Turns deltas into the running totals that Prometheus' functions want. A total starts at zero when its series is
/// first seen, as after a restart of the sender.
#[derive(Default)]
pub(super) struct Accumulator {
    totals: HashMap<SeriesId, Total>,
    newest_unix_nano: u64,
}

struct Total {
    unix_nano: u64,
    counted: Counted,
}

enum Counted {
    Classic(Histogram),
    Native(NativeHistogram),
}

impl Accumulator {
    /// Series that are kept at the same time.
    const MAX_SERIES: usize = 100_000;
    /// A series that was not seen for so long is forgotten when room is needed.
    const IDLE_NANOS: u64 = 3600 * 1_000_000_000;

    /// The total after `delta`, or why it cannot be counted. A plain number travels in `sum`.
    pub(super) fn add(
        &mut self,
        id: SeriesId,
        unix_nano: u64,
        delta: &Histogram,
    ) -> Result<Histogram, String> {
        let total = self.total(id, unix_nano, || Counted::Classic(Histogram::default()))?;
        if let Counted::Native(_) = total {
            *total = Counted::Classic(Histogram::default());
        }
        let Counted::Classic(sum) = total else { return Ok(delta.clone()) };
        sum.add(delta);
        Ok(sum.clone())
    }

    /// The same for a native histogram.
    pub(super) fn add_native(
        &mut self,
        id: SeriesId,
        unix_nano: u64,
        delta: NativeHistogram,
    ) -> Result<NativeHistogram, String> {
        let total = self.total(id, unix_nano, || Counted::Native(NativeHistogram::default()))?;
        if let Counted::Native(sum) = total
            && sum.count > 0.0
        {
            sum.add(delta);
            return Ok(sum.clone());
        }
        *total = Counted::Native(delta.clone());
        Ok(delta)
    }

    fn total(
        &mut self,
        id: SeriesId,
        unix_nano: u64,
        zero: impl FnOnce() -> Counted,
    ) -> Result<&mut Counted, String> {
        self.newest_unix_nano = self.newest_unix_nano.max(unix_nano);
        if self.totals.len() >= Accumulator::MAX_SERIES && !self.totals.contains_key(&id) {
            let oldest = self.newest_unix_nano.saturating_sub(Accumulator::IDLE_NANOS);
            self.totals.retain(|_, total| total.unix_nano >= oldest);
            if self.totals.len() >= Accumulator::MAX_SERIES {
                return Err(format!("more than {} series with delta temporality", Accumulator::MAX_SERIES));
            }
        }
        let total = self.totals.entry(id).or_insert_with(|| Total { unix_nano: 0, counted: zero() });
        if unix_nano <= total.unix_nano {
            return Err("a delta is not newer than the one before it".into());
        }
        total.unix_nano = unix_nano;
        Ok(&mut total.counted)
    }
}

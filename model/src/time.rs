use serde::{Deserialize, Serialize};

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixNanos(pub i64);

impl UnixNanos {
    pub const MIN: UnixNanos = UnixNanos(i64::MIN);
    pub const MAX: UnixNanos = UnixNanos(i64::MAX);

    /// The wall clock; saturates in the year 2262, when an `i64` of nanoseconds ends.
    pub fn now() -> UnixNanos {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        UnixNanos(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
    }

    pub const fn from_micros(micros: i64) -> UnixNanos {
        UnixNanos(micros.saturating_mul(1_000))
    }

    pub const fn from_millis(millis: i64) -> UnixNanos {
        UnixNanos(millis.saturating_mul(1_000_000))
    }

    pub const fn from_seconds(seconds: i64) -> UnixNanos {
        UnixNanos(seconds.saturating_mul(1_000_000_000))
    }

    /// Rounded down, also before 1970.
    pub const fn micros(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Rounded down, also before 1970.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }

    #[must_use]
    pub const fn plus_nanos(self, nanos: i64) -> UnixNanos {
        UnixNanos(self.0.saturating_add(nanos))
    }

    /// The start of the bucket of `width_ns` that holds this instant.
    #[must_use]
    pub const fn floor_to(self, width_ns: i64) -> UnixNanos {
        UnixNanos(self.0.div_euclid(width_ns).saturating_mul(width_ns))
    }
}

/// A half-open stretch of time: `start` belongs to it, `end` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    pub start: UnixNanos,
    pub end: UnixNanos,
}

impl TimeRange {
    pub const ALL: TimeRange = TimeRange { start: UnixNanos::MIN, end: UnixNanos::MAX };

    pub const fn new(start: UnixNanos, end: UnixNanos) -> TimeRange {
        TimeRange { start, end }
    }

    pub fn contains(&self, at: UnixNanos) -> bool {
        self.start <= at && at < self.end
    }

    /// Whether any instant lies both in this range and between `first` and `last`, both inclusive: the way in
    /// which files and batches state what they hold.
    pub fn overlaps(&self, first: UnixNanos, last: UnixNanos) -> bool {
        first < self.end && last >= self.start
    }

    pub fn duration_ns(&self) -> i64 {
        self.end.0.saturating_sub(self.start.0)
    }
}

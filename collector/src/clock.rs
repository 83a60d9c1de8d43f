//! Times that cannot be: they come from broken clocks or wrong units, and would stretch every range that is computed
//! from the data. The past has no limit: history may be sent at any time.

use pharos_model::{Labels, UnixNanos};

/// Spans and log records further ahead of our clock than this are refused.
const MAX_RECORD_AHEAD_NS: i64 = 24 * 3600 * 1_000_000_000;

/// Samples, as in Prometheus.
const MAX_SAMPLE_AHEAD_MS: i64 = 10 * 60 * 1_000;

/// The time of a span or log record; 0 stands for none, which they cannot be without.
pub(crate) fn record_time(unix_nano: u64, now: UnixNanos) -> Result<UnixNanos, String> {
    match i64::try_from(unix_nano) {
        Ok(0) => Err("is 0".into()),
        Ok(nanos) if nanos <= now.0.saturating_add(MAX_RECORD_AHEAD_NS) => Ok(UnixNanos(nanos)),
        _ => Err(format!("{unix_nano} lies more than a day in the future")),
    }
}

/// The latest time that a sample may have.
pub(crate) fn latest_sample_ms(now: UnixNanos) -> i64 {
    now.millis().saturating_add(MAX_SAMPLE_AHEAD_MS)
}

pub(crate) fn check_sample(labels: &Labels, time_ms: i64, latest_ms: i64) -> Result<(), String> {
    if time_ms > latest_ms {
        return Err(format!("series {labels}: timestamp {time_ms} lies more than 10 minutes in the future"));
    }
    Ok(())
}

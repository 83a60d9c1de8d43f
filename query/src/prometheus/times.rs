//! Times and durations as Prometheus' API takes and gives them.

use jiff::Timestamp;
use pharos_model::{TimeRange, UnixNanos, parse_duration_ms};

use crate::params::{ParamError, Params};

/// Unix seconds with a fraction, or RFC 3339; milliseconds since 1970.
pub(crate) fn parse_time_ms(name: &str, text: &str) -> Result<i64, ParamError> {
    let wrong = || ParamError::new(name, format!("cannot parse {text:?} to a valid timestamp"));
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = (seconds * 1_000.0).round();
        // Prometheus' own bounds are those of its time type; ±292 million years are not needed.
        return if ms.abs() < 9.2e15 { Ok(ms as i64) } else { Err(wrong()) };
    }
    // Clients of Prometheus send its own bounds, whose years are beyond every calendar library's.
    match text {
        "-292273086-05-16T16:47:06Z" => return Ok(UnixNanos::MIN.millis()),
        "292277025-08-18T07:12:54.999999999Z" => return Ok(UnixNanos::MAX.millis()),
        _ => {}
    }
    let time: Timestamp = text.replace(' ', "+").parse().map_err(|_| wrong())?;
    Ok(time.as_millisecond())
}

pub(crate) fn time_ms(params: &Params, name: &str) -> Result<Option<i64>, ParamError> {
    params.text(name).map(|text| parse_time_ms(name, text)).transpose()
}

/// The same of a parameter that has a default, of which Prometheus says it in other words.
pub(crate) fn optional_time_ms(params: &Params, name: &str) -> Result<Option<i64>, ParamError> {
    let in_other_words = |_| {
        let text = params.text(name).unwrap_or_default();
        ParamError::new(
            name,
            format!("invalid time value for '{name}': cannot parse {text:?} to a valid timestamp"),
        )
    };
    time_ms(params, name).map_err(in_other_words)
}

/// Seconds with a fraction, or a Prometheus duration; milliseconds.
pub(crate) fn duration_ms(params: &Params, name: &str) -> Result<Option<i64>, ParamError> {
    let Some(text) = params.text(name) else { return Ok(None) };
    let wrong = || ParamError::new(name, format!("cannot parse {text:?} to a valid duration"));
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = seconds * 1_000.0;
        return if ms.abs() < 9.2e15 { Ok(Some(ms as i64)) } else { Err(wrong()) };
    }
    parse_duration_ms(text).map(Some).map_err(|_| wrong())
}

/// `start` to `end`, both inclusive; all of time where they are left out. None of it when they are the wrong way round.
pub(crate) fn range(params: &Params) -> Result<TimeRange, ParamError> {
    let start = optional_time_ms(params, "start")?.map_or(UnixNanos::MIN, UnixNanos::from_millis);
    let end = optional_time_ms(params, "end")?
        .map_or(UnixNanos::MAX, |end_ms| UnixNanos::from_millis(end_ms.saturating_add(1)));
    let is_none = end <= start;
    Ok(if is_none { TimeRange::new(UnixNanos::MIN, UnixNanos::MIN) } else { TimeRange::new(start, end) })
}

/// A time in milliseconds since 1970, in UTC.
pub(crate) fn rfc3339(time_ms: i64) -> String {
    Timestamp::from_millisecond(time_ms).map(|time| time.to_string()).unwrap_or_default()
}

/// As Go prints it, also a time that was never set.
pub(crate) fn rfc3339_or_never(time_ms: Option<i64>) -> String {
    time_ms.map_or_else(|| "0001-01-01T00:00:00Z".to_string(), rfc3339)
}

/// Unix seconds; three decimals unless whole.
pub(crate) fn write_time(out: &mut String, time_ms: i64) {
    let (seconds, ms) = (time_ms / 1_000, (time_ms % 1_000).unsigned_abs());
    if time_ms < 0 && seconds == 0 {
        out.push('-');
    }
    let mut buffer = itoa::Buffer::new();
    out.push_str(buffer.format(seconds));
    if ms > 0 {
        // Three digits, whatever they are.
        out.push('.');
        out.push_str(buffer.format(1_000 + ms).get(1..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        for (text, ms) in [
            ("1435781430.781", Some(1_435_781_430_781)),
            ("1435781430", Some(1_435_781_430_000)),
            ("2015-07-01T20:10:30.781Z", Some(1_435_781_430_781)),
            ("2015-07-01T22:10:30+02:00", Some(1_435_781_430_000)),
            ("-292273086-05-16T16:47:06Z", Some(UnixNanos::MIN.millis())),
            ("292277025-08-18T07:12:54.999999999Z", Some(UnixNanos::MAX.millis())),
            ("yesterday", None),
            ("NaN", None),
            ("1e30", None),
        ] {
            assert_eq!(parse_time_ms("time", text).ok(), ms, "{text}");
        }
        for (ms, text) in
            [(1_435_781_430_781, "1435781430.781"), (5_000, "5"), (-500, "-0.500"), (1_010, "1.010")]
        {
            let mut out = String::new();
            write_time(&mut out, ms);
            assert_eq!(out, text);
        }
    }
}

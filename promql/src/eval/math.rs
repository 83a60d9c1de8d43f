//! Functions of one float.

use crate::date::{Date, days, days_before, second_of_day};

/// The functions that map each float by itself.
pub(super) fn float_function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "rad" => |degrees| degrees * (std::f64::consts::PI / 180.0),
        "deg" => |radians| radians * (180.0 / std::f64::consts::PI),
        "sgn" => |value| {
            if value < 0.0 {
                -1.0
            } else if value > 0.0 {
                1.0
            } else {
                value
            }
        },
        _ => return None,
    })
}

/// NaN if either is.
pub(super) fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// NaN if either is.
pub(super) fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The functions that read a float as seconds since 1970, in UTC.
pub(super) fn date_function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "minute" => |seconds| (second_of_day(seconds) / 60 % 60) as f64,
        "hour" => |seconds| (second_of_day(seconds) / 3600) as f64,
        // 1970 began on a Thursday.
        "day_of_week" => |seconds| (days(seconds) + 4).rem_euclid(7) as f64,
        "day_of_month" => |seconds| f64::from(Date::of(seconds).day),
        "day_of_year" => |seconds| {
            let date = Date::of(seconds);
            (days(seconds) - days_before(date.year, 1) + 1) as f64
        },
        "days_in_month" => |seconds| {
            let Date { year, month, .. } = Date::of(seconds);
            let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            (days_before(next_year, next_month) - days_before(year, month)) as f64
        },
        "month" => |seconds| f64::from(Date::of(seconds).month),
        "year" => |seconds| Date::of(seconds).year as f64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian_and_utc() {
        for (function, seconds, expected) in [
            ("year", 0.0, 1970.0),
            ("month", 1_136_239_445.0, 1.0),
            ("day_of_month", 1_456_790_399.0, 29.0),
            ("day_of_month", 1_456_790_400.0, 1.0),
            ("day_of_year", 1_483_191_420.0, 366.0),
            ("day_of_year", 1_672_493_820.0, 365.0),
            ("days_in_month", 1_454_284_800.0, 29.0),
            ("days_in_month", 1_485_907_200.0, 28.0),
            ("day_of_week", 0.0, 4.0),
            ("hour", 1_136_239_445.0, 22.0),
            ("minute", 1_136_239_445.0, 4.0),
            ("year", -1.0, 1969.0),
            ("hour", -1.0, 23.0),
            ("day_of_month", -1.0, 31.0),
        ] {
            let date = date_function(function).expect(function);
            assert_eq!(date(seconds), expected, "{function}({seconds})");
        }
        assert!(date_function("year").is_some_and(|year| year(f64::INFINITY).is_finite()));
    }
}

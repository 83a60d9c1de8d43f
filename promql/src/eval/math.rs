//! Functions of one float.

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
        "rad" => |degrees| degrees * std::f64::consts::PI / 180.0,
        "deg" => |radians| radians * 180.0 / std::f64::consts::PI,
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

/// Whole days since 1970. Times beyond a quarter of a million years do not tell a date.
fn days(seconds: f64) -> i64 {
    const FARTHEST: i64 = 250_000 * 366 * 86_400;
    (seconds as i64).clamp(-FARTHEST, FARTHEST).div_euclid(86_400)
}

fn second_of_day(seconds: f64) -> i64 {
    (seconds as i64).rem_euclid(86_400)
}

struct Date {
    year: i64,
    month: u32,
    day: u32,
}

impl Date {
    /// In the Gregorian calendar: years are counted from March, so that the leap day comes last, in eras of
    /// 400 years, which are all alike.
    fn of(seconds: f64) -> Date {
        let from_march_0 = days(seconds) + 719_468;
        let era = from_march_0.div_euclid(146_097);
        let day_of_era = from_march_0.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
        Date { year: era * 400 + year_of_era + i64::from(month <= 2), month, day }
    }
}

/// Days from 1970 to the first of a month.
fn days_before(year: i64, month: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = i64::from((month + 9) % 12);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5;
    year.div_euclid(400) * 146_097 + 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year
        - 719_468
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

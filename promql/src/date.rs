//! The calendar, in UTC: times are in seconds since 1970.

/// Whole days since 1970. Times beyond a quarter of a million years do not tell a date.
pub(crate) fn days(seconds: f64) -> i64 {
    const FARTHEST: i64 = 250_000 * 366 * 86_400;
    (seconds as i64).clamp(-FARTHEST, FARTHEST).div_euclid(86_400)
}

pub(crate) fn second_of_day(seconds: f64) -> i64 {
    (seconds as i64).rem_euclid(86_400)
}

/// A day of the Gregorian calendar.
pub(crate) struct Date {
    pub year: i64,
    pub month: u32,
    pub day: u32,
}

impl Date {
    /// Years are counted from March, so that the leap day comes last, in eras of
    /// 400 years, which are all alike.
    pub(crate) fn of(seconds: f64) -> Date {
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
pub(crate) fn days_before(year: i64, month: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = i64::from((month + 9) % 12);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5;
    year.div_euclid(400) * 146_097 + 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year
        - 719_468
}

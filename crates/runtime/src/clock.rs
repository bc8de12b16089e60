//! The time of day as RFC 3339 writes it.

use rustix::time::{ClockId, clock_gettime};

/// Now, in UTC, with nanoseconds: `2026-11-24T04:05:06.000000789Z`.
#[must_use]
pub fn now_rfc3339() -> String {
    let now = clock_gettime(ClockId::Realtime);
    rfc3339(now.tv_sec, now.tv_nsec)
}

/// A point in time given in nanoseconds since 1970.
#[must_use]
pub fn rfc3339_of_nanos(nanos: i64) -> String {
    const SECOND: i64 = 1_000_000_000;
    rfc3339(nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND))
}

fn rfc3339(secs: i64, nanos: i64) -> String {
    let (days, second) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (year, month, day) = date_of(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let second = second % 60;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Year, month and day of a number of days after 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    // Whole cycles of 400 years first: within one, a walk over years is short and plain.
    let mut year = 1970 + 400 * days.div_euclid(DAYS_OF_400_YEARS);
    let mut left = days.rem_euclid(DAYS_OF_400_YEARS);
    while left >= days_of_year(year) {
        left -= days_of_year(year);
        year += 1;
    }
    let mut month = 1;
    while left >= days_of_month(year, month) {
        left -= days_of_month(year, month);
        month += 1;
    }
    (year, month, left + 1)
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_of_year(year: i64) -> i64 {
    if is_leap(year) { 366 } else { 365 }
}

const fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        let table = [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (1_795_492_799, 999_999_999, "2026-11-24T03:59:59.999999999Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
            (-1, 0, "1969-12-31T23:59:59.000000000Z"),
        ];
        for (secs, nanos, text) in table {
            assert_eq!(rfc3339(secs, nanos), text);
        }
    }
}

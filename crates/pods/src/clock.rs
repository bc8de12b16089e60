//! Moments as RFC 3339 writes them, to nanoseconds since 1970.

/// `2026-11-24T04:05:06.789Z` (UTC only, as our own programs write it).
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// Days from 1970-01-01, counted from a March so that the leap day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn moments() {
        for (text, nanos) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00.000000001Z", 951_782_400_000_000_001),
            ("2026-11-24T03:59:59.5Z", 1_795_492_799_500_000_000),
        ] {
            assert_eq!(parse(text), Some(nanos), "{text}");
        }
        assert_eq!(parse(""), None);
        assert_eq!(parse("2026-11-24T03:59:59+01:00"), None);
    }

    #[test]
    fn what_the_runtime_writes_is_read() {
        let before = crate::journal::now();
        let read = parse(&runtime::clock::now_rfc3339()).unwrap();
        assert!((before..=crate::journal::now()).contains(&read));
    }
}

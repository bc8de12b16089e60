//! When to try again, and when to give up.

use std::time::Duration;

/// Longest pause that a registry may ask for.
const LONGEST: Duration = Duration::from_secs(120);

/// How often a request is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Repetitions after the first attempt.
    pub times: u32,
    /// Pause before the first repetition; it doubles each time, up to half a minute.
    pub delay: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            times: 5,
            delay: Duration::from_secs(1),
        }
    }
}

impl Retry {
    /// The pause before repetition `n` (from 0). `asked` is what the registry asked for.
    /// `None`: give up.
    #[must_use]
    pub fn pause(&self, n: u32, asked: Option<Duration>) -> Option<Duration> {
        if n >= self.times {
            return None;
        }
        let doubled = self.delay.saturating_mul(1 << n.min(10));
        let own = doubled.min(Duration::from_secs(30).max(self.delay));
        match asked {
            Some(asked) if asked > LONGEST => None,
            Some(asked) => Some(asked.max(own)),
            None => Some(own),
        }
    }
}

/// Whether an answer with this status may become another one by itself.
pub(crate) const fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Reads `Retry-After`: seconds, or a date (RFC 9110, 10.2.3) against the clock `now`, in seconds
/// since 1970.
pub fn retry_after(value: &str, now: u64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = http_date(value)?;
    Some(Duration::from_secs(at.saturating_sub(now)))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` → seconds since 1970.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = text.split_once(", ")?.1.split([' ', ':']);
    let mut number = || words.next()?.parse::<u64>().ok();
    let day = number()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|m| *m == month)? as u64 + 1;
    let mut number = || words.next()?.parse::<u64>().ok();
    let (year, hour, minute, second) = (number()?, number()?, number()?, number()?);
    if !(1970..=9999).contains(&year) || day == 0 || day > 31 || hour > 23 || minute > 59 {
        return None;
    }
    // Days since 1970 by the civil calendar, counted from March so that the leap day is last.
    let (y, m) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let retry = Retry {
            times: 8,
            delay: Duration::from_secs(1),
        };
        let own: Vec<u64> = (0..8)
            .map(|n| retry.pause(n, None).unwrap().as_secs())
            .collect();
        assert_eq!(own, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(retry.pause(8, None), None);
        let asked = |s| Some(Duration::from_secs(s));
        assert_eq!(retry.pause(0, asked(20)), asked(20));
        assert_eq!(retry.pause(3, asked(1)), asked(8));
        assert_eq!(retry.pause(0, asked(86_400)), None);
    }

    #[test]
    fn reads_seconds_and_dates() {
        assert_eq!(retry_after("7", 0), Some(Duration::from_secs(7)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after(date, 784_111_770), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(date, 784_111_999), Some(Duration::ZERO));
        let leap = "Thu, 29 Feb 2024 00:00:00 GMT";
        assert_eq!(
            retry_after(leap, 1_709_164_799),
            Some(Duration::from_secs(1))
        );
        for bad in [
            "soon",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "-1",
            "Sun, 0 Nov 1 1 1 1",
        ] {
            assert_eq!(retry_after(bad, 0), None, "{bad}");
        }
    }
}

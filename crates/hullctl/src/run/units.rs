//! Numbers as people write them.

use anyhow::{Result, bail};

/// Length of the period that processor time is granted in, microseconds (the kernel's default).
pub const PERIOD: u64 = 100_000;

/// `100m` → bytes, with the binary suffixes of podman.
pub fn bytes(option: &str, text: &str) -> Result<i64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower
        .strip_suffix("ib")
        .or_else(|| lower.strip_suffix('b'))
        .unwrap_or(&lower);
    let (digits, shift) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 10),
        Some(b'm') => (&lower[..lower.len() - 1], 20),
        Some(b'g') => (&lower[..lower.len() - 1], 30),
        _ => (lower, 0),
    };
    let bytes = digits
        .parse::<i64>()
        .ok()
        .and_then(|n| n.checked_mul(1 << shift));
    match bytes {
        Some(n) if n > 0 => Ok(n),
        _ => bail!("run: --{option} {text}: not a size; write bytes, or a number with k, m or g"),
    }
}

/// `1.5` processors → microseconds of each [`PERIOD`]: decimal, because halves and tenths are
/// what people write.
pub fn quota(text: &str) -> Result<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let sound =
        digits(whole) && digits(part) && part.len() <= 5 && !(whole.is_empty() && part.is_empty());
    let padded = format!("{part:0<5}");
    let quota = format!("{whole}{padded}").parse::<i64>().ok();
    match quota.filter(|_| sound) {
        // The kernel refuses less (kernel/sched/core.c, min_cfs_quota_period).
        Some(quota) if quota >= 1000 => Ok(quota),
        _ => bail!("run: --cpus {text}: not a number of processors from 0.01, as 1.5"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, number) in [
            ("1", 1),
            ("100m", 100 << 20),
            ("2G", 2 << 30),
            ("64MiB", 64 << 20),
        ] {
            assert_eq!(bytes("memory", text).unwrap(), number, "{text}");
        }
        for text in ["", "m", "-1", "0", "9999999999g", "1x"] {
            assert!(bytes("memory", text).is_err(), "{text}");
        }
    }

    #[test]
    fn processors() {
        for (text, micros) in [
            ("1", 100_000),
            ("1.5", 150_000),
            (".25", 25_000),
            ("0.01", 1000),
        ] {
            assert_eq!(quota(text).unwrap(), micros, "{text}");
        }
        for text in ["", ".", "0", "0.001", "-1", "1.5.1", "two", "1.123456"] {
            assert!(quota(text).is_err(), "{text}");
        }
    }
}

//! Values of `linux.resources` that need a look before they are written, and conversions that
//! both versions share. Pure.

use std::collections::BTreeMap;

use spec::oci::Rdma;

use crate::error::{Error, Result};

/// `cpu.shares` as the kernel takes it; it would silently clamp what is outside
/// (`MIN_SHARES`, `MAX_SHARES` of kernel/sched/sched.h).
pub(crate) fn shares(shares: u64) -> Result<u64> {
    match shares {
        2..=262_144 => Ok(shares),
        _ => Err(Error::value("cpu.shares", shares, "not in 2-262144")),
    }
}

/// A limit, where a negative one is none.
pub(crate) fn max_or(limit: i64) -> String {
    if limit < 0 {
        "max".to_owned()
    } else {
        limit.to_string()
    }
}

/// `checkBeforeUpdate`: refuses a limit below what is in use.
pub(crate) fn above_usage(limit: i64, usage: &str) -> Result<()> {
    let usage = usage.trim().parse::<i64>().unwrap_or(0);
    if limit < 0 || limit >= usage {
        return Ok(());
    }
    let reason = format!("below the current usage of {usage}");
    Err(Error::value("memory.limit", limit, reason))
}

/// `MAJOR:MINOR`.
pub(crate) fn device_number(limit: &str, major: i64, minor: i64) -> Result<String> {
    let number = format!("{major}:{minor}");
    if u32::try_from(major).is_err() || u32::try_from(minor).is_err() {
        return Err(Error::value(limit, number, "not a device number"));
    }
    Ok(number)
}

/// A huge-page size, which becomes part of a file name.
pub(crate) fn page_size(size: &str) -> Result<&str> {
    let digits = size
        .trim_end_matches("KB")
        .trim_end_matches("MB")
        .trim_end_matches("GB");
    let good = digits.len() + 2 == size.len()
        && !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit());
    if good {
        Ok(size)
    } else {
        Err(Error::value(
            "hugepageLimits.pageSize",
            size,
            "not of the form 2MB",
        ))
    }
}

/// A name that becomes the first word of a line: it must not bring words or lines of its own.
pub(crate) fn word<'a>(limit: &str, word: &'a str) -> Result<&'a str> {
    if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Error::value(limit, format!("{word:?}"), "not a name"));
    }
    Ok(word)
}

/// Lines of `rdma.max`, which is the same in both versions.
pub(crate) fn rdma(devices: &BTreeMap<String, Rdma>) -> Result<Vec<String>> {
    let line = |(name, r): (&String, &Rdma)| {
        let mut line = word("rdma", name)?.to_owned();
        if let Some(n) = r.hca_handles {
            line += &format!(" hca_handle={n}");
        }
        if let Some(n) = r.hca_objects {
            line += &format!(" hca_object={n}");
        }
        Ok(line)
    };
    devices.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        assert!(shares(1).is_err() && shares(262_145).is_err());
        assert_eq!(shares(2).unwrap(), 2);
        assert_eq!((max_or(-5), max_or(0)), ("max".to_owned(), "0".to_owned()));
        assert!(above_usage(10, "11\n").is_err());
        assert!(above_usage(11, "11\n").is_ok() && above_usage(-1, "11").is_ok());
        assert_eq!(device_number("x", 8, 0).unwrap(), "8:0");
        assert!(device_number("x", -1, 0).is_err());
    }

    #[test]
    fn names() {
        for good in ["2MB", "1GB", "64KB"] {
            assert_eq!(page_size(good).unwrap(), good);
        }
        for bad in ["", "MB", "2", "2TB", "../2MB", "2MBMB", "2 MB"] {
            assert!(page_size(bad).is_err(), "{bad}");
        }
        assert!(word("x", "eth0").is_ok() && word("x", "e 1").is_err() && word("x", "").is_err());
        let one = |h, o| {
            let r = Rdma {
                hca_handles: h,
                hca_objects: o,
            };
            rdma(&BTreeMap::from([("mlx5_1".to_owned(), r)])).unwrap()
        };
        assert_eq!(one(Some(3), Some(9)), ["mlx5_1 hca_handle=3 hca_object=9"]);
        assert_eq!(one(None, Some(9)), ["mlx5_1 hca_object=9"]);
    }
}

//! Values of version 1 become values of version 2. Pure.

use crate::error::{Error, Result};

/// `cpu.shares` (2-262144) to `cpu.weight` (1-10000).
///
/// The curve maps 2 to 1, 1024 to 100 (both defaults) and 262144 to 10000; it is the one that
/// runc and crun agreed on after the older straight line gave 1024 shares a weight of 39:
/// `10^((log2(x)^2 + 125 log2(x)) / 612 - 7/34)`.
pub(crate) fn cpu_weight(shares: u64) -> u32 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            #[expect(
                clippy::cast_precision_loss,
                reason = "below 2^18, a double holds it exactly"
            )]
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and 10000"
            )]
            let weight = 10_f64.powf(exponent).ceil() as u32;
            weight.clamp(1, 10_000)
        }
    }
}

/// `blockIO.weight` (10-1000) to `io.weight` (1-10000).
pub(crate) fn io_weight(weight: u16) -> u32 {
    let above = u32::from(weight.clamp(10, 1000)) - 10;
    1 + above * 9999 / 990
}

/// `memory.swap`, which includes memory, to `memory.swap.max`, which does not. `None`: leave it.
///
/// `limit` is the memory limit that goes with it.
pub(crate) fn swap_max(swap: Option<i64>, limit: Option<i64>) -> Result<Option<String>> {
    match (swap.filter(|&s| s != 0), limit.filter(|&l| l != 0)) {
        // Memory without limit: version 1 cannot limit the sum then, so neither do we.
        (None, Some(-1)) | (Some(-1), _) => Ok(Some("max".to_owned())),
        (None, _) => Ok(None),
        (Some(swap), None | Some(-1)) => Err(Error::value(
            "memory.swap",
            swap,
            "a limit of memory and swap needs a memory limit",
        )),
        (Some(swap), Some(limit)) if swap < limit => Err(Error::value(
            "memory.swap",
            swap,
            format!("below memory.limit {limit}, which it includes"),
        )),
        (Some(swap), Some(limit)) => Ok(Some((swap - limit).to_string())),
    }
}

/// A memory value, where -1 is none.
pub(crate) fn memory(value: i64) -> String {
    if value == -1 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

/// `cpu.max`. `current` is what is in force; it gives what only one of both leaves open.
pub(crate) fn cpu_max(quota: Option<i64>, period: Option<u64>, current: &str) -> Option<String> {
    let quota = quota.filter(|&q| q != 0);
    let period = period.filter(|&p| p != 0);
    let in_force = current.split_ascii_whitespace().next().unwrap_or("max");
    let quota = match quota {
        Some(q) if q > 0 => q.to_string(),
        Some(_) => "max".to_owned(),
        None => {
            period?;
            in_force.to_owned()
        }
    };
    // Without a period the kernel keeps its own.
    Some(match period {
        Some(period) => format!("{quota} {period}"),
        None => quota,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weights() {
        for (shares, weight) in [
            (0, 1),
            (2, 1),
            (102, 17),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        assert_eq!(
            (io_weight(10), io_weight(500), io_weight(1000)),
            (1, 4950, 10_000)
        );
    }

    #[test]
    fn swap() {
        let table = [
            (None, None, Ok(None)),
            (None, Some(100), Ok(None)),
            (None, Some(-1), Ok(Some("max"))),
            (Some(0), Some(100), Ok(None)),
            (Some(-1), Some(100), Ok(Some("max"))),
            (Some(-1), None, Ok(Some("max"))),
            (Some(100), Some(100), Ok(Some("0"))),
            (Some(300), Some(100), Ok(Some("200"))),
            (Some(99), Some(100), Err(())),
            (Some(100), None, Err(())),
            (Some(100), Some(-1), Err(())),
        ];
        for (swap, limit, want) in table {
            let got = swap_max(swap, limit).map_err(drop);
            assert_eq!(
                got.as_ref().map(Option::as_deref),
                want.as_ref().copied(),
                "{swap:?} {limit:?}"
            );
        }
    }

    #[test]
    fn bandwidth() {
        let table = [
            (Some(50_000), Some(100_000), Some("50000 100000")),
            (Some(50_000), None, Some("50000")),
            (Some(-1), None, Some("max")),
            (Some(-1), Some(20_000), Some("max 20000")),
            (None, Some(20_000), Some("7 20000")),
            (Some(0), Some(0), None),
            (None, None, None),
        ];
        for (quota, period, want) in table {
            assert_eq!(cpu_max(quota, period, "7 9\n").as_deref(), want);
        }
    }

    proptest! {
        #[test]
        fn weights_grow_and_stay_in_range(a in 0_u64..300_000, b in 0_u64..300_000) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(cpu_weight(low) <= cpu_weight(high));
            prop_assert!((1..=10_000).contains(&cpu_weight(a)));
        }
    }
}

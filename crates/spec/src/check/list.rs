//! Lists of CPUs and memory nodes (cpuset(7), List Format).

use std::collections::BTreeSet;

use crate::error::{At, Result};

/// A list as numbers, ascending, all below `limit`. Empty text is an empty list.
pub(super) fn numbers(text: &str, limit: u32, at: &At) -> Result<Vec<u32>> {
    let mut out = BTreeSet::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = range(part.trim())
            .ok_or_else(|| at.invalid(text, "not a list of numbers and ranges such as 0-3,7"))?;
        if last >= limit {
            return Err(at.invalid(text, format!("{last} is above {}", limit - 1)));
        }
        out.extend(first..=last);
    }
    Ok(out.into_iter().collect())
}

fn range(part: &str) -> Option<(u32, u32)> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

fn number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// A list that the kernel reads itself, in any of its notations (`0-31:2/4`): only what could
/// not belong to one is refused.
pub(super) fn kernel_list<'t>(text: &'t str, at: &At) -> Result<&'t str> {
    let fits = |b: u8| b.is_ascii_digit() || b"-,:/ ".contains(&b);
    if !text.bytes().all(fits) {
        return Err(at.invalid(text, "not a list of numbers and ranges such as 0-3,7"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_by_table() {
        let at = At::top("x");
        assert_eq!(numbers("", 8, &at).unwrap(), [0; 0]);
        assert_eq!(numbers("0-3,7", 8, &at).unwrap(), [0, 1, 2, 3, 7]);
        assert_eq!(numbers("2, 1,1-2", 8, &at).unwrap(), [1, 2]);
        for bad in [
            ",",
            "1,",
            "-1",
            "3-1",
            "a",
            "1-",
            "+1",
            "8",
            "0-4294967296",
            "1--2",
        ] {
            assert!(numbers(bad, 8, &at).is_err(), "{bad}");
        }
        assert!(kernel_list("0-31:2/4", &at).is_ok());
        assert!(kernel_list("0\n1", &at).is_err());
    }

    proptest! {
        #[test]
        fn a_list_of_any_numbers_comes_back_sorted(numbers in prop::collection::vec(0u32..1024, 0..50)) {
            let text = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let mut want = numbers;
            want.sort_unstable();
            want.dedup();
            prop_assert_eq!(super::numbers(&text, 1024, &At::top("x")).unwrap(), want);
        }

        #[test]
        fn no_text_panics(text in "[0-9,-]{0,20}") {
            let _ = numbers(&text, 1024, &At::top("x"));
        }
    }
}

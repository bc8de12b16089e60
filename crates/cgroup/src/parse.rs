//! Reading the texts of cgroup files. Pure and tolerant: what is not understood is left out.

use std::collections::BTreeMap;

/// The number after a word in a flat keyed file (`KEY VALUE` lines).
pub(crate) fn field(text: &str, key: &str) -> Option<u64> {
    flat(text).find(|(k, _)| *k == key).map(|(_, v)| v)
}

/// All lines of a flat keyed file.
pub(crate) fn flat(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

/// The same as a map.
pub(crate) fn flat_map(text: &str) -> BTreeMap<String, u64> {
    flat(text).map(|(k, v)| (k.to_owned(), v)).collect()
}

/// A single number; `max` is the largest.
pub(crate) fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        digits => digits.parse().unwrap_or(0),
    }
}

/// Numbers separated by blanks.
pub(crate) fn numbers(text: &str) -> Vec<u64> {
    text.split_ascii_whitespace()
        .filter_map(|w| w.parse().ok())
        .collect()
}

/// `key=value` words.
pub(crate) fn pairs<'a>(
    words: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    words.filter_map(|w| w.split_once('='))
}

/// A list of ids, `0-2,7` (cpuset(7), List format).
pub(crate) fn list(text: &str) -> Vec<u16> {
    let mut ids = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            ids.extend(first..=last);
        }
    }
    ids
}

/// Process ids of cgroup.procs. 0 stands for a process that our pid namespace does not show.
pub(crate) fn pids(text: &str) -> impl Iterator<Item = i32> {
    text.lines().filter_map(|l| l.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(field("a 1\nab 2\n", "ab"), Some(2));
        assert_eq!(field("a x\n", "a"), None);
        assert_eq!(
            (number("max\n"), number("12\n"), number("?")),
            (u64::MAX, 12, 0)
        );
        assert_eq!(numbers("1 2  3\n"), [1, 2, 3]);
        assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(list("\n"), Vec::<u16>::new());
        assert_eq!(pids("1\n0\nx\n").collect::<Vec<_>>(), [1, 0]);
        let words = "8:0 rbytes=1 wbytes=2";
        assert_eq!(
            pairs(words.split(' ')).collect::<Vec<_>>(),
            [("rbytes", "1"), ("wbytes", "2")]
        );
    }
}

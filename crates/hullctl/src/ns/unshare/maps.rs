//! Id maps as the command line asks for them.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// A range of ids.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    /// First id inside.
    pub inner: u64,
    /// First id outside.
    pub outer: u64,
    /// How many.
    pub count: u64,
}

/// What was asked for in the way of one kind of ids.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The caller's id is this one inside.
    pub own_as: Option<u64>,
    /// Ranges.
    pub ranges: Vec<Source>,
}

/// Where ranges come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// As written.
    Given(Range),
    /// The caller's first range in /etc/subuid, from 0 on inside.
    Auto,
    /// The caller's ranges in /etc/subuid, each to itself.
    Subids,
    /// All that is mapped here, each to itself.
    All,
}

impl Wanted {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.own_as.is_none() && self.ranges.is_empty()
    }

    /// The map to write: the single id cuts a hole into the ranges.
    pub fn resolve(&self, own: u64, files: &Files<'_>) -> Result<Vec<Range>> {
        let mut ranges = Vec::new();
        for source in &self.ranges {
            match source {
                Source::Given(range) => ranges.push(*range),
                Source::Auto => {
                    let first = files.ranges()?.into_iter().next();
                    let (outer, count) = first.context(files.none_for(own))?;
                    ranges.push(Range {
                        inner: 0,
                        outer,
                        count,
                    });
                }
                Source::Subids => {
                    let found = files.ranges()?;
                    if found.is_empty() {
                        bail!(files.none_for(own));
                    }
                    ranges.extend(found.into_iter().map(|(first, count)| same(first, count)));
                }
                Source::All => ranges.extend(files.mapped_here()?),
            }
        }
        let Some(inner) = self.own_as else {
            return Ok(ranges);
        };
        let mut all = vec![Range {
            inner,
            outer: own,
            count: 1,
        }];
        all.extend(ranges.iter().flat_map(|r| r.without(inner, own)));
        all.sort_by_key(|r| r.inner);
        Ok(all)
    }
}

const fn same(first: u64, count: u64) -> Range {
    Range {
        inner: first,
        outer: first,
        count,
    }
}

impl Range {
    /// The range without one id inside and one outside. What remains is paired anew in order, so
    /// that no other id is lost but the last.
    fn without(self, inner: u64, outer: u64) -> Vec<Self> {
        let inside = split(self.inner, self.count, inner);
        let outside = split(self.outer, self.count, outer);
        let mut pieces = Vec::new();
        let (mut inside, mut outside) = (inside.into_iter(), outside.into_iter());
        let (mut a, mut b) = (inside.next(), outside.next());
        while let (Some((i, i_count)), Some((o, o_count))) = (a, b) {
            let count = i_count.min(o_count);
            if count > 0 {
                pieces.push(Self {
                    inner: i,
                    outer: o,
                    count,
                });
            }
            let advanced = |at: u64, had: u64| (had > count).then_some((at + count, had - count));
            a = advanced(i, i_count).or_else(|| inside.next());
            b = advanced(o, o_count).or_else(|| outside.next());
        }
        pieces
    }
}

/// `first..first+count` without `hole`.
fn split(first: u64, count: u64, hole: u64) -> Vec<(u64, u64)> {
    if hole < first || hole >= first + count {
        return vec![(first, count)];
    }
    let pieces = [(first, hole - first), (hole + 1, first + count - hole - 1)];
    pieces.into_iter().filter(|(_, n)| *n > 0).collect()
}

/// `inner:outer:count`, or util-linux' older `outer,inner,count`; `auto`, `subids`, `all`.
pub fn parse(text: &str) -> Result<Source> {
    match text {
        "auto" => return Ok(Source::Auto),
        "subids" => return Ok(Source::Subids),
        "all" => return Ok(Source::All),
        _ => {}
    }
    let numbers = |sep: char| -> Option<[u64; 3]> {
        let fields: Vec<u64> = text
            .split(sep)
            .map(|f| f.parse().ok())
            .collect::<Option<_>>()?;
        fields.try_into().ok()
    };
    let (inner, outer, count) = match (numbers(':'), numbers(',')) {
        (Some([inner, outer, count]), _) => (inner, outer, count),
        (_, Some([outer, inner, count])) => (inner, outer, count),
        _ => bail!("{text}: not a map; write inner:outer:count, auto, subids or all"),
    };
    if count == 0 || [inner, outer].iter().any(|first| first + count > 1 << 32) {
        bail!("{text}: not a map; ids go from 0 to 4294967295, and one is the least");
    }
    Ok(Source::Given(Range {
        inner,
        outer,
        count,
    }))
}

/// The lines for uid_map or gid_map.
pub fn lines(ranges: &[Range]) -> String {
    let mut text = String::new();
    for r in ranges {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {}", r.inner, r.outer, r.count);
    }
    text
}

/// Where the facts about one kind of ids stand.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// `/etc/subuid` or `/etc/subgid`.
    pub subordinate: &'a Path,
    /// `/proc/self/uid_map` or `gid_map`.
    pub map: &'a Path,
    /// The caller's name: subordinate ids are given to a user, also those of groups.
    pub user: Option<&'a str>,
    /// The caller's user id.
    pub uid: u32,
}

impl Files<'_> {
    fn none_for(&self, own: u64) -> String {
        let file = self.subordinate.display();
        let user = self.user.map_or_else(|| own.to_string(), str::to_owned);
        format!("{file}: no range for {user}; add a line such as {user}:100000:65536")
    }

    fn ranges(&self) -> Result<Vec<(u64, u64)>> {
        let path = self.subordinate;
        let text = match std::fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other.with_context(|| format!("read({})", path.display()))?,
        };
        Ok(subordinate_in(&text, self.user, self.uid))
    }

    fn mapped_here(&self) -> Result<Vec<Range>> {
        let path = self.map;
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read({})", path.display()))?;
        let parsed: Option<Vec<Range>> = text.lines().map(here).collect();
        parsed.with_context(|| format!("{}: not three numbers a line", path.display()))
    }
}

fn here(line: &str) -> Option<Range> {
    let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
    let (inner, _, count) = (fields.next()?.ok()?, fields.next()?, fields.next()?.ok()?);
    Some(same(inner, count))
}

fn subordinate_in(text: &str, user: Option<&str>, uid: u32) -> Vec<(u64, u64)> {
    let ours = |name: &str| Some(name) == user || name.parse() == Ok(uid);
    let range = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        ours(name).then_some((first, count))
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(inner: u64, outer: u64, count: u64) -> Range {
        Range {
            inner,
            outer,
            count,
        }
    }

    #[test]
    fn ranges_in_both_notations() {
        assert_eq!(parse("0:1000:5").unwrap(), Source::Given(range(0, 1000, 5)));
        assert_eq!(parse("1000,0,5").unwrap(), Source::Given(range(0, 1000, 5)));
        assert_eq!(parse("auto").unwrap(), Source::Auto);
        for bad in [
            "",
            "1:2",
            "1:2:0",
            "1:2:3:4",
            "a:b:c",
            "1:2,3",
            "4294967295:0:2",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_single_id_cuts_a_hole() {
        let full = range(0, 100_000, 65_536);
        // What util-linux 2.38 asks newuidmap for with --map-auto --map-root-user.
        assert_eq!(full.without(0, 0), [range(1, 100_000, 65_535)]);
        assert_eq!(
            range(0, 100, 4).without(2, 7),
            [range(0, 100, 2), range(3, 102, 1)]
        );
        assert_eq!(
            range(0, 100, 4).without(9, 101),
            [range(0, 100, 1), range(1, 102, 2)]
        );
        assert_eq!(range(5, 100, 1).without(5, 3), []);
    }

    #[test]
    fn subordinate_ids_by_name_and_number() {
        let text = "ann:100000:65536\n1001:5:1\nbob:1:1\nann:900000:10\nbroken\n";
        assert_eq!(
            subordinate_in(text, Some("ann"), 1000),
            [(100_000, 65_536), (900_000, 10)]
        );
        assert_eq!(subordinate_in(text, None, 1001), [(5, 1)]);
    }
}

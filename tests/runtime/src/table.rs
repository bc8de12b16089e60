//! The table of known deviations, `deviations.tsv`.
//!
//! One line for each test that a runtime is known to fail: test, runtime and version, verdict,
//! whose fault, why. `crun-1.8@v2` is for one ground alone and goes before a line for all. A test
//! that is in the table and passes is an error, as is one that is not and fails; so the table stays
//! true.

use crate::ground::Ground;

/// What the table expects of a test.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It passes: not in the table, or the line is for a ground that is better than the others.
    Passes,
    /// It fails.
    Fails,
    /// It passes at times: races that the runtime loses only now and then.
    Either,
}

/// One line.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Full name of the test, `module::name`.
    pub test: &'static str,
    /// Prefix of the runtime's `name-version`.
    pub runtime: &'static str,
    /// The ground's name; all where empty.
    pub ground: &'static str,
    /// What is expected.
    pub verdict: Verdict,
    /// Whose fault it is.
    pub fault: &'static str,
    /// The sentence that decides, and where it stands.
    pub reason: &'static str,
}

const TABLE: &str = include_str!("../deviations.tsv");

/// All lines.
///
/// # Panics
/// Where a line is not of the form.
pub fn entries() -> impl Iterator<Item = Entry> {
    TABLE
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|line| {
            let f: Vec<&str> = line.split('\t').collect();
            let [test, runtime, verdict, fault, reason] = f[..] else {
                panic!("deviations.tsv: not five fields: {line:?}");
            };
            let (runtime, ground) = runtime.split_once('@').unwrap_or((runtime, ""));
            let verdict = match verdict {
                "passes" if !ground.is_empty() => Verdict::Passes,
                "fails" => Verdict::Fails,
                "either" => Verdict::Either,
                other => panic!("deviations.tsv: verdict {other:?} in {line:?}"),
            };
            Entry {
                test,
                runtime,
                ground,
                verdict,
                fault,
                reason,
            }
        })
}

/// The line for this test on this runtime (`name-version`) and ground.
#[must_use]
pub fn lookup(test: &str, label: &str, ground: Ground) -> Option<Entry> {
    entries()
        .filter(|e| e.test == test && label.starts_with(e.runtime))
        .filter(|e| e.ground.is_empty() || e.ground == ground.name())
        .max_by_key(|e| e.ground.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::entries;

    /// The names of all test cases, `module::name`, from the source.
    fn cases() -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut names = Vec::new();
        for dir in ["behaviour", "security"] {
            for entry in std::fs::read_dir(root.join(dir))
                .expect("read a directory")
                .flatten()
            {
                let module = entry
                    .path()
                    .file_stem()
                    .map(|s| s.to_string_lossy().into_owned());
                let text = std::fs::read_to_string(entry.path()).expect("read a source file");
                let mut lines = text.lines();
                while lines.any(|l| l == "#[test]") {
                    let line = lines.next().unwrap_or("");
                    let name = line.trim_start_matches("fn ").trim_end_matches("() {");
                    names.push(format!("{}::{name}", module.as_deref().unwrap_or("")));
                }
            }
        }
        names
    }

    #[test]
    fn every_line_is_of_a_test_and_every_test_has_a_name_of_its_own() {
        let all = cases();
        let unique: BTreeSet<&String> = all.iter().collect();
        assert_eq!(all.len(), unique.len(), "two tests have one name");
        let mut seen = BTreeSet::new();
        for entry in entries() {
            assert!(
                unique.contains(&entry.test.to_owned()),
                "no test {}",
                entry.test
            );
            assert!(
                seen.insert((entry.test, entry.runtime, entry.ground)),
                "twice: {}",
                entry.test
            );
            let grounds = ["", "host", "old", "v2", "systemd", "rootless"];
            let known = grounds.contains(&entry.ground) || entry.ground.starts_with("old-");
            assert!(known, "ground {}", entry.ground);
            assert!(!entry.reason.is_empty(), "{} has no reason", entry.test);
        }
    }
}

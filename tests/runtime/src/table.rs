//! The table of known deviations, `deviations.tsv`.
//!
//! One line for each test that a runtime is known to fail: test, runtime and version, verdict,
//! whose fault, why. A test that is in the table and passes is an error, as is one that is not
//! and fails; so the table stays true.

/// What the table expects of a test.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It passes: not in the table.
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
            let verdict = match verdict {
                "fails" => Verdict::Fails,
                "either" => Verdict::Either,
                other => panic!("deviations.tsv: verdict {other:?} in {line:?}"),
            };
            Entry {
                test,
                runtime,
                verdict,
                fault,
                reason,
            }
        })
}

/// The line for this test on this runtime (`name-version`).
#[must_use]
pub fn lookup(test: &str, label: &str) -> Option<Entry> {
    entries().find(|e| e.test == test && label.starts_with(e.runtime))
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
                seen.insert((entry.test, entry.runtime)),
                "twice: {}",
                entry.test
            );
            assert!(!entry.reason.is_empty(), "{} has no reason", entry.test);
        }
    }
}

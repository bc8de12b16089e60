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

//! The seeds of the fuzz targets, run as ordinary tests: no fuzzer is needed to see them hold.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "../../../fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;

/// Runs a check over all seeds of a target; all are meant to be accepted.
fn all<T>(target: &str, check: impl Fn(&[u8]) -> Option<T>) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut seeds = 0;
    for entry in fs::read_dir(corpus.join(target)).unwrap() {
        let path = entry.unwrap().path();
        let accepted = check(&fs::read(&path).unwrap()).is_some();
        let seed = path.extension().is_some_and(|e| e == "json");
        assert!(accepted || !seed, "{} is refused", path.display());
        seeds += usize::from(seed);
    }
    assert!(seeds > 1);
}

#[test]
fn configurations() {
    all("config", checks::config);
}

#[test]
fn processes() {
    all("process", checks::process);
}

#[test]
fn resources() {
    all("resources", checks::resources);
}

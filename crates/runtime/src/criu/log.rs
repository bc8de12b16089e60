//! What criu's log says of a failure.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::Error;

/// As much of a log's end as is looked at: errors are near it.
const TAIL: u64 = 64 * 1024;

/// Adds the first error in the log at `path`, and where the log is.
pub(super) fn explain(error: Error, path: &Path) -> Error {
    let Error::Criu(text) = error else {
        return error;
    };
    let reason = tail(path)
        .as_deref()
        .and_then(first_error)
        .map(str::to_owned);
    let reason = reason.map_or_else(String::new, |r| format!(": {r}"));
    Error::Criu(format!("{text}{reason} (log file: {})", path.display()))
}

fn tail(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Lines are `(00.001234) Error (criu/vdso.c:381): vdso: …`; the first error is the cause, and
/// those after it are its consequences.
fn first_error(log: &str) -> Option<&str> {
    log.lines().find_map(|line| {
        let (_, rest) = line.split_once("Error (")?;
        let (_, text) = rest.split_once("): ")?;
        Some(text.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found() {
        let log = "(00.000001) Version: 3.17\n(00.0123) Error (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds\n\
                   (00.0124) Error (criu/crtools.c:260): Could not initialize\n";
        assert_eq!(
            first_error(log),
            Some("vdso: Unexpected rt vDSO area bounds")
        );
        assert_eq!(first_error("all is well\n"), None);
        let dir = std::env::temp_dir().join(format!("hull-criu-log-{}", std::process::id()));
        std::fs::write(&dir, log).unwrap();
        let text = explain(Error::Criu("criu failed".into()), &dir).to_string();
        assert!(
            text.starts_with("criu failed: vdso: Unexpected rt vDSO area bounds (log file: "),
            "{text}"
        );
        std::fs::remove_file(&dir).unwrap();
    }
}

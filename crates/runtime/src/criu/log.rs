//! What criu's log says of a failure.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::Error;

/// As much of a log's end as is looked at: errors are near it.
const TAIL: u64 = 64 * 1024;

/// Where criu logs, and which criu it is.
#[derive(Clone, Debug)]
pub(super) struct Log {
    criu: String,
    path: PathBuf,
}

impl Log {
    /// `criu` is its name and version.
    pub(super) fn new(criu: String, path: PathBuf) -> Self {
        Self { criu, path }
    }

    /// criu's failure: the first error in the log, `otherwise` where there is none, and what can
    /// be done.
    pub(super) fn failure(&self, otherwise: &str) -> Error {
        let tail = tail(&self.path);
        let reason = tail.as_deref().and_then(first_error).unwrap_or(otherwise);
        let advice = advice(reason);
        let (criu, path) = (&self.criu, self.path.display());
        Error::Criu(format!(
            "{criu} failed: {reason}{advice} (log file: {path})"
        ))
    }
}

/// A kernel's vdso of a shape that a criu from before it does not know.
fn advice(reason: &str) -> &'static str {
    if reason.starts_with("vdso:") {
        "; it is too old for this kernel: install criu 4.0 or newer"
    } else {
        ""
    }
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
pub(super) fn first_error(log: &str) -> Option<&str> {
    let mut texts = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once("Error (")?;
        let (_, text) = rest.split_once("): ")?;
        Some(text.trim())
    });
    // Without CAP_SYS_RESOURCE criu says at each start that it cannot raise its own limits, and
    // goes on.
    texts.find(|text| !text.starts_with("rlimit: Can't setup"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found() {
        let log = "(00.000001) Version: 3.17\n\
                   (00.0028) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self\n\
                   (00.0123) Error (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds\n\
                   (00.0124) Error (criu/crtools.c:260): Could not initialize\n";
        let cause = "vdso: Unexpected rt vDSO area bounds";
        assert_eq!(first_error(log), Some(cause));
        assert_eq!(first_error("all is well\n"), None);
        let path = std::env::temp_dir().join(format!("hull-criu-log-{}", std::process::id()));
        std::fs::write(&path, log).unwrap();
        let told = Log::new("criu 3.17.1".to_owned(), path.clone());
        let advice = "it is too old for this kernel: install criu 4.0 or newer";
        let place = format!("(log file: {})", path.display());
        assert_eq!(
            told.failure("unused").to_string(),
            format!("criu 3.17.1 failed: {cause}; {advice} {place}")
        );
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            told.failure("no reason given").to_string(),
            format!("criu 3.17.1 failed: no reason given {place}")
        );
    }
}

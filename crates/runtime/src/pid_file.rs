//! `--pid-file`.

use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat, renameat, unlink};
use sys::{Context as _, Errno};

use crate::{Doing as _, Result};

/// Writes `pid` to `path` by way of a hidden file beside it and rename(2): whoever waits for the
/// file never reads half of it.
///
/// # Errors
/// The step that failed; nothing is left behind then.
pub fn write(path: &Path, pid: i32) -> Result<()> {
    let doing = || format!("write the pid file {}", path.display());
    let name = path
        .file_name()
        .ok_or_else(|| sys::Error::new("open", path.display().to_string(), Errno::ISDIR))
        .doing(doing)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let temporary = path.with_file_name(hidden);
    let args = || temporary.display().to_string();
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(CWD, &temporary, flags, Mode::from_raw_mode(0o666))
        .context("openat", args)
        .doing(doing)?;
    let mut file = std::fs::File::from(file);
    let written = std::io::Write::write_all(&mut file, pid.to_string().as_bytes())
        .context("write", args)
        .and_then(|()| renameat(CWD, &temporary, CWD, path).context("renameat", args));
    if written.is_err() {
        // The first error is the one to report.
        let _ = unlink(&temporary);
    }
    written.doing(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appears_whole_and_leaves_nothing_else() {
        let dir = std::env::temp_dir().join(format!("hull-pidfile-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("pid");
        write(&path, 4711).unwrap();
        write(&path, 42).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "42");
        std::fs::create_dir(dir.join("taken")).unwrap();
        let text = write(&dir.join("taken"), 1).unwrap_err().to_string();
        assert!(text.starts_with("write the pid file "), "{text}");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2);
        assert!(write(Path::new("/no/such/dir/pid"), 1).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

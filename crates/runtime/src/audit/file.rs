//! A file of lines that does not grow for ever, and that any number of processes write to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The file, and those it was before: they stand beside it, as `FILE.1`, the newest, and so on.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// The file.
    pub path: PathBuf,
    /// Rename it when it would grow beyond so many bytes; 0: never.
    pub max_bytes: u64,
    /// Keep so many renamed ones.
    pub max_files: u32,
}

/// Only for its owner: commands and names of others stand in it.
fn open(path: &Path, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(create).mode(0o600).open(path)
}

impl Rotated {
    /// Makes it, and its directory, where it is missing.
    ///
    /// # Errors
    /// mkdir(2)'s, open(2)'s.
    pub fn make(&self) -> io::Result<()> {
        if let Some(dir) = self.path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        open(&self.path, true).map(drop)
    }

    /// Adds a line to a file that is there. One write(2): lines of several processes do not mix.
    ///
    /// # Errors
    /// open(2)'s, write(2)'s, rename(2)'s.
    pub fn append(&self, line: &str) -> io::Result<()> {
        let line = format!("{line}\n");
        let mut file = open(&self.path, false)?;
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let size = file.metadata()?.len();
        if self.max_bytes > 0 && size > 0 && size.saturating_add(length) > self.max_bytes {
            self.rotate(&file)?;
            file = open(&self.path, false)?;
        }
        let written = file.write(line.as_bytes())?;
        if written < line.len() {
            // The disk is full: what follows at least begins on a line of its own.
            let _ = file.write(b"\n");
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Of several that find it full one renames it; the others write where they are.
    fn rotate(&self, full: &File) -> io::Result<()> {
        if flock(full, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        if std::fs::metadata(&self.path)?.ino() != full.metadata()?.ino() {
            // It has been done between our opening and our lock.
            return Ok(());
        }
        self.shift()?;
        if self.max_files > 0 {
            std::fs::hard_link(&self.path, self.numbered(1))?;
        }
        // Replaced, not removed: at each moment there is one, whose presence is a switch.
        let new = self.beside("new");
        open(&new, true)?;
        std::fs::rename(new, &self.path)
    }

    /// Closes the log: what is written stays, under the next name, and none is there any more.
    ///
    /// # Errors
    /// rename(2)'s.
    pub fn retire(&self) -> io::Result<()> {
        self.shift()?;
        std::fs::rename(&self.path, self.numbered(1))
    }

    /// Makes room for a first renamed one.
    fn shift(&self) -> io::Result<()> {
        for number in (1..self.max_files).rev() {
            match std::fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        self.beside(&number.to_string())
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{end}"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotated(name: &str, max_bytes: u64, max_files: u32) -> (PathBuf, Rotated) {
        let name = format!("hull-audit-{name}.{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let path = dir.join("log");
        let log = Rotated {
            path,
            max_bytes,
            max_files,
        };
        (dir, log)
    }

    #[test]
    fn old_lines_move_on_and_the_oldest_go() {
        let (dir, log) = rotated("old", 12, 2);
        assert!(log.append("nowhere").is_err(), "it is not there yet");
        log.make().unwrap();
        for word in ["one", "two", "three", "four", "five", "six", "seven"] {
            log.append(word).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        let all = ["log", "log.1", "log.2", "log.3", "log.new"].map(read);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(
            all,
            ["seven\n", "five\nsix\n", "three\nfour\n", "", ""].map(str::to_owned)
        );
    }

    #[test]
    fn many_writers_lose_no_line() {
        let (dir, log) = rotated("many", 2000, 50);
        log.make().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let log = &log;
                scope.spawn(move || {
                    for n in 0..200 {
                        log.append(&format!("{writer} {n} {}", "x".repeat(20)))
                            .unwrap();
                    }
                });
            }
        });
        let files = std::fs::read_dir(&dir).unwrap().flatten();
        let text: String = files
            .map(|f| std::fs::read_to_string(f.path()).unwrap())
            .collect();
        std::fs::remove_dir_all(&dir).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), 800);
        assert!(lines.iter().all(|line| line.ends_with(&"x".repeat(20))));
    }
}

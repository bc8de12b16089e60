//! A file of lines that does not grow for ever.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The file, and those it was before.
#[derive(Debug)]
pub(super) struct Rotated {
    path: PathBuf,
    max_bytes: u64,
    max_files: u32,
    file: File,
    size: u64,
}

/// Only for root: commands and names of others stand in it.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(path)
}

impl Rotated {
    /// Opens it, to go on at its end.
    pub fn open(path: &Path, max_bytes: u64, max_files: u32) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = open(path)?;
        Ok(Self {
            size: file.metadata()?.len(),
            path: path.to_owned(),
            max_bytes,
            max_files,
            file,
        })
    }

    /// Adds a line, whole or not at all.
    pub fn append(&mut self, line: &str) -> io::Result<()> {
        let line = format!("{line}\n");
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.max_bytes > 0 && self.size > 0 && self.size.saturating_add(length) > self.max_bytes
        {
            self.rotate()?;
        }
        if let Err(e) = self.file.write_all(line.as_bytes()) {
            // Half a line would spoil the next one.
            self.file.set_len(self.size)?;
            return Err(e);
        }
        self.size += length;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.max_files).rev() {
            match std::fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        match self.max_files {
            0 => std::fs::remove_file(&self.path)?,
            _ => std::fs::rename(&self.path, self.numbered(1))?,
        }
        self.file = open(&self.path)?;
        self.size = 0;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_move_on_and_the_oldest_go() {
        let dir = std::env::temp_dir().join(format!("hull-audit.{}", std::process::id()));
        let path = dir.join("log");
        let mut log = Rotated::open(&path, 12, 2).unwrap();
        for word in ["one", "two", "three", "four", "five", "six"] {
            log.append(word).unwrap();
        }
        drop(log);
        // A later opening goes on where the file is.
        let mut log = Rotated::open(&path, 12, 2).unwrap();
        log.append("seven").unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        let all = ["log", "log.1", "log.2", "log.3"].map(read);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(
            all,
            ["seven\n", "five\nsix\n", "three\nfour\n", ""].map(str::to_owned)
        );
    }
}

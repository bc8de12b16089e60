//! Where messages go, in the shapes that callers of runc read.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// Shape of a line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// `time="…" level=error msg="…"`.
    #[default]
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`.
    Json,
}

/// Weight of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// Why the program ends.
    Error,
    /// What was not done, though the program goes on.
    Warning,
    /// Steps, with `--debug`.
    Debug,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Debug => "debug",
        }
    }
}

/// The log of this run.
#[derive(Debug, Default)]
pub struct Log {
    file: Option<File>,
    format: Option<Format>,
}

impl Log {
    /// Logs to `path`, to standard error where it is `None`. Without a format, lines on standard
    /// error are for people.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: Option<&Path>, format: Option<Format>) -> std::io::Result<Self> {
        let open = |p| OpenOptions::new().append(true).create(true).open(p);
        let file = path.map(open).transpose()?;
        Ok(Self { file, format })
    }

    /// One message. Errors also go to standard error where the log is a file, because whoever
    /// waits for the program reads them there.
    pub fn write(&self, level: Level, message: &str) {
        let message = message.trim_end();
        if let Some(mut file) = self.file.as_ref() {
            let line = line(self.format.unwrap_or_default(), level, message);
            // There is nowhere left to report a failing log to.
            let _ = file.write_all(line.as_bytes());
            if level == Level::Error {
                self.to_stderr(&plain(level, message));
            }
        } else {
            let line = self.format.map(|format| line(format, level, message));
            self.to_stderr(&line.unwrap_or_else(|| plain(level, message)));
        }
    }

    #[expect(
        clippy::unused_self,
        reason = "writing to standard error is the log's business only"
    )]
    fn to_stderr(&self, line: &str) {
        // As above.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// For a terminal, which would obey the control characters in names of others' choosing.
fn plain(level: Level, message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    for c in message.chars() {
        if c.is_control() {
            shown.extend(c.escape_debug());
        } else {
            shown.push(c);
        }
    }
    let message = shown;
    match level {
        Level::Error => format!("hull: {message}\n"),
        other => format!("hull: {}: {message}\n", other.word()),
    }
}

fn line(format: Format, level: Level, message: &str) -> String {
    let time = runtime::clock::now_rfc3339();
    let level = level.word();
    match format {
        Format::Json => {
            let message = serde_json::Value::from(message);
            format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"}}\n")
        }
        Format::Text => {
            let message = message.escape_debug();
            format!("time=\"{time}\" level={level} msg=\"{message}\"\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_have_what_go_runc_reads() {
        let line = line(Format::Json, Level::Error, "a \"b\"\nc");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["msg"], "a \"b\"\nc");
        assert!(value["time"].as_str().unwrap().ends_with('Z'));
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn text_stays_one_line() {
        let line = line(Format::Text, Level::Warning, "a\nb");
        assert!(line.contains("level=warning msg=\"a\\nb\""));
        assert_eq!(line.matches('\n').count(), 1);
    }
}

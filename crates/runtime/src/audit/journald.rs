//! The journal's own protocol (systemd's "Native Journal Protocol"): a datagram of fields.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use serde_json::Value;

/// The way to the journal.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    identifier: String,
}

impl Journal {
    /// The one at this socket, which is to know us by `identifier`; none where there is nothing
    /// that could be spoken to.
    #[must_use]
    pub fn new(path: PathBuf, identifier: &str) -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        // A journal that hangs is not to hold up the file.
        socket.set_nonblocking(true).ok()?;
        let identifier = identifier.to_owned();
        Some(Self {
            socket,
            path,
            identifier,
        })
    }

    /// Hands a line over. Best effort: the file is the record, and a machine need not have a
    /// journal.
    pub fn tell(&self, line: &str) {
        let _ = self
            .socket
            .send_to(&fields(line, &self.identifier), &self.path);
    }
}

/// The line as message, and each of its values as a field of its own (`HULL_CALL=…`).
fn fields(line: &str, identifier: &str) -> Vec<u8> {
    let mut all = Vec::with_capacity(2 * line.len());
    field(&mut all, "MESSAGE", line);
    field(&mut all, "PRIORITY", "6");
    field(&mut all, "SYSLOG_IDENTIFIER", identifier);
    if let Ok(Value::Object(values)) = serde_json::from_str(line) {
        for (name, value) in values {
            let name = format!("HULL_{}", name.to_ascii_uppercase());
            match value {
                Value::String(text) => field(&mut all, &name, &text),
                Value::Null => {}
                other => field(&mut all, &name, &other.to_string()),
            }
        }
    }
    all
}

/// `NAME=value`, or with a length before it where the value has lines.
fn field(all: &mut Vec<u8>, name: &str, value: &str) {
    all.extend(name.as_bytes());
    if value.contains('\n') {
        all.push(b'\n');
        let length = u64::try_from(value.len()).unwrap_or(0);
        all.extend(length.to_le_bytes());
    } else {
        all.push(b'=');
    }
    all.extend(value.as_bytes());
    all.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_a_value() {
        let sent = fields(
            "{\"call\":\"Exec\",\"reason\":\"a\\nb\",\"uid\":0,\"pid\":null}",
            "me",
        );
        let text = String::from_utf8_lossy(&sent);
        assert!(
            text.contains("\nHULL_CALL=Exec\n") && text.contains("\nHULL_UID=0\n"),
            "{text}"
        );
        assert!(
            text.contains("\nHULL_REASON\n\u{3}\0\0\0\0\0\0\0a\nb\n"),
            "{text}"
        );
        assert!(!text.contains("HULL_PID"), "{text}");
    }
}

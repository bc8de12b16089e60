//! This program's own terminal: raw while a container has it, its size, passwords.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use streaming::Size;

/// Raw until dropped.
#[derive(Debug, Clone)]
pub struct Raw(Arc<Mutex<Option<Termios>>>);

impl Raw {
    /// Makes standard input raw.
    pub fn new() -> Result<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            bail!("-t: standard input is no terminal; leave -t out");
        }
        let before = tcgetattr(&stdin).context("tcgetattr")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).context("tcsetattr")?;
        Ok(Raw(Arc::new(Mutex::new(Some(before)))))
    }

    /// Puts it back.
    pub fn restore(&self) {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(before) = before {
            // A terminal that is gone needs nothing.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.restore();
    }
}

/// The terminal's size, if there is a terminal.
pub fn size() -> Option<Size> {
    let size = tcgetwinsize(std::io::stdout()).or_else(|_| tcgetwinsize(std::io::stdin()));
    size.ok().map(|size| Size {
        width: size.ws_col,
        height: size.ws_row,
    })
}

/// Asks for a password without showing it.
pub fn ask_password(prompt: &str) -> Result<String> {
    let open = || File::options().read(true).write(true).open("/dev/tty");
    let mut tty = open().context("ask for the password: open /dev/tty; use --creds")?;
    let before = tcgetattr(&tty).context("tcgetattr")?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tty.write_all(prompt.as_bytes()).context("write /dev/tty")?;
    tcsetattr(&tty, OptionalActions::Flush, &silent).context("tcsetattr")?;
    let mut password = String::new();
    let read = BufReader::new(&tty).read_line(&mut password);
    tcsetattr(&tty, OptionalActions::Now, &before).context("tcsetattr")?;
    tty.write_all(b"\n").context("write /dev/tty")?;
    read.context("read /dev/tty")?;
    Ok(password.trim_end_matches('\n').to_owned())
}

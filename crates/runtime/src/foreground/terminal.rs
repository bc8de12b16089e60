//! The terminal here in raw mode, for as long as it is held.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::termios::{
    OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use sys::Context as _;

use crate::Result;

/// A terminal in raw mode; dropping it restores the mode it had.
#[derive(Debug)]
pub struct RawTerminal {
    terminal: OwnedFd,
    before: Termios,
}

impl RawTerminal {
    /// The first of standard input, output and error that is a terminal.
    ///
    /// # Errors
    /// tcsetattr(3)'s.
    pub fn of_stdio() -> Result<Option<Self>> {
        let stdio: [BorrowedFd<'_>; 3] = [
            rustix::stdio::stdin(),
            rustix::stdio::stdout(),
            rustix::stdio::stderr(),
        ];
        let terminal = stdio.into_iter().find(|fd| isatty(fd));
        terminal.map(Self::new).transpose()
    }

    /// Puts `terminal` into raw mode.
    ///
    /// # Errors
    /// tcsetattr(3)'s.
    pub fn new(terminal: impl AsFd) -> Result<Self> {
        let terminal = fcntl_dupfd_cloexec(terminal, 3).context("fcntl", || "F_DUPFD_CLOEXEC")?;
        let before = tcgetattr(&terminal).context("tcgetattr", || "terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw).context("tcsetattr", || "raw mode")?;
        Ok(Self { terminal, before })
    }

    /// Gives another terminal the size of this one.
    ///
    /// # Errors
    /// ioctl(2)'s.
    pub fn copy_size_to(&self, other: BorrowedFd<'_>) -> Result<()> {
        let size = tcgetwinsize(&self.terminal).context("ioctl", || "TIOCGWINSZ")?;
        if (size.ws_row, size.ws_col) != (0, 0) {
            tcsetwinsize(other, size).context("ioctl", || "TIOCSWINSZ")?;
        }
        Ok(())
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that has gone cannot be restored.
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::termios::LocalModes;

    #[test]
    fn raw_while_it_lives() {
        let here = crate::console::Console::open().unwrap();
        let there = crate::console::Console::open().unwrap();
        let canonical = || {
            let modes = tcgetattr(&here.slave).unwrap().local_modes;
            modes.contains(LocalModes::ICANON | LocalModes::ECHO)
        };
        let size = spec::oci::ConsoleSize {
            height: 12,
            width: 34,
        };
        here.set_size(size).unwrap();
        assert!(canonical());
        let raw = RawTerminal::new(&here.slave).unwrap();
        assert!(!canonical());
        raw.copy_size_to(there.master.as_fd()).unwrap();
        let copied = tcgetwinsize(&there.slave).unwrap();
        assert_eq!((copied.ws_row, copied.ws_col), (12, 34));
        drop(raw);
        assert!(canonical());
    }
}

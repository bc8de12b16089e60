//! A person at a terminal: types, reads, changes the window size.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A program on a pseudo-terminal of its own, which is its controlling terminal.
#[derive(Debug)]
pub struct Pty {
    master: File,
    child: Child,
    seen: String,
}

impl Pty {
    /// Starts `command` on a new terminal of `rows` by `cols`.
    ///
    /// # Panics
    /// When the terminal cannot be made or the program not started.
    pub fn spawn(command: &Command, rows: u16, cols: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let open = || {
            let mut options = File::options();
            let options = options.read(true).write(true);
            options.open(name.to_str().unwrap()).unwrap()
        };
        set_size(&master, rows, cols);
        // setsid --ctty makes standard input the controlling terminal, so that the program is
        // sent SIGWINCH and SIGHUP like one that a person started.
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]);
        session.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        session.stdin(open()).stdout(open()).stderr(open());
        let child = session.spawn().unwrap();
        let master = File::from(master);
        Self {
            master,
            child,
            seen: String::new(),
        }
    }

    /// Types `text`.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Changes the size of the window.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&self, rows: u16, cols: u16) {
        set_size(&self.master, rows, cols);
    }

    /// Reads until `wanted` appears in what came since the last call.
    ///
    /// # Panics
    /// When it does not come within 20 s.
    pub fn expect(&mut self, wanted: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(at) = self.seen.find(wanted) {
                self.seen.drain(..at + wanted.len());
                return;
            }
            let open = self.read_some(Duration::from_millis(200));
            let late = Instant::now() > end;
            assert!(
                (open && !late) || self.seen.contains(wanted),
                "the terminal did not show {wanted:?} but {:?}",
                self.seen
            );
        }
    }

    /// What comes within `time`, whatever it is.
    pub fn drain(&mut self, time: Duration) -> String {
        let end = Instant::now() + time;
        while Instant::now() < end && self.read_some(Duration::from_millis(50)) {}
        std::mem::take(&mut self.seen)
    }

    /// Asks the shell at the other end for the window's size until it is `rows` by `cols`: a
    /// new size travels by a signal and a socket, not at once.
    ///
    /// # Panics
    /// When it does not become so within 20 s.
    #[track_caller]
    pub fn expect_size(&mut self, rows: u16, cols: u16) {
        let size = format!("{rows} {cols}");
        let seen = crate::eventually(Duration::from_secs(20), || {
            self.send("stty size\n");
            self.drain(Duration::from_millis(300)).contains(&size)
        });
        assert!(seen, "the window did not become {size}");
    }

    /// Waits for the program to end.
    ///
    /// # Panics
    /// When it does not within 20 s.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            // Its last output must be taken, or it could block on a full terminal.
            self.read_some(Duration::from_millis(20));
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > end {
                let _ = self.child.kill();
                panic!(
                    "still running after 20 s; the terminal shows {:?}",
                    self.seen
                );
            }
        }
    }

    /// Reads once if there is something; `false` once the other side is closed.
    fn read_some(&mut self, wait: Duration) -> bool {
        let wait = Timespec::try_from(wait).unwrap();
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut fds, Some(&wait)).unwrap_or(0) == 0 {
            return true;
        }
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Ok(n) if n > 0 => {
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
                true
            }
            // EIO is how a terminal says that nobody has it open.
            _ => {
                std::thread::sleep(Duration::from_millis(10));
                false
            }
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // Errors mean that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: impl std::os::fd::AsFd, rows: u16, cols: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}

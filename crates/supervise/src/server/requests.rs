//! What becomes of each request.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::termios::{Winsize, tcsetwinsize};
use sys::Context as _;

use super::Supervisor;
use super::connection::Caller;
use crate::protocol::{Kind, Part, Reply, Request, Signal, Status};
use crate::{Error, Result};

impl Supervisor {
    /// Acts on a request; an error becomes its reply.
    pub(super) fn request(
        &mut self,
        caller: Caller,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<()> {
        match request {
            Request::Create(create) => self.create(caller, *create)?,
            Request::Start(id) => self.start_container(caller, &id)?,
            Request::Signal(signal) => {
                let result = self.signal(&signal);
                self.answer(caller, result);
            }
            Request::Stop(stop) => self.stop(caller, &stop)?,
            Request::Delete(delete) => self.delete(caller, &delete)?,
            Request::Exec(exec) => self.exec(caller, *exec, fds)?,
            Request::ExecSync(exec) => self.exec_sync(caller, *exec)?,
            Request::SignalExec(key, signal) => {
                let result = self.signal_command(key, signal);
                self.answer(caller, result);
            }
            Request::Attach(attach) => self.attach(caller, &attach)?,
            Request::Resize(id, rows, columns) => {
                let result = self.resize(&id, rows, columns);
                self.answer(caller, result);
            }
            Request::ReopenLog(id) => {
                let result = self.reopen_log(&id);
                self.answer(caller, result);
            }
            Request::List => {
                let list: Vec<Status> = self.containers.values().map(|c| c.snapshot()).collect();
                self.reply(caller, Reply::List(list));
            }
            Request::Keep(id) => self.keep(caller, &id)?,
            Request::Adopt(adopt) => {
                let result = self.adopt(&adopt, fds);
                self.answer(caller, result);
            }
            Request::Events(after) => self.subscribe(caller, after),
            Request::Acknowledge(number) => self.acknowledge(caller, number),
            Request::Quit => {
                let result = self.try_to_quit();
                self.answer(caller, result);
            }
        }
        Ok(())
    }

    fn try_to_quit(&mut self) -> Result<()> {
        match self.containers.values().next() {
            Some(container) => {
                let text = format!("container {:?} still exists", container.id());
                Err(Error::of_kind(Kind::WrongState, text))
            }
            None => {
                self.quit = true;
                Ok(())
            }
        }
    }

    fn signal(&mut self, wish: &Signal) -> Result<()> {
        let key = self.by_id(&wish.id)?;
        let sent = self.send_signal(key, wish.signal, &wish.by);
        if !wish.all {
            return sent;
        }
        // Others may live on without the first one.
        self.signal_all(key, wish.signal);
        Ok(())
    }

    fn resize(&mut self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let key = self.by_id(id)?;
        let terminal = self.containers.get(&key).and_then(|c| c.terminal());
        let terminal = terminal.ok_or_else(|| {
            let text = format!("container {id:?} has no terminal");
            Error::of_kind(Kind::WrongState, text)
        })?;
        set_size(terminal, rows, columns)
    }

    fn reopen_log(&mut self, id: &str) -> Result<()> {
        let key = self.by_id(id)?;
        match self.containers.get_mut(&key).and_then(|c| c.log.as_mut()) {
            Some(log) => log.reopen(),
            None => Ok(()),
        }
    }

    fn keep(&mut self, caller: Caller, id: &str) -> Result<()> {
        let key = self.by_id(id)?;
        let kept = self.containers.get(&key).map(|c| c.kept());
        let kept = kept.transpose()?.unwrap_or_default();
        let parts: Vec<Part> = kept.iter().map(|(part, _)| *part).collect();
        let fds: Vec<BorrowedFd<'_>> = kept.iter().map(|(_, fd)| fd.as_fd()).collect();
        self.reply_with(caller, Reply::Descriptors(parts), &fds);
        Ok(())
    }
}

/// Sets the size of a terminal.
pub(super) fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size).context("ioctl", || "ptmx, TIOCSWINSZ")?)
}

//! Starting a supervisor.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{AtFlags, CWD, Mode, chmodat, unlinkat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use sys::{Context as _, Errno};

use crate::{Result, SOCKET};

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 128;

/// A supervisor to be started.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The program `hull`.
    pub program: &'a Path,
    /// State root of the containers, where `hull list` looks for them.
    pub root: &'a Path,
    /// Directory of the pod, made where missing: its socket and what it writes down.
    pub dir: &'a Path,
    /// Go on with what another supervisor has left there.
    pub resume: bool,
    /// Where its messages go, of which there are few.
    pub stderr: Stdio,
}

impl Launch<'_> {
    /// Starts it. Clients can connect at once: the socket is made here. The child must be waited
    /// for when it has ended.
    ///
    /// # Errors
    /// The socket cannot be made, or the program not be started.
    pub fn start(self) -> Result<Child> {
        let listener = listener(self.dir)?;
        let mut command = Command::new(self.program);
        command.arg("--root").arg(self.root).arg("supervise");
        if self.resume {
            command.arg("--resume");
        }
        command
            .arg(self.dir)
            .stdin(listener)
            .stdout(Stdio::null())
            .stderr(self.stderr);
        let child = command.spawn();
        let args = || format!("{:?} supervise {:?}", self.program, self.dir);
        Ok(child.context("spawn", args)?)
    }
}

/// The listening socket of a pod, mode 0600.
///
/// # Errors
/// The step that failed.
pub(crate) fn listener(dir: &Path) -> Result<OwnedFd> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let made = builder.recursive(true).create(dir);
    made.context("mkdir", || format!("{}, 0700", dir.display()))?;
    let path: PathBuf = dir.join(SOCKET);
    let args = || path.display().to_string();
    match unlinkat(CWD, &path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(sys::Error::new("unlink", args(), e).into()),
    }
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .context("socket", || "AF_UNIX, SOCK_SEQPACKET")?;
    let (_directory, address) = runtime::console::unix_address(&path)?;
    bind(socket.as_fd(), &address).context("bind", args)?;
    // The directory lets nobody else in meanwhile.
    chmodat(CWD, &path, Mode::RUSR | Mode::WUSR, AtFlags::empty()).context("chmod", args)?;
    listen(&socket, BACKLOG).context("listen", args)?;
    Ok(socket)
}

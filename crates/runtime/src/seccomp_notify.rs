//! Handing the listener of a system-call filter to its agent (config-linux.md, Seccomp).

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg};
use spec::oci::{ContainerProcessState, Seccomp, State};
use sys::Context as _;

use crate::console::connect_to;
use crate::{Doing as _, Error, Result};

/// Sends `listener`, the descriptor that seccomp(2) gave process `pid`, to the agent at
/// `listenerPath`: one connection, one document, the descriptor with its first byte.
///
/// # Errors
/// A path that is not set, connect(2)'s, sendmsg(2)'s.
pub fn forward(seccomp: &Seccomp, pid: i32, state: &State, listener: impl AsFd) -> Result<()> {
    if seccomp.listener_path.is_empty() {
        let text = "the seccomp profile notifies, but listenerPath is not set";
        return Err(Error::Invalid(text.to_owned()));
    }
    let document = ContainerProcessState {
        oci_version: state.oci_version.clone(),
        fds: vec!["seccompFd".to_owned()],
        pid,
        metadata: seccomp.listener_metadata.clone(),
        state: state.clone(),
    };
    let json = serde_json::to_vec(&document).map_err(|source| Error::Json {
        what: "container process state".to_owned(),
        source,
    })?;
    let path = Path::new(&seccomp.listener_path);
    let doing = || format!("send the seccomp listener to {:?}", seccomp.listener_path);
    let socket = connect_to(path).doing(doing)?;
    send_document(&socket, &json, listener.as_fd()).doing(doing)
}

fn send_document(socket: impl AsFd, json: &[u8], listener: impl AsFd) -> Result<()> {
    let fds = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let data = [IoSlice::new(json)];
    let mut sent = sendmsg(&socket, &data, &mut control, SendFlags::NOSIGNAL)
        .context("sendmsg", || "SCM_RIGHTS")?;
    // A stream takes what it has room for; the descriptor went with the first part.
    while let Some(rest) = json.get(sent..).filter(|rest| !rest.is_empty()) {
        match send(&socket, rest, SendFlags::NOSIGNAL) {
            Ok(n) => sent += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(sys::Error::new("send", "the rest", e).into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;

    #[test]
    fn one_document_and_its_descriptor() {
        let dir = std::env::temp_dir().join(format!("hull-notify-fd-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("agent");
        let agent = UnixListener::bind(&path).unwrap();
        let large = "x".repeat(1 << 20);
        let receiver = std::thread::spawn(move || {
            let (mut stream, _) = agent.accept().unwrap();
            let (start, fd) = crate::console::receive_fd(&stream).unwrap().unwrap();
            let mut rest = String::new();
            stream.read_to_string(&mut rest).unwrap();
            (start + &rest, fd)
        });
        let seccomp = Seccomp {
            listener_path: path.to_str().unwrap().to_owned(),
            listener_metadata: "mark".to_owned(),
            ..Seccomp::default()
        };
        let mut state = State {
            id: "c".to_owned(),
            oci_version: "1.3.0".to_owned(),
            ..State::default()
        };
        state.annotations.insert("large".to_owned(), large);
        let file = std::fs::File::open("/dev/null").unwrap();
        forward(&seccomp, 42, &state, &file).unwrap();
        let (text, fd) = receiver.join().unwrap();
        let read: ContainerProcessState = serde_json::from_str(&text).unwrap();
        assert_eq!((read.pid, read.metadata.as_str()), (42, "mark"));
        assert_eq!(read.fds, ["seccompFd"]);
        assert_eq!(read.state.id, "c");
        let rdev = |fd: std::os::fd::BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_rdev;
        assert_eq!(rdev(fd.as_fd()), rdev(file.as_fd()));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn nobody_there_is_an_error() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let seccomp = Seccomp {
            listener_path: "/no/agent".to_owned(),
            ..Seccomp::default()
        };
        let text = forward(&seccomp, 1, &State::default(), &file)
            .unwrap_err()
            .to_string();
        assert_eq!(
            text,
            "send the seccomp listener to \"/no/agent\": connect(/no/agent): no such file or directory"
        );
        assert!(forward(&Seccomp::default(), 1, &State::default(), &file).is_err());
    }
}

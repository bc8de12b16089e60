//! The CRI's socket: our own, or one that a service manager keeps while there is no daemon, so that
//! who calls meanwhile waits instead of being refused (sd_listen_fds(3)).

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tokio::net::UnixListener;

use crate::config::Config;

/// The CRI's socket, and the file to be removed at the end, if it is ours: mode 0660, for root and
/// one group.
pub(crate) fn listen(
    config: &Config,
    passed: Vec<OwnedFd>,
) -> Result<(UnixListener, Option<PathBuf>)> {
    if let Some(passed) = of_manager(passed)? {
        return Ok((passed, None));
    }
    let path = &config.daemon.socket;
    let what = || format!("listen({})", path.display());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(what)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!("{}: another daemon serves it", what());
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).with_context(what),
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(what)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).with_context(what)?;
    if !config.daemon.socket_group.is_empty() {
        let group = group_id(&config.daemon.socket_group)?;
        std::os::unix::fs::chown(path, None, Some(group)).with_context(what)?;
    }
    Ok((listener, Some(path.clone())))
}

fn group_id(name: &str) -> Result<u32> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let groups = fs::read_to_string("/etc/group").context("read(/etc/group)")?;
    let of_name = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    };
    groups
        .lines()
        .find_map(of_name)
        .with_context(|| format!("daemon.socket-group {name}: /etc/group does not have it"))
}

/// The socket that the service manager has passed, if it has.
fn of_manager(passed: Vec<OwnedFd>) -> Result<Option<UnixListener>> {
    let mut sockets = passed.into_iter();
    let Some(socket) = sockets.next() else {
        return Ok(None);
    };
    if sockets.next().is_some() {
        bail!("LISTEN_FDS: more than one socket; the unit hulld.socket has one, for the CRI");
    }
    let what = "LISTEN_FDS: serve the socket of the unit hulld.socket";
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.local_addr().context(what)?;
    listener.set_nonblocking(true).context(what)?;
    UnixListener::from_std(listener).context(what).map(Some)
}

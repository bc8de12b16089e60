//! User namespaces that only serve as an id map for mounts.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions};
use spec::oci::IdMapping;
use spec::plan::{IdMaps, NamespaceKind};
use sys::process::{CloneArgs, Cloned, clone3};
use sys::{Context as _, Result, trace};

/// Opens an existing namespace.
pub(crate) fn open_namespace(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context("open", || format!("{path:?}"))
}

/// A new user namespace with these maps. It belongs to a process that ends with this call; the
/// descriptor keeps the namespace.
///
/// # Errors
/// clone3(2)'s, and those of writing the maps.
pub fn user_namespace(maps: &IdMaps) -> Result<OwnedFd> {
    trace::step(
        "clone3",
        || "user namespace as the id map of a mount",
        || {
            let (wait, release) = pipe_with(PipeFlags::CLOEXEC).context("pipe2", || "O_CLOEXEC")?;
            let args = CloneArgs {
                flags: NamespaceKind::User.clone_flag(),
                cgroup: None,
            };
            match clone3(&args)? {
                Cloned::Child => {
                    drop(release);
                    // End of file, when the parent is done or dead, is the sign to leave.
                    let _ = rustix::io::read(&wait, &mut [0u8; 1]);
                    sys::process::exit_now(0)
                }
                Cloned::Parent { pid, pidfd } => {
                    drop(wait);
                    let namespace = map_and_open(pid, maps);
                    drop(release);
                    let holder = WaitId::PidFd(pidfd.as_fd());
                    rustix::process::waitid(holder, WaitIdOptions::EXITED)
                        .context("waitid", || "holder of an id map")?;
                    namespace
                }
            }
        },
    )
}

fn map_and_open(pid: Pid, maps: &IdMaps) -> Result<OwnedFd> {
    let dir = format!("/proc/{}", pid.as_raw_nonzero());
    write_map(&format!("{dir}/uid_map"), &maps.uids)?;
    write_map(&format!("{dir}/gid_map"), &maps.gids)?;
    open_namespace(Path::new(&format!("{dir}/ns/user")))
}

/// The kernel takes a map in one write(2) only (user_namespaces(7)).
fn write_map(path: &str, map: &[IdMapping]) -> Result<()> {
    std::fs::write(path, map_text(map)).context("write", || format!("{path:?}, {map:?}"))
}

fn map_text(map: &[IdMapping]) -> String {
    map.iter()
        .map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_range() {
        let range = |container_id, host_id, size| IdMapping {
            container_id,
            host_id,
            size,
        };
        assert_eq!(
            map_text(&[range(0, 1000, 1), range(1, 100_000, 65_536)]),
            "0 1000 1\n1 100000 65536\n"
        );
    }
}

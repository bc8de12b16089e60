//! A user without privileges becomes root of a user namespace of their own, as `podman unshare`
//! does: unprivileged outside, root inside. All that follows then works as it does for root, as far
//! as the kernel lets the root of a user namespace.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::{WaitOptions, getegid, geteuid, getpid, waitpid};
use rustix::thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid};
use spec::oci::IdMapping;
use spec::plan::{IdMaps, NamespaceKind};
use sys::process::{CloneArgs, Cloned, clone3};

/// Enters a user namespace as its root and begins again there, unless we are root. `warn` hears
/// where fewer ids are mapped than a container usually needs.
///
/// Our memory belongs to the user namespace that we were executed in: without beginning again the
/// root of the new one could not look into our children's /proc.
pub fn become_root(warn: &mut dyn FnMut(&str)) -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    enter(&own_maps(warn))?;
    let mut words = std::env::args_os();
    let mut again = Command::new("/proc/self/exe");
    if let Some(name) = words.next() {
        again.arg0(name);
    }
    Err(again.args(words).exec()).context("execve(/proc/self/exe)")
}

/// Whether a group of this number can be had here.
pub fn has_group(id: u32) -> bool {
    let text = fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    text.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (Some(Ok(first)), _, Some(Ok(count))) = (fields.next(), fields.next(), fields.next())
        else {
            return false;
        };
        id.checked_sub(first).is_some_and(|n| n < count)
    })
}

fn enter(maps: &IdMaps) -> Result<()> {
    let (mut ours, theirs) = UnixStream::pair().context("socketpair")?;
    let this = getpid().as_raw_nonzero().get();
    // Who is inside has no right to write the map of more than one id: somebody outside must.
    let helper = match clone3(&CloneArgs::default())? {
        Cloned::Child => {
            drop(ours);
            write_maps(theirs, this, maps);
            sys::process::exit_now(0)
        }
        Cloned::Parent { pid, .. } => pid,
    };
    drop(theirs);
    let entered = sys::namespace::unshare(NamespaceKind::User.clone_flag());
    let mut said = String::new();
    if entered.is_ok() {
        ours.write_all(&[0]).context("write(map helper)")?;
        ours.read_to_string(&mut said).context("read(map helper)")?;
    }
    drop(ours);
    waitpid(Some(helper), WaitOptions::empty()).context("wait4(map helper)")?;
    entered.context("a user namespace: see user_namespaces(7) for the limits on them")?;
    if !said.is_empty() {
        bail!("map our ids: {said}");
    }
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).context("setresgid(0)")?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).context("setresuid(0)")
}

/// The helper: waits until its parent has unshared, and says what went wrong.
fn write_maps(mut parent: UnixStream, pid: i32, maps: &IdMaps) {
    let mut byte = [0];
    // End of file: the parent could not unshare, and says so itself.
    if parent.read_exact(&mut byte).is_err() {
        return;
    }
    if let Err(e) = runtime::idmap::write(pid, maps) {
        // A parent that has gone needs no answer.
        let _ = parent.write_all(e.to_string().as_bytes());
    }
}

/// Ourselves as root and the subordinate ids above; ourselves alone where there are none, or where
/// the programs are missing that may map them.
fn own_maps(warn: &mut dyn FnMut(&str)) -> IdMaps {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let alone = |id| {
        vec![IdMapping {
            container_id: 0,
            host_id: id,
            size: 1,
        }]
    };
    let name = user_name(uid);
    let more = subordinate("/etc/subuid", &name, uid)
        .and_then(|uids| Ok((uids, subordinate("/etc/subgid", &name, uid)?)))
        .and_then(|ids| helpers().map(|()| ids));
    match more {
        Ok((uids, gids)) => IdMaps {
            uids: [alone(uid), vec![uids]].concat(),
            gids: [alone(gid), vec![gids]].concat(),
        },
        Err(why) => {
            warn(&format!("only root is mapped, to you: {why}"));
            IdMaps {
                uids: alone(uid),
                gids: alone(gid),
            }
        }
    }
}

/// The programs that may map more than our own id.
fn helpers() -> std::result::Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for name in ["newuidmap", "newgidmap"] {
        if !std::env::split_paths(&path).any(|dir| dir.join(name).is_file()) {
            return Err(format!(
                "{name}: not in $PATH (Debian has it in the package uidmap)"
            ));
        }
    }
    Ok(())
}

/// Our first range in a file of subuid(5) or subgid(5).
fn subordinate(file: &str, name: &str, uid: u32) -> std::result::Result<IdMapping, String> {
    let text = fs::read_to_string(file).map_err(|e| format!("open({file}): {e}"))?;
    range_of(&text, name, uid).ok_or_else(|| {
        format!(
            "{file}: no ids for {name}; `usermod --add-subuids 100000-165535 {name}` gives some"
        )
    })
}

fn range_of(text: &str, name: &str, uid: u32) -> Option<IdMapping> {
    let uid = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (count > 0 && (owner == name || owner == uid)).then_some(IdMapping {
            container_id: 1,
            host_id: first,
            size: count,
        })
    })
}

/// The name in passwd(5), or the number.
fn user_name(uid: u32) -> String {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = uid.to_string();
    let name = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or(uid)
}

/// A directory for what ends with us: the machine's, or the user's.
pub fn run_dir() -> std::path::PathBuf {
    match runtime::root::of_user(runtime::is_rootless()) {
        Some(state) => state.with_file_name("hullctl"),
        None => Path::new("/run/hullctl").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let text = "# comment\nother:1:2\nme:100000:65536\n1000:7:8\nme:5:5\nbad:x:y\n";
        let range = |name, uid| range_of(text, name, uid).map(|m| (m.host_id, m.size));
        assert_eq!(range("me", 4), Some((100_000, 65_536)));
        assert_eq!(range("nobody", 1000), Some((7, 8)));
        assert_eq!(range("bad", 1), None);
        assert_eq!(range("me", 1000), Some((100_000, 65_536)));
    }
}

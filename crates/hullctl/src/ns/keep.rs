//! Namespaces that stay without a process: bound to files.
//!
//! `hullctl ns add NAME` puts them where others look: network namespaces in /run/netns, as
//! `ip netns` does, the other kinds in directories beside it.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, unmount,
};
use spec::plan::NamespaceKind;

use super::kinds::{KINDS, Kind};
use super::waiting::{Side, fork};

/// Kinds that can be kept without a process inside and without rights of another one's.
const KEPT: [NamespaceKind; 4] = [
    NamespaceKind::Network,
    NamespaceKind::Uts,
    NamespaceKind::Ipc,
    NamespaceKind::Cgroup,
];

/// The definition of `add`.
pub fn add_command() -> Command {
    Command::new("add")
        .about("Make namespaces that stay until they are removed")
        .after_help(
            "Examples:\n  hullctl ns add blue\n      a network namespace in /run/netns/blue, for `ip netns exec blue` too\n  hullctl ns add blue --net --uts --ipc\n      one of each kind, in /run/netns, /run/utsns and /run/ipcns\n  hullctl ns enter --net=/run/netns/blue ip link",
        )
        .arg(name())
        .args(kept().map(|k| {
            Arg::new(k.long).long(k.long).short(k.short).action(ArgAction::SetTrue)
                .help(format!("{} namespace: {}", k.long, k.keeps))
        }))
}

/// The definition of `rm`.
pub fn remove_command() -> Command {
    Command::new("rm")
        .about("Remove namespaces that `hullctl ns add` or `ip netns add` made")
        .after_help("Examples:\n  hullctl ns rm blue\n      all kinds of that name; processes inside keep theirs until they end")
        .arg(name())
}

fn name() -> Arg {
    Arg::new("name")
        .required(true)
        .value_name("NAME")
        .help("Name of the file; letters, digits, - _ .")
}

fn kept() -> impl Iterator<Item = Kind> {
    KINDS.into_iter().filter(|k| KEPT.contains(&k.kind))
}

fn checked_name(m: &ArgMatches) -> Result<String> {
    let name = m.get_one::<String>("name").cloned().unwrap_or_default();
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(fine) {
        bail!("ns: {name:?} is no name; letters, digits, - _ . are allowed, and no dot in front");
    }
    Ok(name)
}

/// Where namespaces of a kind are kept.
pub fn directory(kind: NamespaceKind) -> PathBuf {
    PathBuf::from(format!("/run/{}ns", kind.proc_name()))
}

/// Makes the namespaces.
pub fn add(m: &ArgMatches) -> Result<ExitCode> {
    let name = checked_name(m)?;
    let mut kinds: Vec<NamespaceKind> = kept()
        .filter(|k| m.get_flag(k.long))
        .map(|k| k.kind)
        .collect();
    if kinds.is_empty() {
        kinds.push(NamespaceKind::Network);
    }
    let mut made: Vec<PathBuf> = Vec::new();
    for kind in kinds {
        let file = directory(kind).join(&name);
        if let Err(e) = add_one(kind, &file) {
            // What was made before goes again; the first error is the one to report.
            made.iter().for_each(|file| drop(release(file)));
            return Err(e);
        }
        println!("{}", file.display());
        made.push(file);
    }
    Ok(ExitCode::SUCCESS)
}

fn add_one(kind: NamespaceKind, file: &Path) -> Result<()> {
    if file.exists() {
        bail!(
            "ns add: {} exists already; remove it with `hullctl ns rm`",
            file.display()
        );
    }
    share(&directory(kind))?;
    // A child makes the namespace: this process stays where it is for the next kind.
    match fork()? {
        Side::Child => {
            let done = sys::namespace::unshare(kind.clone_flag())
                .map_err(anyhow::Error::from)
                .and_then(|()| bind(&format!("/proc/self/ns/{}", kind.proc_name()), file));
            if let Err(e) = &done {
                eprintln!("hullctl: ns add: {e:#}");
            }
            sys::process::exit_now(i32::from(done.is_err()))
        }
        Side::Parent(pid) => {
            let status = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
                .with_context(|| format!("waitpid({})", pid.as_raw_nonzero()))?;
            let code = status.and_then(|(_, s)| s.exit_status());
            if code != Some(0) {
                let _ = fs::remove_file(file);
                bail!("ns add: {} was not made", file.display());
            }
            Ok(())
        }
    }
}

/// Makes the directory a shared mount, as `ip netns` does: what is bound below it is then seen
/// in mount namespaces that were made before.
fn share(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("mkdir({})", dir.display()))?;
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    match mount_change(dir, shared) {
        Ok(()) => return Ok(()),
        // Not a mount point yet.
        Err(Errno::INVAL) => {}
        Err(e) => return Err(e).with_context(|| format!("mount({}, MS_SHARED)", dir.display())),
    }
    mount_bind_recursive(dir, dir).with_context(|| format!("mount({}, MS_BIND)", dir.display()))?;
    mount_change(dir, shared).with_context(|| format!("mount({}, MS_SHARED)", dir.display()))
}

/// Binds the namespace at `source` to a file, which is made if missing.
pub fn bind(source: &str, file: &Path) -> Result<()> {
    if let Err(e) = File::options().create(true).append(true).open(file) {
        return Err(e).with_context(|| format!("open({}, O_CREAT)", file.display()));
    }
    mount_bind(source, file).map_err(|e| {
        let advice = match e {
            Errno::INVAL => "; a mount namespace can only be kept on a mount that is private: `mount --bind DIR DIR; mount --make-private DIR`",
            _ => "",
        };
        anyhow::anyhow!("mount({source}, {}, MS_BIND): {}{advice}", file.display(), sys::ErrnoText(e))
    })
}

/// Removes what has this name.
pub fn remove(m: &ArgMatches) -> Result<ExitCode> {
    let name = checked_name(m)?;
    let mut found = false;
    for k in kept() {
        let file = directory(k.kind).join(&name);
        if file.exists() {
            found = true;
            release(&file)?;
        }
    }
    if !found {
        bail!("ns rm: {name}: no such namespace; `hullctl ns ls --persistent` shows what there is");
    }
    Ok(ExitCode::SUCCESS)
}

fn release(file: &Path) -> Result<()> {
    let is_namespace = File::open(file).is_ok_and(|f| sys::nsfs::kind(f.as_fd()).is_ok());
    if is_namespace {
        unmount(file, UnmountFlags::DETACH)
            .with_context(|| format!("umount2({}, MNT_DETACH)", file.display()))?;
    }
    fs::remove_file(file).with_context(|| format!("unlink({})", file.display()))
}

//! `restore`.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rootfs::{Last, Procfs, Root, Want};
use rustix::fs::Mode;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::Pid;
use spec::Plan;
use spec::plan::{MountKind, NamespaceKind};
use sys::{Context as _, Errno};

use super::log::Log;
use super::message::{Kind, Options};
use super::swrk::{Criu, Notification};
use super::{Common, outside, require, streams, verify};
use crate::container::CONFIG;
use crate::create::{self, Prepared, Start, claim};
use crate::foreground::Foreground;
use crate::root::{ContainerDir, StateRoot};
use crate::{
    Container, Doing as _, Error, ProcessId, Result, Status, Warn, console, hooks, netdev,
    pid_file, teardown,
};

const LOG: &str = "restore.log";
/// Where the root file system is mounted for criu, in the state directory: it wants a mount point
/// whose parent is not covered.
const CRIU_ROOT: &str = "criu-root";

/// What `restore` is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it has in common with `create` and `run`.
    pub create: create::Request,
    /// What it has in common with `checkpoint`.
    pub common: Common,
    /// Do not become the reaper of orphans.
    pub no_subreaper: bool,
    /// `apparmor:PROFILE` or `selinux:LABEL` in place of the one saved.
    pub lsm_profile: Option<String>,
    /// SELinux context of mounts in place of the one saved.
    pub lsm_mount_context: Option<String>,
}

/// Makes a container from its configuration and the processes of an image. Returns the exit code
/// of its program, or 0 at once with [`Start::Detached`].
///
/// The configuration rules: an image cannot bring in a mount, a right or a namespace that it does
/// not give.
///
/// # Errors
/// As for [`create::create`], and criu's failure; everything is undone.
pub fn restore(root: &StateRoot, request: &Request, warn: Warn<'_>) -> Result<i32> {
    let stays = request.create.start == Start::Attached;
    let foreground = if stays {
        Some(Foreground::begin(!request.no_subreaper)?)
    } else {
        None
    };
    let criu = require(false, request.common.switches.lazy_pages)?;
    let prepared = Prepared::new(root, &request.create, warn)?;
    let container = claim(root, &prepared, warn)?;
    let mut restoring = Restoring {
        container,
        prepared,
        request,
        log: request.common.log(criu, LOG),
        owns_cgroups: false,
        pid: None,
        refused: false,
        console: None,
    };
    let pid = match restoring.restore(warn) {
        Ok(pid) => pid,
        Err(e) => return Err(restoring.undo(root, e, warn)),
    };
    let Some(foreground) = foreground else {
        return Ok(0);
    };
    let code = foreground.attend(pid, restoring.console.take())?;
    if let Err(e) = teardown::teardown(root, &restoring.container, true, warn) {
        warn(&e.to_string());
    }
    Ok(code)
}

/// A container in the making.
struct Restoring<'a> {
    container: Container,
    prepared: Prepared,
    request: &'a Request,
    log: Log,
    owns_cgroups: bool,
    /// The first process, once it is there.
    pid: Option<i32>,
    /// What was restored has more than was configured.
    refused: bool,
    /// The master of its terminal, where it is not sent to anybody.
    console: Option<OwnedFd>,
}

impl Restoring<'_> {
    fn restore(&mut self, warn: Warn<'_>) -> Result<Pid> {
        self.container.dir.write(CONFIG, &self.prepared.config)?;
        self.prepared.manager.create()?;
        self.owns_cgroups = true;
        self.container.record.cgroup = Some(self.prepared.manager.state());
        let resources = &self.prepared.plan.cgroup.resources;
        let warnings = self.prepared.manager.apply(resources)?;
        warnings.iter().for_each(|w| warn(w));
        make_mount_points(&self.prepared.plan)?;
        let mounted = CriuRoot::mount(&self.prepared.plan.root.path, &self.container.dir)?;
        let restored = self.options(&mounted);
        let restored = restored.and_then(|(options, fds)| self.run(options, &fds));
        let unmounted = mounted.unmount();
        let pid = restored?;
        unmounted?;
        self.commit(pid)
    }

    fn options(&self, mounted: &CriuRoot) -> Result<(Options, Vec<OwnedFd>)> {
        let common = &self.request.common;
        let plan = &self.prepared.plan;
        let mut options = common.options(&self.container, LOG, false)?;
        options.root = Some(text(&mounted.path));
        options.lsm_profile.clone_from(&self.request.lsm_profile);
        options
            .lsm_mount_context
            .clone_from(&self.request.lsm_mount_context);
        options.switches.restore_sibling = true;
        options.switches.evasive_devices = true;
        options.inherited = streams::inherited(common)?;
        let namespaces = outside::open_namespaces(plan, &mut options)?;
        let root = open_root(&plan.root.path)?;
        let mut external = outside::mounts(plan, &self.prepared.manager, &root);
        if !plan.masked_paths.is_empty() {
            external.push(outside::External {
                place: "/dev/null".into(),
                source: "/dev/null".into(),
            });
        }
        // When restoring, the key of a mount is what it was called, and its value the source.
        let mounts = external.iter().map(|e| (text(&e.place), text(&e.source)));
        options.external_mounts = mounts.collect();
        Ok((options, namespaces))
    }

    fn run(&mut self, mut options: Options, namespaces: &[OwnedFd]) -> Result<i32> {
        let inherited: Vec<_> = namespaces.iter().map(|fd| fd.as_fd()).collect();
        let mut criu = Criu::start_for_restore(&inherited)?;
        // Restored processes are born where criu is.
        let pid = i32::try_from(criu.pid()).ok().and_then(Pid::from_raw);
        self.prepared.manager.join(pid.ok_or(Error::NotRunning)?)?;
        options.cgroup_roots = cgroup_roots(criu.pid())?;
        let log = self.log.clone();
        let response = criu.run(Kind::Restore, &options, &log, |n| self.notified(n));
        if self.refused {
            // It would wait for the end of a first process that waits for others, whose ends only
            // a tracer is told: itself.
            criu.kill()?;
        }
        let response = response?;
        let pid = response.restored_pid;
        pid.ok_or_else(|| Error::Criu("criu did not say what it restored".to_owned()))
    }

    fn notified(&mut self, notification: Notification) -> Result<()> {
        let Notification { name, pid, fd } = notification;
        match name.as_str() {
            "setup-namespaces" => {
                let namespaces = &self.prepared.plan.namespaces;
                if namespaces.is_new(NamespaceKind::Network) {
                    furnish_network(&self.prepared.plan, pid)?;
                }
                let state = self.container.record.oci_state(Status::Creating, pid);
                let hooks = &self.prepared.plan.hooks.create_runtime;
                hooks::run_all("createRuntime", hooks, &state)
            }
            "post-restore" => {
                self.pid = Some(pid);
                Ok(())
            }
            "pre-resume" => self.judge(),
            "orphan-pts-master" => {
                let missing = || Error::Criu("criu sent no terminal".to_owned());
                let master = fd.ok_or_else(missing)?;
                match &self.prepared.console_socket {
                    Some(socket) => console::send_fd(socket, console::MASTER_NAME, &master),
                    None => {
                        self.console = Some(master);
                        Ok(())
                    }
                }
            }
            _ => Ok(()),
        }
    }

    /// Measures the restored processes. Everything is there, rights and filters as well, and
    /// nothing of it runs yet. criu would let them go whatever the answer is: those that fail are
    /// killed here.
    fn judge(&mut self) -> Result<()> {
        // criu itself is in the control groups too: it is the tree that counts.
        let pids = self.pid.map(tree).transpose()?.unwrap_or_default();
        let judged = verify(&self.prepared.plan, &pids);
        if judged.is_err() {
            self.refused = true;
            for pid in pids.into_iter().filter_map(Pid::from_raw) {
                match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(e) => return Err(sys::Error::new("kill", "restored process", e).into()),
                }
            }
        }
        judged
    }

    /// Writes down that the container exists.
    fn commit(&mut self, pid: i32) -> Result<Pid> {
        let record = &mut self.container.record;
        record.init = ProcessId::of(pid)?;
        record.creator = None;
        let init = record.init.ok_or(Error::NotRunning)?;
        self.container.dir.save(&self.container.record)?;
        if let Some(socket) = &self.prepared.pidfd_socket {
            let pidfd = init.pidfd()?.ok_or(Error::NotRunning)?;
            console::send_fd(socket, console::PIDFD_NAME, &pidfd)?;
        }
        if let Some(path) = &self.request.create.pid_file {
            pid_file::write(path, pid)?;
        }
        Pid::from_raw(pid).ok_or(Error::NotRunning)
    }

    /// Unmakes everything; the error to report.
    fn undo(mut self, root: &StateRoot, error: Error, warn: Warn<'_>) -> Error {
        let mut errors = vec![error];
        let record = &mut self.container.record;
        if self.owns_cgroups {
            record.creator = None;
        } else {
            record.cgroup = None;
        }
        let undone = teardown::teardown(root, &self.container, false, warn);
        errors.extend(undone.doing(|| "undo").err());
        Error::from_several(errors).unwrap_or(Error::NotRunning)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Makes the network namespace of `pid` what creation makes of it: the loopback device up, the
/// kernel parameters as configured. This process has one thread, and is back in its own afterwards.
fn furnish_network(plan: &Plan, pid: i32) -> Result<()> {
    let open = |pid: &str| {
        let path = format!("/proc/{pid}/ns/net");
        std::fs::File::open(&path).context("open", || path)
    };
    let (own, other) = (open("self")?, open(&pid.to_string())?);
    let flag = NamespaceKind::Network.clone_flag();
    sys::namespace::setns(&other, flag)?;
    let done = netdev::loopback_up().and_then(|()| write_net_sysctls(plan));
    sys::namespace::setns(&own, flag)?;
    done
}

/// Below /proc/sys/net everybody sees the parameters of the namespace that they are in.
fn write_net_sysctls(plan: &Plan) -> Result<()> {
    let of_net = |(key, _): &&(String, String)| key.starts_with("net/");
    let mut keys = plan.sysctl.iter().filter(of_net).peekable();
    if keys.peek().is_none() {
        return Ok(());
    }
    let procfs = Procfs::whole()?;
    for (key, value) in keys {
        let written = procfs.write(&Path::new("sys").join(key), value.as_bytes());
        written.doing(|| format!("kernel parameter {key}"))?;
    }
    Ok(())
}

/// A process and its descendants, of which none runs.
fn tree(pid: i32) -> Result<Vec<i32>> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let tasks = format!("/proc/{pid}/task");
        let list = std::fs::read_dir(&tasks).context("opendir", || tasks)?;
        for task in list.flatten() {
            let path = task.path().join("children");
            let text = std::fs::read_to_string(&path);
            let text = text.context("read", || path.display().to_string())?;
            found.extend(
                text.split_whitespace()
                    .filter_map(|p| p.parse::<i32>().ok()),
            );
        }
        next += 1;
    }
    Ok(found)
}

/// The control groups criu is in, by controller: roots for those in the image.
fn cgroup_roots(pid: u32) -> Result<Vec<(String, String)>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).context("read", || path)?;
    Ok(parse_cgroups(&text))
}

/// cgroups(7): `id:controllers:path`.
fn parse_cgroups(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    lines
        .map(|(controllers, path)| (controllers.to_owned(), path.to_owned()))
        .collect()
}

/// Makes the mount points that the image's root file system lacks, inside of it.
fn make_mount_points(plan: &Plan) -> Result<()> {
    let root = open_root(&plan.root.path)?;
    for mount in &plan.mounts {
        let want = match &mount.kind {
            MountKind::Bind { source, .. } if !source.is_dir() => Want::File,
            _ => Want::Directory,
        };
        // Below another mount it is that one's business.
        let covered = plan.mounts.iter().any(|other| {
            mount.destination != other.destination
                && mount.destination.starts_with(&other.destination)
        });
        if !covered {
            root.place(&mount.destination, want, Last::Follow)
                .doing(|| format!("make the mount point {}", mount.destination.display()))?;
        }
    }
    Ok(())
}

fn open_root(path: &Path) -> Result<Root> {
    use rustix::fs::{CWD, OFlags, openat};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(CWD, path, flags, Mode::empty());
    Ok(Root::from_fd(
        fd.context("openat", || path.display().to_string())?,
    ))
}

/// The root file system as a mount point of its own, in a mount namespace that only this process
/// and criu are in: whatever becomes of them, nothing is left mounted.
struct CriuRoot {
    path: PathBuf,
}

impl CriuRoot {
    fn mount(rootfs: &Path, dir: &ContainerDir) -> Result<Self> {
        let path = dir.path().join(CRIU_ROOT);
        let args = || path.display().to_string();
        sys::namespace::unshare(NamespaceKind::Mount.clone_flag())?;
        let private = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).context("mount", || "/, MS_REC|MS_SLAVE")?;
        match rustix::fs::mkdir(&path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(sys::Error::new("mkdir", args(), e).into()),
        }
        let this = Self { path };
        let flags = MountFlags::BIND | MountFlags::REC;
        let mounted = rustix::mount::mount(rootfs, &this.path, "", flags, None);
        let args = || {
            format!(
                "{}, {}, MS_BIND|MS_REC",
                rootfs.display(),
                this.path.display()
            )
        };
        match mounted.context("mount", args) {
            Ok(()) => Ok(this),
            Err(e) => {
                // The directory is empty, and the first error the one to report.
                let _ = rustix::fs::rmdir(&this.path);
                Err(e.into())
            }
        }
    }

    /// Undoes it.
    fn unmount(self) -> Result<()> {
        let args = || self.path.display().to_string();
        rustix::mount::unmount(&self.path, UnmountFlags::DETACH).context("umount2", args)?;
        Ok(rustix::fs::rmdir(&self.path).context("rmdir", args)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_controller() {
        let text = "3:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/d\n";
        let pairs = [("cpu,cpuacct", "/a"), ("name=systemd", "/b:c"), ("", "/d")];
        let want: Vec<_> = pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        assert_eq!(parse_cgroups(text), want);
    }
}

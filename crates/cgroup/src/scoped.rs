//! [`Manager`] with the systemd driver: what differs from making directories ourselves.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::Pid;
use spec::oci::Resources;
use sys::Context as _;
use sys::file::read_text;

use crate::create::Made;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::join::{Joiner, open_gate};
use crate::layout::{Layout, Mode};
use crate::manager::{Manager, Request};
use crate::path::CgroupPath;
use crate::systemd::{SUBGROUP, Scope, UnitName, Value, bus_pid, properties};
use crate::v2;

/// What the systemd driver wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemdRequest<'a> {
    /// The container's annotations, for `org.systemd.property.*`; none where they are not to be
    /// trusted.
    pub annotations: Option<&'a BTreeMap<String, String>>,
}

/// What is kept from [`Manager::new`] until the scope is started.
#[derive(Debug)]
pub(crate) struct ScopeRequest {
    name: UnitName,
    id: String,
    extra: Vec<(String, Value)>,
    /// Opens when the process is where it belongs (eventfd(2)).
    gate: OwnedFd,
}

impl ScopeRequest {
    pub(crate) fn joiner(&self) -> Result<Joiner> {
        let gate = rustix::io::fcntl_dupfd_cloexec(&self.gate, 3)
            .context("fcntl", || "F_DUPFD_CLOEXEC, eventfd")?;
        Ok(Joiner::waiting(gate))
    }
}

impl Manager {
    pub(crate) fn scoped(
        layout: &Layout,
        request: &Request<'_>,
        systemd: &SystemdRequest<'_>,
    ) -> Result<Self> {
        let user = request.policy.rootless;
        if user && layout.mode != Mode::V2 {
            return Err(Error::Unavailable {
                reason: "a user's systemd can manage cgroup v2 only".into(),
            });
        }
        let name = UnitName::parse(request.path, request.id, user)?;
        let extra = systemd.annotations.map(properties::from_annotations);
        let extra = extra.transpose()?.unwrap_or_default();
        let mut path = name.path();
        if user {
            path = format!("{}/{path}", users_manager(layout));
        }
        if layout.mode == Mode::V2 {
            path = format!("{path}/{SUBGROUP}");
        }
        let mut manager = Self::in_layout(layout, &CgroupPath::Absolute(path), request);
        manager.scope = Some(Scope {
            unit: name.unit.clone(),
            user,
        });
        manager.scope_request = Some(ScopeRequest {
            name,
            id: request.id.to_owned(),
            extra,
            gate: eventfd(0, EventfdFlags::CLOEXEC).context("eventfd", || "0")?,
        });
        Ok(manager)
    }

    /// Whether [`Manager::start_scope`] is to be called once the first process exists.
    #[must_use]
    pub fn needs_scope(&self) -> bool {
        self.scope_request.is_some()
    }

    /// The systemd driver's create: has systemd start the scope with the container's first
    /// process in it, makes the groups that systemd does not, and moves the process there. The
    /// process waits for this in [`Joiner::join_self`]. All or nothing; after an error the
    /// caller kills the process.
    ///
    /// The limits that systemd keeps are passed along; [`Manager::apply`] is still to be called.
    ///
    /// # Errors
    /// systemd refused or did not answer, or a directory could not be made.
    pub fn start_scope(&mut self, pid: Pid, resources: &Resources) -> Result<()> {
        let (Some(scope), Some(request)) = (self.scope.clone(), self.scope_request.take()) else {
            return Ok(());
        };
        let is_v2 = self.mode == Mode::V2;
        let (name, id, extra) = (&request.name, &request.id, &request.extra);
        let properties = properties::start(name, id, bus_pid(pid), resources, is_v2, extra)?;
        scope.start(pid, &properties)?;
        let settled = self.settle(pid).and_then(|()| open_gate(&request.gate));
        settled.map_err(|e| {
            // The process goes with its scope.
            match scope.stop() {
                Ok(()) => e,
                Err(and) => Error::Many(vec![e, and]),
            }
        })
    }

    /// Makes and enters the groups below or beside the scope.
    fn settle(&mut self, pid: Pid) -> Result<()> {
        let mut made = Made::default();
        let proc = format!("/proc/{}/cgroup", pid.as_raw_nonzero());
        let place = read_text(Path::new(&proc))?;
        if self.mode == Mode::V2
            && let Some(tree) = &mut self.unified
        {
            // A user's manager is where the session put it: only the kernel knows.
            let scope = actual_scope(&place, tree);
            tree.dir = Dir::new(scope.join(SUBGROUP));
            made.mkdir_all(tree.dir.path(), &|_| Ok(()))?;
        } else {
            for group in &self.v1 {
                made.mkdir_all(group.dir.path(), &|dir| group.after_mkdir(dir))?;
            }
            if let Some(tree) = &self.unified {
                made.mkdir_all(tree.dir.path(), &|_| Ok(()))?;
            }
        }
        self.join(pid)?;
        // Only when nobody is in the scope itself can it hand controllers down.
        if self.mode == Mode::V2
            && let Some(tree) = &self.unified
            && let Some(scope) = tree.dir.path().parent()
        {
            v2::controllers::enable_all(scope, tree.dir.path())?;
        }
        made.keep();
        Ok(())
    }

    /// What lets an exec'd process into a group of a user's scope, where the user has no right to
    /// move processes from where we are to there.
    pub(crate) fn scope_entry(&self, dir: &Dir) -> Result<Option<Joiner>> {
        let (Some(scope), Some(tree)) = (&self.scope, &self.unified) else {
            return Ok(None);
        };
        let Some(top) = tree.dir.path().parent().filter(|_| scope.user) else {
            return Ok(None);
        };
        let own = read_text(Path::new("/proc/self/cgroup"))?;
        let own = own.lines().find_map(|l| l.strip_prefix("0::"));
        let own = tree
            .mountpoint
            .join(own.unwrap_or_default().trim_start_matches('/'));
        // cgroups(7), Delegation containment: writing to the common ancestor's cgroup.procs must
        // be allowed.
        let procs = common_ancestor(&own, dir.path()).join("cgroup.procs");
        let (access, flags) = (Access::WRITE_OK, AtFlags::EACCESS);
        if accessat(CWD, &procs, access, flags).is_ok() {
            return Ok(None);
        }
        let below = dir
            .path()
            .strip_prefix(top)
            .unwrap_or_else(|_| Path::new(""));
        Joiner::attached(scope.clone(), format!("/{}", below.display())).map(Some)
    }

    /// Changes limits of a container that exists: [`Manager::apply`], and systemd is told where it
    /// keeps them too; afterwards, so that it never hears of what is refused.
    ///
    /// # Errors
    /// See [`Manager::apply`]; or systemd refused.
    pub fn update(&self, resources: &Resources) -> Result<Vec<String>> {
        let warnings = self.apply(resources)?;
        if let Some(scope) = &self.scope {
            scope.set(resources, self.mode == Mode::V2)?;
        }
        Ok(warnings)
    }
}

/// The scope's directory, by what the process says where it is.
fn actual_scope(proc_cgroup: &str, tree: &v2::Tree) -> PathBuf {
    let own = proc_cgroup.lines().find_map(|l| l.strip_prefix("0::"));
    let expected = tree.dir.path().parent().unwrap_or_else(|| tree.dir.path());
    match own.map(|p| tree.mountpoint.join(p.trim_start_matches('/'))) {
        // Elsewhere only in name: a mount that shows a part of the tree.
        Some(path) if path.is_dir() && path.file_name() == expected.file_name() => path,
        _ => expected.to_owned(),
    }
}

fn common_ancestor(a: &Path, b: &Path) -> PathBuf {
    let both = a.components().zip(b.components());
    both.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// The control group of the user's manager: the one that we run below, or the usual one.
fn users_manager(layout: &Layout) -> String {
    let uid = rustix::process::getuid().as_raw();
    let usual = format!("user.slice/user-{uid}.slice/user@{uid}.service");
    let own = layout
        .unified
        .as_ref()
        .map(|h| h.own.as_str())
        .unwrap_or_default();
    let mut path = Vec::new();
    for part in own.split('/').filter(|p| !p.is_empty()) {
        path.push(part);
        if part.starts_with("user@") && part.ends_with(".service") {
            return path.join("/");
        }
    }
    usual
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Hierarchy;
    use crate::policy::Policy;

    fn layout(mode: Mode, own: &str) -> Layout {
        Layout {
            mode,
            v1: Vec::new(),
            unified: Some(Hierarchy {
                controllers: Vec::new(),
                mountpoint: "/m".into(),
                root: "/".into(),
                own: own.into(),
            }),
        }
    }

    fn unified(layout: &Layout, rootless: bool) -> Result<String> {
        let request = Request {
            path: Some("a-b.slice:p:n"),
            id: "c1",
            policy: Policy {
                rootless,
                ..Policy::default()
            },
            systemd: None,
        };
        let manager = Manager::scoped(layout, &request, &SystemdRequest::default())?;
        Ok(manager.paths()[""].display().to_string())
    }

    #[test]
    fn ancestors() {
        let common = |a: &str, b: &str| common_ancestor(Path::new(a), Path::new(b));
        assert_eq!(common("/m/a/b", "/m/a/c/d"), Path::new("/m/a"));
        assert_eq!(common("/m/ab", "/m/a"), Path::new("/m"));
        assert_eq!(common("/m/a", "/m/a"), Path::new("/m/a"));
    }

    #[test]
    fn places() {
        let system = layout(Mode::V2, "/system.slice/x.service");
        assert_eq!(
            unified(&system, false).unwrap(),
            "/m/a.slice/a-b.slice/p-n.scope/container"
        );
        let hybrid = layout(Mode::Hybrid, "/");
        assert_eq!(
            unified(&hybrid, false).unwrap(),
            "/m/a.slice/a-b.slice/p-n.scope"
        );
        assert!(unified(&hybrid, true).is_err());
        let user = layout(
            Mode::V2,
            "/user.slice/user-7.slice/user@7.service/app.slice/t.scope",
        );
        assert_eq!(
            unified(&user, true).unwrap(),
            "/m/user.slice/user-7.slice/user@7.service/a.slice/a-b.slice/p-n.scope/container"
        );
    }

    /// A process in a directory that looks like a scope in each hierarchy that systemd manages;
    /// killed and removed when dropped.
    struct Staged {
        child: std::process::Child,
        manager: Manager,
        scope: PathBuf,
    }

    impl Staged {
        fn new(layout: &Layout, name: &str) -> Self {
            let path = format!("-.slice:hull-test:{}-{name}", std::process::id());
            let request = Request {
                path: Some(&path),
                id: "c1",
                ..Request::default()
            };
            let systemd = SystemdRequest::default();
            let manager = Manager::scoped(layout, &request, &systemd).unwrap();
            let mut scope = manager.paths()[""].clone();
            if layout.mode == Mode::V2 {
                scope.pop();
            }
            std::fs::create_dir(&scope).unwrap();
            let child = std::process::Command::new("sleep").arg("100").spawn();
            let child = child.unwrap();
            std::fs::write(scope.join("cgroup.procs"), child.id().to_string()).unwrap();
            Self {
                child,
                manager,
                scope,
            }
        }

        fn pid(&self) -> Pid {
            Pid::from_raw(self.child.id().cast_signed()).unwrap()
        }

        fn cgroups(&self) -> String {
            std::fs::read_to_string(format!("/proc/{}/cgroup", self.child.id())).unwrap()
        }
    }

    impl Drop for Staged {
        fn drop(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
            // Without systemd the scope cannot be stopped, which is an error while it is there
            // and none when it is not.
            let _ = self.manager.delete();
            let _ = std::fs::remove_dir(&self.scope);
            self.manager.delete().unwrap();
            assert!(self.manager.paths().values().all(|p| !p.exists()));
            assert!(!self.scope.exists());
        }
    }

    #[test]
    fn a_process_that_systemd_has_placed_gets_the_rest() {
        let layout = Layout::detect().unwrap();
        if layout.mode != Mode::Hybrid {
            return;
        }
        let mut staged = Staged::new(&layout, "hybrid");
        let joiner = staged.manager.joiner().unwrap();
        assert!(joiner.clone_fd().is_none());
        staged.manager.scope_request = None;
        staged.manager.settle(staged.pid()).unwrap();
        for line in staged.cgroups().lines() {
            assert!(line.ends_with("hybrid.scope"), "{line}");
        }
    }

    #[test]
    fn a_group_of_our_own_below_the_scope() {
        let mut layout = Layout::detect().unwrap();
        if layout.unified.is_none() {
            return;
        }
        // The unified tree has no controllers to speak of, but is a version 2 tree.
        layout.mode = Mode::V2;
        layout.v1.clear();
        let mut staged = Staged::new(&layout, "v2");
        staged.manager.scope_request = None;
        staged.manager.settle(staged.pid()).unwrap();
        let own = staged.manager.paths()[""].clone();
        assert_eq!(own, staged.scope.join(SUBGROUP));
        assert!(
            staged
                .cgroups()
                .lines()
                .any(|l| l.ends_with("v2.scope/container"))
        );
        let pid = staged.child.id().cast_signed();
        assert_eq!(staged.manager.procs(true).unwrap(), [pid]);
    }

    #[test]
    fn the_process_waits_at_the_gate() {
        let gate = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let request = ScopeRequest {
            name: UnitName::parse(None, "c1", false).unwrap(),
            id: "c1".into(),
            extra: Vec::new(),
            gate,
        };
        let joiner = request.joiner().unwrap();
        let (done, is_done) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            joiner.join_self(false).unwrap();
            done.send(()).unwrap();
        });
        let soon = std::time::Duration::from_millis(50);
        assert!(is_done.recv_timeout(soon).is_err());
        rustix::io::write(&request.gate, &1_u64.to_ne_bytes()).unwrap();
        is_done
            .recv_timeout(std::time::Duration::from_secs(5))
            .unwrap();
        thread.join().unwrap();
    }
}

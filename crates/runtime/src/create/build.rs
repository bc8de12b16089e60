//! What `create` makes, in order; and its undoing.

use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use rustix::process::Pid;
use spec::oci::Resources;
use spec::plan::NamespaceKind;
use sys::Context as _;

use super::prepare::Prepared;
use super::{Created, Request, Start};
use crate::container::{CONFIG, START_SOCKET};
use crate::init::{self, Gate, Work};
use crate::notify::Listening;
use crate::root::{ContainerDir, StateRoot};
use crate::spawn::one_cpu::OneCpu;
use crate::spawn::{Child, Spawned, spawn};
use crate::verdict::Stages;
use crate::wire::Message;
use crate::{
    Container, Doing as _, Error, ProcessId, Result, Status, Warn, console, hooks, identity, idmap,
    netdev, pid_file, rdt, teardown,
};

/// A container in the making.
pub(super) struct Building<'a> {
    container: Container,
    prepared: Prepared,
    request: &'a Request,
    child: Option<Child>,
    listening: Option<Listening>,
    /// The control groups exist, and no one else is in them.
    owns_cgroups: bool,
    together: Option<OneCpu>,
    stages: Stages,
}

impl<'a> Building<'a> {
    /// Nothing but the record exists.
    pub fn new(
        container: Container,
        prepared: Prepared,
        request: &'a Request,
        stages: Stages,
    ) -> Self {
        Self {
            container,
            prepared,
            request,
            child: None,
            listening: None,
            owns_cgroups: false,
            together: None,
            stages,
        }
    }

    /// Makes everything. The master of the terminal comes back where the caller keeps it.
    pub fn build(&mut self, warn: Warn<'_>) -> Result<Option<OwnedFd>> {
        self.container.dir.write(CONFIG, &self.prepared.config)?;
        if let Some(proxy) = self.prepared.notify.take() {
            proxy.make_directory()?;
            // A program that starts at once may be ready before anything else is done here.
            if self.request.start != Start::Later {
                self.listening = Some(proxy.bind()?);
            }
        }
        self.prepared.manager.create()?;
        self.owns_cgroups = true;
        // A rootless container may have had to go without some.
        self.container.record.cgroup = Some(self.prepared.manager.state());
        let mut resources = self.prepared.plan.cgroup.resources.clone();
        self.limit_devices(&mut resources)?
            .iter()
            .for_each(|w| warn(w));
        self.stages.end("control-groups");
        let hooks = &self.prepared.plan.hooks;
        let alone = hooks.create_runtime.is_empty() && hooks.create_container.is_empty();
        self.together = alone.then(OneCpu::stay);
        self.clone_init()?;
        self.stages.end("process");
        let pid = self.pid()?;
        let resources = &resources;
        if self.prepared.manager.needs_scope() {
            // The child waits for this before anything else.
            self.prepared.manager.start_scope(pid, resources)?;
            self.container.record.cgroup = Some(self.prepared.manager.state());
        }
        // The child makes its mounts meanwhile.
        let limited = self.prepared.manager.apply(resources);
        let limited = limited.map_err(Error::from).and_then(|warnings| {
            self.give_cgroup()?;
            Ok(warnings)
        });
        let warnings = limited.map_err(|e| self.last_words().unwrap_or(e))?;
        warnings.iter().for_each(|w| warn(w));
        self.stages.end("limits");
        let console = self.attend(warn)?;
        self.stages.end("mounts-and-hooks");
        self.commit(console)
    }

    /// Puts the rules for devices in force while nobody is there yet: version 1 allows nothing
    /// between the first line and the last, and the child opens and makes devices. Where systemd
    /// is to make the group, there is none yet.
    fn limit_devices(&self, resources: &mut Resources) -> Result<Vec<String>> {
        let manager = &self.prepared.manager;
        if manager.needs_scope() || self.request.rootless {
            return Ok(Vec::new());
        }
        Ok(manager.apply(&Resources {
            devices: std::mem::take(&mut resources.devices),
            ..Resources::default()
        })?)
    }

    /// Gives the control group to whom the container runs as, where it may write to it. A user
    /// owns it already, and could give it to nobody.
    fn give_cgroup(&self) -> Result<()> {
        match self.prepared.plan.cgroup_owner() {
            Some(owner) if !self.request.rootless => Ok(self.prepared.manager.delegate(owner)?),
            _ => Ok(()),
        }
    }

    fn clone_init(&mut self) -> Result<()> {
        let gate = match self.request.start {
            Start::Later | Start::Held => Gate::Socket(start_socket(&self.container.dir)?),
            Start::Detached | Start::Attached => Gate::Creator,
        };
        let plan = &self.prepared.plan;
        let sources = rootfs::open_sources(plan)?;
        let joiner = self.prepared.manager.joiner()?;
        let rootless = self.request.rootless || crate::is_rootless();
        let same_users = plan.namespaces.is_inherited(NamespaceKind::User);
        match spawn(plan, &joiner)? {
            Spawned::Parent(child) => self.child = Some(*child),
            Spawned::Init(init) => init::run(
                init,
                Work {
                    plan,
                    record: &self.container.record,
                    filter: self.prepared.filter.as_ref(),
                    joiner: &joiner,
                    cgroups: layout(&self.prepared.manager),
                    sources,
                    gate,
                    no_pivot: self.request.no_pivot,
                    no_new_keyring: self.request.no_new_keyring,
                    // Whom a new user namespace makes of us is seen inside.
                    rootless: rootless || (!same_users && crate::has_become_rootless()),
                    descriptors: self.request.descriptors,
                },
            ),
        }
        Ok(())
    }

    /// Serves the child until it is ready.
    fn attend(&mut self, warn: Warn<'_>) -> Result<Option<OwnedFd>> {
        if !self.child()?.is_stage {
            self.equip()?;
        }
        loop {
            let received = self.child()?.channel.recv()?;
            match received {
                Some((Message::Warning(text), _)) => warn(&text),
                Some((Message::NeedsMap, _)) => {
                    let pid = self.pid()?;
                    idmap::write(pid.as_raw_nonzero().get(), &self.prepared.plan.id_maps)?;
                    self.child()?.channel.send(&Message::Go)?;
                }
                Some((Message::Staged { pid }, fds)) => {
                    self.child()?.staged(pid, fds)?;
                    self.equip()?;
                }
                Some((Message::Mounted, _)) => {
                    let pid = self.pid()?.as_raw_nonzero().get();
                    let state = self.container.record.oci_state(Status::Creating, pid);
                    let hooks = &self.prepared.plan.hooks.create_runtime;
                    hooks::run_all("createRuntime", hooks, &state)?;
                    self.child()?.channel.send(&Message::Go)?;
                }
                Some((Message::Failed { kind, text }, _)) => {
                    let message = text;
                    return Err(Error::Reported { kind, message });
                }
                Some((Message::Ready { .. }, fds)) => return Ok(fds.into_iter().next()),
                Some(_) => {}
                None => return Err(self.obituary()),
            }
        }
    }

    /// What the child gets from outside, once it exists.
    fn equip(&mut self) -> Result<()> {
        let pid = self.pid()?;
        let plan = &self.prepared.plan;
        if let Some(process) = &plan.process {
            identity::set_oom_score_adj(pid, process.oom_score_adj)?;
        }
        let pid = pid.as_raw_nonzero().get();
        if !plan.net_devices.is_empty() {
            let path = format!("/proc/{pid}/ns/net");
            let namespace = std::fs::File::open(&path).context("open", || path)?;
            netdev::move_all(&plan.net_devices, &namespace)?;
        }
        if let Some(config) = &plan.intel_rdt {
            let root = rdt::mount_point()?;
            let made = rdt::Rdt::apply(config, self.container.id.as_str(), &root, pid)?;
            self.container.record.rdt = Some(made);
            self.container.dir.save(&self.container.record)?;
        }
        Ok(())
    }

    /// Hands out what others wait for, and writes down that the container exists. The child then
    /// goes on; until now it would have died with us.
    fn commit(&mut self, console: Option<OwnedFd>) -> Result<Option<OwnedFd>> {
        let pid = self.pid()?;
        if let Some(process) = &self.prepared.plan.process {
            identity::set_limits(Some(pid), &process.rlimits)?;
        }
        let number = pid.as_raw_nonzero().get();
        let record = &mut self.container.record;
        record.init = ProcessId::of(number)?;
        record.creator = None;
        let console = match (&self.prepared.console_socket, console) {
            (Some(socket), Some(master)) => {
                console::send_fd(socket, console::MASTER_NAME, &master)?;
                None
            }
            (_, console) => console,
        };
        // Before the program can ask for it.
        if let (Some(master), Start::Attached) = (&console, self.request.start)
            && let Some(size) = console::size_here()
        {
            console::set_size(master, size)?;
        }
        if let Some(socket) = &self.prepared.pidfd_socket {
            let child = self.child.as_ref().ok_or(Error::NotRunning)?;
            console::send_fd(socket, console::PIDFD_NAME, &child.pidfd)?;
        }
        self.container.dir.save(&self.container.record)?;
        if let Some(path) = &self.request.pid_file {
            pid_file::write(path, number)?;
        }
        self.child()?.channel.send(&Message::Go)?;
        Ok(console)
    }

    /// The container, complete.
    pub fn finish(mut self, console: Option<OwnedFd>) -> Result<Created> {
        self.stages.end("commit");
        self.stages.keep(&self.container);
        let child = self.child.ok_or(Error::NotRunning)?;
        let starts_alone = self.container.record.starts_alone;
        Ok(Created {
            container: self.container,
            plan: self.prepared.plan,
            child,
            console,
            listening: self.listening,
            // Programs of others may follow: hooks, an agent.
            together: self.together.filter(|_| starts_alone),
        })
    }

    /// Unmakes everything; the error to report.
    pub fn undo(mut self, root: &StateRoot, error: Error, warn: Warn<'_>) -> Error {
        self.together = None;
        crate::verdict::note(&self.container, "failed", &error.to_string());
        let mut errors = vec![error];
        let began = self.child.is_some();
        if let Some(child) = &mut self.child {
            errors.extend(child.kill().doing(|| "undo").err());
        }
        if let Some(path) = self
            .request
            .pid_file
            .as_ref()
            .filter(|_| self.container.record.init.is_some())
        {
            // It is ours only if it has our pid; a file that was there before was replaced.
            let _ = std::fs::remove_file(path);
        }
        let record = &mut self.container.record;
        if self.owns_cgroups {
            // Whoever is in them is ours to kill.
            record.creator = None;
        } else {
            // They are somebody else's, or were not made.
            record.cgroup = None;
        }
        let undone = teardown::teardown(root, &self.container, began, warn);
        errors.extend(undone.doing(|| "undo").err());
        Error::from_several(errors).unwrap_or(Error::NotRunning)
    }

    fn child(&mut self) -> Result<&mut Child> {
        self.child.as_mut().ok_or(Error::NotRunning)
    }

    fn pid(&mut self) -> Result<Pid> {
        Ok(self.child()?.pid)
    }

    /// What the child said before it died. Its control group can go with it, and then what failed
    /// on that is not the reason.
    fn last_words(&mut self) -> Option<Error> {
        let child = self.child.as_mut()?;
        // The error that led here is reported otherwise.
        let _ = child.kill();
        while let Ok(Some((message, _))) = child.channel.recv() {
            if let Message::Failed { kind, text } = message {
                let message = text;
                return Some(Error::Reported { kind, message });
            }
        }
        None
    }

    /// Why a child is gone that has said nothing.
    fn obituary(&mut self) -> Error {
        let oom = self
            .prepared
            .manager
            .oom_kills()
            .ok()
            .flatten()
            .unwrap_or(0)
            > 0;
        let status = self.child().and_then(|c| c.wait()).ok().flatten();
        let how = match status.and_then(|s| s.terminating_signal()) {
            Some(9) if oom => "was killed because its memory limit is too low".to_owned(),
            Some(signal) => format!("was killed by signal {signal}"),
            None => "ended".to_owned(),
        };
        Error::WrongState(format!(
            "the container's first process {how} before it was complete"
        ))
    }
}

/// A listening socket for `start`, in the state directory.
fn start_socket(dir: &ContainerDir) -> Result<OwnedFd> {
    let path = dir.short_path(START_SOCKET);
    let args = || dir.path().join(START_SOCKET).display().to_string();
    let address = SocketAddrUnix::new(&path).context("bind", args)?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("socket", || "AF_UNIX, SOCK_SEQPACKET")?;
    bind(&socket, &address).context("bind", args)?;
    listen(&socket, 8).context("listen", args)?;
    Ok(socket)
}

/// The control groups in the words of the mounting crate.
fn layout(manager: &cgroup::Manager) -> rootfs::CgroupLayout {
    use rootfs::{CgroupLayout, Hierarchy};
    let layout = manager.mount_layout();
    if layout.v1.is_empty() {
        return match layout.unified {
            Some(path) => CgroupLayout::V2 { path },
            None => CgroupLayout::None,
        };
    }
    let v1 = layout.v1.into_iter().map(|h| Hierarchy {
        name: h.name,
        path: h.source,
        options: h.data.split(',').map(str::to_owned).collect(),
        unified: false,
    });
    let unified = layout.unified.map(|path| Hierarchy {
        name: "unified".to_owned(),
        path,
        options: Vec::new(),
        unified: true,
    });
    CgroupLayout::V1(v1.chain(unified).collect())
}

//! What `create` does before it makes anything: reading, checking, compiling.

use std::os::fd::OwnedFd;
use std::path::Path;

use cgroup::Manager;
use rustix::fs::FileType;
use seccomp::Filter;
use spec::Plan;
use spec::plan::{NamespaceKind, NamespaceMode};
use sys::{Context as _, Errno, trace};

use super::Request;
use crate::container::CONFIG;
use crate::notify::Proxy;
use crate::record::Record;
use crate::root::StateRoot;
use crate::{ContainerId, Doing as _, Error, ProcessId, Result, Warn, console, identity};

/// Everything that is known before anything is made.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub id: ContainerId,
    /// The bytes of `config.json`.
    pub config: Vec<u8>,
    pub plan: Plan,
    pub filter: Option<Filter>,
    pub manager: Manager,
    pub record: Record,
    pub notify: Option<Proxy>,
    /// Connected, so that nothing is made for a receiver that is not there.
    pub console_socket: Option<OwnedFd>,
    pub pidfd_socket: Option<OwnedFd>,
}

impl Prepared {
    /// Reads and checks all there is.
    pub fn new(root: &StateRoot, request: &Request, warn: Warn<'_>) -> Result<Self> {
        let bundle = std::fs::canonicalize(&request.bundle)
            .context("realpath", || request.bundle.display().to_string())
            .doing(|| "bundle")?;
        let config = read_config(&bundle)?;
        let mut spec = spec::parse_config(&config)?;
        let notify = Proxy::new(request.notify_socket.as_deref(), &root.path_of(&request.id));
        if let Some(proxy) = &notify {
            spec.mounts.push(proxy.mount());
            if let Some(process) = &mut spec.process {
                process.env.push(Proxy::variable());
            }
        }
        let (plan, warnings) = trace::step(
            "",
            || "config.json becomes a plan",
            || Plan::new(&spec, &bundle),
        )?;
        warnings.iter().for_each(|w| warn(w));
        check(&plan, request)?;
        let filter = compile(&plan, warn)?;
        let manager = Manager::new(&cgroup::Request {
            path: plan.cgroup.path.as_deref(),
            id: request.id.as_str(),
            policy: cgroup::Policy {
                rootless: request.rootless,
                ..cgroup::Policy::default()
            },
            systemd: request.systemd_cgroup.then_some(cgroup::SystemdRequest {
                annotations: Some(&plan.annotations),
            }),
        })?;
        let id = request.id.clone();
        let mut record = Record::new(id.to_string(), &plan, bundle, ProcessId::own()?);
        record.cgroup = Some(manager.state());
        record.no_new_keyring = request.no_new_keyring;
        let connect = |path: &Option<std::path::PathBuf>| {
            path.as_deref().map(console::connect_to).transpose()
        };
        Ok(Self {
            console_socket: connect(&request.console_socket)?,
            pidfd_socket: connect(&request.pidfd_socket)?,
            id,
            config,
            plan,
            filter,
            manager,
            record,
            notify,
        })
    }
}

fn read_config(bundle: &Path) -> Result<Vec<u8>> {
    let path = bundle.join(CONFIG);
    match std::fs::read(&path).context("open", || path.display().to_string()) {
        Err(e) if e.errno == Errno::NOENT => Err(Error::Invalid(format!(
            "JSON specification file {} not found: {e}",
            path.display()
        ))),
        other => Ok(other?),
    }
}

/// What the plan and the command line cannot have together, and what this machine cannot do.
fn check(plan: &Plan, request: &Request) -> Result<()> {
    let terminal = plan.process.as_ref().is_some_and(|p| p.terminal.is_some());
    let socket = request.console_socket.is_some();
    let stays = request.start.stays();
    let contradiction = if !stays && terminal && !socket {
        "cannot allocate tty if hull will detach without setting console socket"
    } else if (stays || !terminal) && socket {
        "cannot use console socket if hull will not detach or allocate tty"
    } else {
        ""
    };
    if !contradiction.is_empty() {
        return Err(Error::Invalid(contradiction.to_owned()));
    }
    match std::fs::metadata(&plan.root.path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            let text = format!(
                "root file system {} is not a directory",
                plan.root.path.display()
            );
            return Err(Error::Invalid(text));
        }
        Err(e) => {
            let path = plan.root.path.display();
            let found: std::io::Result<()> = Err(e);
            found
                .context("stat", || path.to_string())
                .doing(|| "root file system")?;
        }
    }
    check_sysctls(plan)?;
    plan.process.as_ref().map_or(Ok(()), identity::check_labels)
}

/// A parameter of a joined namespace is not the container's to set where that is the runtime's
/// own; the plan knows its path only.
fn check_sysctls(plan: &Plan) -> Result<()> {
    for (kind, prefixes) in [
        (NamespaceKind::Network, &["net/"][..]),
        (
            NamespaceKind::Ipc,
            &["kernel/msg", "kernel/sem", "kernel/shm", "fs/mqueue/"],
        ),
        (
            NamespaceKind::Uts,
            &["kernel/domainname", "kernel/hostname"],
        ),
    ] {
        let NamespaceMode::Join(path) = plan.namespaces.get(kind) else {
            continue;
        };
        let touched = plan
            .sysctl
            .iter()
            .find(|(key, _)| prefixes.iter().any(|p| key.starts_with(p)));
        if let Some((key, _)) = touched
            && is_own_namespace(kind, path)?
        {
            let text = format!(
                "sysctl {:?} is not allowed in the host {} namespace",
                key.replace('/', "."),
                kind.oci_name()
            );
            return Err(Error::Invalid(text));
        }
    }
    Ok(())
}

fn is_own_namespace(kind: NamespaceKind, path: &Path) -> Result<bool> {
    let stat = |path: &Path| rustix::fs::stat(path).context("stat", || path.display().to_string());
    let own = stat(&Path::new("/proc/self/ns").join(kind.proc_name()))?;
    let joined = stat(path)?;
    Ok((own.st_dev, own.st_ino) == (joined.st_dev, joined.st_ino))
}

fn compile(plan: &Plan, warn: Warn<'_>) -> Result<Option<Filter>> {
    let Some(profile) = &plan.seccomp else {
        return Ok(None);
    };
    let filter = trace::step(
        "",
        || "seccomp profile becomes BPF",
        || seccomp::compile(profile),
    )?;
    filter.warnings.iter().for_each(|w| warn(w));
    if filter.notify {
        check_agent(Path::new(&profile.listener_path))?;
    }
    Ok(Some(filter))
}

/// An agent that is not there is found out before the container waits for it.
fn check_agent(path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() {
        let text = "the seccomp profile notifies, but listenerPath is not set";
        return Err(Error::Invalid(text.to_owned()));
    }
    let stat = rustix::fs::stat(path).context("stat", || path.display().to_string());
    let stat = stat.doing(|| "seccomp listenerPath")?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
        Ok(())
    } else {
        let path = path.display();
        Err(Error::Invalid(format!(
            "seccomp listenerPath {path} is not a socket"
        )))
    }
}

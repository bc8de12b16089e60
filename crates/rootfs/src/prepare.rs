//! From a plan to a tree that can be pivoted to.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, openat, statx};
use rustix::mount::MountPropagationFlags;
use spec::Plan;
use spec::plan::{MountAttrs, MountKind, NamespaceKind, Propagation, PropagationKind};
use sys::{Context as _, trace};

use crate::cgroup::CgroupLayout;
use crate::console::{Terminal, open_terminal};
use crate::error::{Error, Result, Step as _};
use crate::mounter::{Mounter, Object, fd_name, propagation_flag};
use crate::mounts::{calls_of, step_of};
use crate::root::{Last, Root, open_host};
use crate::sources::Sources;

/// What the plan does not say and the process cannot find out by itself.
#[derive(Debug, Default)]
pub struct Context {
    /// What the parent opened.
    pub sources: Sources,
    /// The container's own control groups.
    pub cgroups: CgroupLayout,
    /// Whether the process is in a user namespace other than the initial one: then device nodes
    /// cannot be made and the host's are bound instead.
    pub in_userns: bool,
}

/// A root file system with all its mounts, not yet (or just) pivoted to.
#[derive(Debug)]
pub struct Prepared<'p> {
    pub(crate) plan: &'p Plan,
    pub(crate) context: Context,
    pub(crate) mounter: Mounter,
    /// The procfs at `/proc`, if the plan mounts one.
    pub(crate) procfs: Option<OwnedFd>,
    /// The devpts at `/dev/pts`, if the plan mounts one.
    pub(crate) devpts: Option<OwnedFd>,
    /// The container's verified `/dev/null`.
    pub(crate) null: Option<OwnedFd>,
    /// Mounts that must be writable until all is made.
    pub(crate) readonly_later: Vec<(OwnedFd, &'p Path)>,
}

/// Makes all of the plan's mounts and device nodes.
///
/// # Errors
/// The step that failed. The mount namespace is then half made and must be left to die.
pub fn prepare(plan: &Plan, mut context: Context) -> Result<Prepared<'_>> {
    // Modes are given exactly.
    rustix::process::umask(Mode::empty());
    let inherited = plan.namespaces.is_inherited(NamespaceKind::Mount);
    if inherited && !(plan.masked_paths.is_empty() && plan.readonly_paths.is_empty()) {
        let why = "masked and read-only paths need a mount namespace of the container's own";
        return Err(Error::refused("root file system", why));
    }
    let root = if inherited {
        // The mounts of the host are not ours to rearrange: mounts of the plan are made below the
        // root where it is, and it is only chrooted to.
        let path = &plan.root.path;
        Root::from_fd(open_root(path).step(|| format!("root file system {path:?}"))?)
    } else {
        own_root(plan, context.sources.root.take())?
    };
    let mut prepared = Prepared {
        plan,
        context,
        mounter: Mounter::new(root),
        procfs: None,
        devpts: None,
        null: None,
        readonly_later: Vec::new(),
    };
    for (index, mount) in plan.mounts.iter().enumerate() {
        trace::step(
            calls_of(mount),
            || step_of(mount),
            || prepared.mount(index, mount),
        )?;
    }
    if !binds_dev(plan) {
        trace::step(
            "mknodat + symlinkat",
            || "device nodes and links of /dev",
            || prepared.make_devices(),
        )?;
    }
    let root = prepared.root();
    rustix::process::fchdir(root)
        .context("fchdir", || "root")
        .step(|| "enter the root")?;
    Ok(prepared)
}

/// Makes the root a mount of its own that no other namespace shares, and attaches it.
fn own_root(plan: &Plan, tree: Option<OwnedFd>) -> Result<Root> {
    let path = &plan.root.path;
    let step = || format!("root file system {path:?}");
    let inherited = inherited_propagation(plan);
    let mut flags = propagation_flag(inherited.kind);
    flags.set(MountPropagationFlags::REC, inherited.recursive);
    trace::step(
        "mount",
        || "propagation of /: what is mounted here stays here",
        || rustix::mount::mount_change("/", flags),
    )
    .context("mount", || format!("\"/\", {flags:?}"))
    .step(|| "propagation of the root mount")?;
    trace::step(
        "open_tree + move_mount",
        || format!("{path:?} becomes a mount of its own"),
        || {
            let target = match open_root(path) {
                Ok(fd) => fd,
                // Below a directory that the container's user may not enter: the tree that the
                // parent opened is attached over "/", from where it can be pivoted to as well.
                Err(_) if tree.is_some() => open_host(Path::new("/"), Last::Follow)?,
                Err(e) => return Err(e),
            };
            if !inherited.recursive || inherited.kind == PropagationKind::Shared {
                leave_peers(&target, inherited.kind)?;
            }
            let object = match tree {
                Some(tree) => Object::Tree(tree),
                None => Mounter::clone_fd(target.as_fd(), true)?,
            };
            attach_root(object, target, path)
        },
    )
    .step(step)
}

fn attach_root(object: Object, target: OwnedFd, path: &Path) -> sys::Result<Root> {
    match object {
        Object::Tree(tree) => {
            sys::mount::attach(tree.as_fd(), target.as_fd(), c"")
                .context("move_mount", || format!("tree, {path:?}"))?;
            Ok(Root::from_fd(tree))
        }
        Object::Source { .. } => {
            let mounter = Mounter::new(Root::from_fd(target));
            let name = fd_name(mounter.root.as_fd());
            mounter
                .by_name(|| rustix::mount::mount_bind_recursive(&name, &name))?
                .context("mount", || format!("{path:?}, {path:?}, MS_BIND|MS_REC"))?;
            open_root(path).map(Root::from_fd)
        }
    }
}

/// What the mounts that a new namespace is born with become. The container sees the host's later
/// mounts, not the reverse, unless the plan says otherwise. Unbindable waits until all binds are
/// made ([`Prepared::finish`]).
pub(crate) fn inherited_propagation(plan: &Plan) -> Propagation {
    let mut propagation = plan.rootfs_propagation.unwrap_or(Propagation {
        kind: PropagationKind::Slave,
        recursive: true,
    });
    if propagation.kind == PropagationKind::Unbindable {
        propagation.kind = PropagationKind::Private;
    }
    propagation
}

/// Takes the mount that `inside` is in out of its peer group: neither may the container's root
/// appear on the host, nor does pivot_root(2) take a new root whose parent is shared.
fn leave_peers(inside: &OwnedFd, kind: PropagationKind) -> sys::Result<()> {
    let mut fd = inside.try_clone().context("dup", || "root")?;
    loop {
        let stat = statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())
            .context("statx", || "a directory above the root")?;
        if stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            break;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fd = openat(&fd, c"..", flags, Mode::empty()).context("openat", || "\"..\", O_PATH")?;
    }
    let kind = match kind {
        PropagationKind::Slave => PropagationKind::Slave,
        _ => PropagationKind::Private,
    };
    let mounter = Mounter::new(Root::from_fd(fd));
    let none = MountAttrs::default();
    mounter.set_attrs(mounter.root.as_fd(), none, false, Some(kind))
}

fn open_root(path: &Path) -> sys::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
        .context("open", || format!("{path:?}, O_PATH|O_DIRECTORY"))
}

/// Whether the plan binds a `/dev` from outside: then its nodes are not ours to make.
fn binds_dev(plan: &Plan) -> bool {
    plan.mounts
        .iter()
        .any(|m| m.destination == Path::new("/dev") && matches!(m.kind, MountKind::Bind { .. }))
}

impl Prepared<'_> {
    /// The root directory.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.mounter.root
    }

    /// A pseudo-terminal from the container's own devpts.
    ///
    /// # Errors
    /// Those of [`open_terminal`].
    pub fn open_terminal(&self) -> Result<Terminal> {
        open_terminal(self.root(), self.devpts.as_ref().map(AsFd::as_fd))
    }

    /// Binds the terminal to `/dev/console`.
    ///
    /// # Errors
    /// The call that failed.
    pub fn bind_console(&self, slave: BorrowedFd<'_>) -> Result<()> {
        crate::console::bind(&self.mounter, slave)
    }
}

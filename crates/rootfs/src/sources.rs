//! What the parent opens because the container's init may not: with a user namespace, the root
//! and bind sources that only the host's root can reach, and every id-mapped tree.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, fstatfs};
use spec::Plan;
use spec::plan::{
    IdMaps, MountAttrs, MountIdmap, MountKind, MountPlan, NamespaceKind, NamespaceMode,
    PropagationKind,
};
use sys::mount::{SetAttr, clone_tree, mount_setattr};
use sys::{Context as _, Errno, trace};

use crate::error::{Error, Result, Step as _};
use crate::idmap;
use crate::mounter::propagation_flag;
use crate::mounts::step_of;
use crate::prepare::inherited_propagation;

/// Detached mounts that the container's init inherits.
#[derive(Debug, Default)]
pub struct Sources {
    pub(crate) root: Option<OwnedFd>,
    /// By the index of the mount.
    mounts: Vec<(usize, OwnedFd)>,
}

impl Sources {
    /// Takes the tree of one mount.
    pub(crate) fn take(&mut self, index: usize) -> Option<OwnedFd> {
        let at = self.mounts.iter().position(|(i, _)| *i == index)?;
        Some(self.mounts.swap_remove(at).1)
    }
}

/// Opens what the container's init could not open itself. Runs in the parent, before the clone;
/// without a user namespace and id-mapped mounts there is nothing to do.
///
/// # Errors
/// The mount that could not be opened.
pub fn open_sources(plan: &Plan) -> Result<Sources> {
    let mut sources = Sources::default();
    // A joined mount namespace has its own view of the paths.
    let joined = matches!(
        plan.namespaces.get(NamespaceKind::Mount),
        NamespaceMode::Join(_)
    );
    let userns = !plan.namespaces.is_inherited(NamespaceKind::User) && !joined;
    let root = &plan.root.path;
    if userns && plan.namespaces.is_new(NamespaceKind::Mount) && !reachable(root, &plan.id_maps) {
        sources.root = open_tree(plan, root, true, true).step(|| format!("root {root:?}"))?;
    }
    for (index, mount) in plan.mounts.iter().enumerate() {
        let MountKind::Bind { source, recursive } = &mount.kind else {
            continue;
        };
        if mount.remount {
            continue;
        }
        let tree = match &mount.idmap {
            Some(map) => Some(idmapped(plan, mount, source, *recursive, map)?),
            None if userns && !reachable(source, &plan.id_maps) => {
                open_tree(plan, source, *recursive, !mount.src_nofollow).step(|| step_of(mount))?
            }
            None => None,
        };
        sources.mounts.extend(tree.map(|tree| (index, tree)));
    }
    Ok(sources)
}

/// Whether root of a user namespace with these maps can walk to `path`. It has search permission
/// on a directory that everybody may search, and on those whose owner and group it has mapped
/// (user_namespaces(7)). A wrong `false` only costs a descriptor.
fn reachable(path: &Path, maps: &IdMaps) -> bool {
    let mapped = |ids: &[spec::oci::IdMapping], id: u32| {
        ids.iter()
            .any(|m| id.checked_sub(m.host_id).is_some_and(|at| at < m.size))
    };
    path.ancestors().skip(1).all(|dir| {
        rustix::fs::stat(dir).is_ok_and(|s| {
            s.st_mode & 0o001 != 0 || (mapped(&maps.uids, s.st_uid) && mapped(&maps.gids, s.st_gid))
        })
    })
}

/// A detached copy with the propagation that the container's mount namespace will have. `None`
/// where this process may not make one or the kernel cannot: then init has to try.
fn open_tree(
    plan: &Plan,
    path: &Path,
    recursive: bool,
    follow: bool,
) -> sys::Result<Option<OwnedFd>> {
    let tree = match clone(path, recursive, follow) {
        Ok(tree) => tree,
        Err(e) if matches!(e.errno, Errno::NOSYS | Errno::PERM) => return Ok(None),
        Err(e) => return Err(e),
    };
    match isolate(plan, &tree) {
        Ok(()) => Ok(Some(tree)),
        Err(Errno::NOSYS | Errno::PERM) => Ok(None),
        Err(e) => Err(e).context("mount_setattr", || format!("{path:?}, propagation")),
    }
}

fn clone(path: &Path, recursive: bool, follow: bool) -> sys::Result<OwnedFd> {
    use rustix::path::Arg as _;
    let args = || format!("{path:?}, OPEN_TREE_CLONE");
    let c_path = path.into_c_str().context("open_tree", args)?;
    trace::step("open_tree", args, || {
        clone_tree(CWD, &c_path, recursive, follow)
    })
    .context("open_tree", args)
}

/// Takes a tree out of the host's peer groups, as the container's namespace will be.
fn isolate(plan: &Plan, tree: &OwnedFd) -> std::result::Result<(), Errno> {
    let kind = inherited_propagation(plan).kind;
    if kind == PropagationKind::Shared {
        return Ok(());
    }
    let change = SetAttr {
        propagation: propagation_flag(kind).bits().into(),
        ..SetAttr::default()
    };
    mount_setattr(tree.as_fd(), true, &change)
}

/// A detached, id-mapped copy of `source`.
fn idmapped(
    plan: &Plan,
    mount: &MountPlan,
    source: &Path,
    recursive: bool,
    map: &MountIdmap,
) -> Result<OwnedFd> {
    let step = || step_of(mount);
    let tree = clone(source, recursive, !mount.src_nofollow).step(step)?;
    isolate(plan, &tree)
        .context("mount_setattr", || format!("{source:?}, propagation"))
        .step(step)?;
    let userns = match (&map.maps, plan.namespaces.get(NamespaceKind::User)) {
        (Some(maps), _) => idmap::user_namespace(maps),
        (None, NamespaceMode::Join(path)) => idmap::open_namespace(path),
        (None, _) if !plan.id_maps.is_empty() => idmap::user_namespace(&plan.id_maps),
        (None, _) => {
            let why = "idmap needs mappings of its own or a user namespace";
            return Err(Error::refused(step(), why));
        }
    }
    .step(step)?;
    let change = SetAttr {
        set: MountAttrs::IDMAP,
        userns: Some(userns.as_fd()),
        ..SetAttr::default()
    };
    mount_setattr(tree.as_fd(), map.recursive, &change)
        .context("mount_setattr", || {
            let magic = fstatfs(&tree).map_or(0, |s| s.f_type);
            format!("{source:?} (file system magic {magic:#x}), MOUNT_ATTR_IDMAP")
        })
        .step(step)?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::oci::IdMapping;

    #[test]
    fn reachable_by_mode_or_by_map() {
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        let inside = closed.join("rootfs");
        std::fs::create_dir_all(&inside).unwrap();
        let mode = |p: &Path, mode| {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(p, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(dir.path(), 0o755);
        mode(&closed, 0o755);
        let far = vec![IdMapping {
            container_id: 0,
            host_id: 100_000,
            size: 1000,
        }];
        let all = vec![IdMapping {
            container_id: 0,
            host_id: 0,
            size: 100_000,
        }];
        let maps = |m: &Vec<IdMapping>| IdMaps {
            uids: m.clone(),
            gids: m.clone(),
        };
        assert!(reachable(&inside, &maps(&far)));
        mode(&closed, 0o700);
        assert!(!reachable(&inside, &maps(&far)));
        assert!(reachable(&inside, &maps(&all)));
        assert!(!reachable(&inside, &IdMaps::default()));
        assert!(!reachable(Path::new("/no/such/path"), &maps(&far)));
    }
}

//! `checkpoint`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Gid, Mode, OFlags, openat};
use spec::Plan;
use spec::plan::IdMaps;
use sys::Context as _;

use super::log::Log;
use super::message::Kind;
use super::swrk::Criu;
use super::{Common, outside, require, streams};
use crate::pause::manager_of;
use crate::root::StateRoot;
use crate::{Container, Error, ProcessId, Result, Status, Warn, teardown};

const LOG: &str = "dump.log";
/// How long the processes may take to end once criu has killed them.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `checkpoint` is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What it has in common with `restore`.
    pub common: Common,
    /// Path of the image of an earlier pre-dump, relative to this one.
    pub parent_path: Option<PathBuf>,
    /// Only save memory, and let the container go on.
    pub pre_dump: bool,
    /// Address and port of a page server.
    pub page_server: Option<(String, u16)>,
    /// Descriptor that gets a zero byte when pages can be served.
    pub status_fd: Option<i32>,
}

/// Saves the container. Unless it is to go on, it is deleted then.
///
/// # Errors
/// It does not run, or criu's failure with the first error in its log; the container goes on.
pub fn checkpoint(
    root: &StateRoot,
    container: &Container,
    request: &Request,
    warn: Warn<'_>,
) -> Result<()> {
    container.dir.lock()?;
    let status = container.status()?;
    if !matches!(status, Status::Running | Status::Paused) {
        let text = format!("container cannot be checkpointed in the {status} state");
        return Err(Error::WrongState(text));
    }
    let init = container.init()?;
    let (plan, _) = Plan::new(&container.config()?, &container.record.bundle)?;
    if let Some(parent) = &request.parent_path {
        expect_parent(&request.common.image_path, parent)?;
    }
    let criu = require(request.pre_dump, request.common.switches.lazy_pages)?;
    let log = request.common.log(criu, LOG);
    dump(container, &plan, init, request, &log)?;
    let goes_on = request.pre_dump || request.common.switches.leave_running;
    if goes_on {
        return Ok(());
    }
    init.await_end(PATIENCE)?;
    teardown::teardown(root, container, true, warn)
}

fn dump(
    container: &Container,
    plan: &Plan,
    init: ProcessId,
    request: &Request,
    log: &Log,
) -> Result<()> {
    let common = &request.common;
    let mut options = common.options(container, LOG, true)?;
    if !plan.id_maps.is_empty() {
        admit_group(plan, common)?;
    }
    let manager = manager_of(container)?;
    options.pid = init.pid;
    options.root = Some(container.record.rootfs.to_string_lossy().into_owned());
    options.parent_image = request.parent_path.as_deref().map(text);
    options.page_server.clone_from(&request.page_server);
    options.status_fd = request.status_fd;
    options.switches.track_memory = request.pre_dump || request.parent_path.is_some();
    options.freeze_cgroup = freezer(&manager);
    outside::name_namespaces(plan, &mut options)?;
    let kind = if request.pre_dump {
        Kind::PreDump
    } else {
        let root = outside::root_of(init.pid)?;
        let mut external = outside::mounts(plan, &manager, &root);
        let masks = outside::masks(plan, &root);
        // When dumping, the key of a mount is its place, and its value what it will be called.
        let named = external.drain(..).map(|e| (e.place.clone(), e.place));
        let masks = masks.into_iter().map(|e| (e.place, e.source));
        options.external_mounts = named
            .chain(masks)
            .map(|(k, v)| (text(&k), text(&v)))
            .collect();
        streams::save(init.pid, common, &mut options)?;
        Kind::Dump
    };
    Criu::start()?.run(kind, &options, log, |_| Ok(()))?;
    Ok(())
}

/// criu would take a wrong path for an image without an earlier one.
fn expect_parent(image: &Path, parent: &Path) -> Result<()> {
    if parent.is_absolute() {
        let text = format!("parent path {parent:?} must be relative to the image's directory");
        return Err(Error::Invalid(text));
    }
    // The image's own directory may be yet to be made.
    let path = match (image.parent(), parent.strip_prefix("..")) {
        (Some(above), Ok(beside)) => above.join(beside),
        _ => image.join(parent),
    };
    let args = || path.display().to_string();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, &path, flags, Mode::empty()).context("openat", args)?;
    Ok(())
}

/// On restore, processes in a user namespace of their own open the image themselves: the group
/// that is their root's must be able to enter its directory, where nobody but root can.
fn admit_group(plan: &Plan, common: &Common) -> Result<()> {
    let path = &common.image_path;
    let args = || path.display().to_string();
    let stat = rustix::fs::stat(path).context("stat", args)?;
    let group = IdMaps::to_host(&plan.id_maps.gids, 0);
    let Some(group) = group.filter(|_| stat.st_mode & 0o7777 == 0o700) else {
        return Ok(());
    };
    rustix::fs::chown(path, None, Some(Gid::from_raw(group))).context("chown", args)?;
    let mode = Mode::from_raw_mode(0o710);
    Ok(rustix::fs::chmod(path, mode).context("chmod", args)?)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The directory that criu freezes while it dumps: of the freezer that `pause` uses, so that it
/// sees whether the container is paused.
fn freezer(manager: &cgroup::Manager) -> Option<String> {
    let paths = manager.paths();
    let unified = paths.get("").filter(|d| d.join("cgroup.freeze").exists());
    Some(text(unified.or_else(|| paths.get("freezer"))?))
}

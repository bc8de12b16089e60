//! `checkpoint`.

use std::time::Duration;

use spec::Plan;
use sys::Context as _;

use super::message::Kind;
use super::swrk::Criu;
use super::{Common, DESCRIPTORS, log, outside, require};
use crate::pause::manager_of;
use crate::root::StateRoot;
use crate::{Container, Doing as _, Error, ProcessId, Result, Status, Warn, teardown};

const LOG: &str = "dump.log";
/// How long the processes may take to end once criu has killed them.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `checkpoint` is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What it has in common with `restore`.
    pub common: Common,
    /// Path of the image of an earlier pre-dump, relative to this one.
    pub parent_path: Option<String>,
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
    require(request.pre_dump, request.common.switches.lazy_pages)?;
    dump(container, &plan, init, request)?;
    let goes_on = request.pre_dump || request.common.switches.leave_running;
    if goes_on {
        return Ok(());
    }
    init.await_end(PATIENCE)?;
    teardown::teardown(root, container, true, warn)
}

fn dump(container: &Container, plan: &Plan, init: ProcessId, request: &Request) -> Result<()> {
    let common = &request.common;
    let mut options = common.options(container, LOG, true)?;
    let manager = manager_of(container)?;
    options.pid = init.pid;
    options.root = Some(container.record.rootfs.to_string_lossy().into_owned());
    options.parent_image.clone_from(&request.parent_path);
    options.page_server.clone_from(&request.page_server);
    options.status_fd = request.status_fd;
    options.switches.track_memory = request.pre_dump || request.parent_path.is_some();
    options.freeze_cgroup = freezer(&manager);
    outside::name_namespaces(plan, &mut options)?;
    let kind = if request.pre_dump {
        Kind::PreDump
    } else {
        let mut external = outside::mounts(plan, &manager);
        let masks = outside::masks(plan, &outside::root_of(init.pid)?);
        // When dumping, the key of a mount is its place, and its value what it will be called.
        let named = external.drain(..).map(|e| (e.place.clone(), e.place));
        let masks = masks.into_iter().map(|e| (e.place, e.source));
        options.external_mounts = named
            .chain(masks)
            .map(|(k, v)| (text(&k), text(&v)))
            .collect();
        save_descriptors(init, common)?;
        Kind::Dump
    };
    let done = Criu::start()?.run(kind, &options, |_| Ok(()));
    done.map_err(|e| log::explain(e, &common.log(LOG)))?;
    Ok(())
}

fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Links of standard input, output and error: pipes among them are connected again on restore.
fn save_descriptors(init: ProcessId, common: &Common) -> Result<()> {
    let link = |n: i32| {
        let link = std::fs::read_link(format!("/proc/{}/fd/{n}", init.pid));
        link.map_or_else(|_| String::new(), |l| text(&l))
    };
    let links: Vec<String> = (0..3).map(link).collect();
    let json = serde_json::to_vec(&links).map_err(|source| Error::Json {
        what: DESCRIPTORS.to_owned(),
        source,
    })?;
    let path = common.image_path.join(DESCRIPTORS);
    std::fs::write(&path, json)
        .context("write", || path.display().to_string())
        .doing(|| "save the links of standard streams")
}

/// The directory that criu freezes while it dumps.
fn freezer(manager: &cgroup::Manager) -> Option<String> {
    let paths = manager.paths();
    let dir = paths.get("freezer").or_else(|| paths.get(""))?;
    Some(text(dir))
}

//! `hullctl ns enter`: a program in the namespaces of others.

mod args;
mod find;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::ArgMatches;
use rustix::process::{chroot, fchdir};
use spec::plan::NamespaceKind;

pub use args::command;
use args::{Directory, Plan};
use find::Found;

use super::creds::{self, Environment};
use super::waiting::{Attending, Side, fork};

/// Runs the program; its exit code.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    let plan = args::parse(m)?;
    let pid = plan.target.map_or(0, |t| t.pid);
    let found = find::namespaces(&plan)?;
    // What lies outside is opened before it is out of sight.
    let root = open_dir(plan.root.as_ref(), pid, "root")?;
    let workdir = open_dir(plan.workdir.as_ref(), pid, "cwd")?;
    let here = match (&root, &workdir) {
        (Some(_), None) if plan.inner_workdir.is_none() => Some(open(Path::new("."))?),
        _ => None,
    };
    let environment = environment(&plan, pid)?;
    let context = plan.follow_context.then(|| context_of(pid)).transpose()?;
    if plan.join_cgroup {
        join_cgroups(pid)?;
    }
    find::check_still_there(&plan)?;
    let enters = |kind| found.iter().any(|f| f.kind == kind);
    let (user, fork_first) = (enters(NamespaceKind::User), enters(NamespaceKind::Pid));
    enter(found)?;
    let place = Place {
        root,
        workdir: workdir.or(here),
        inner: plan.inner_workdir.clone(),
        context,
        environment,
        user,
    };
    if !fork_first || plan.no_fork {
        return go_on(&plan, &place);
    }
    let attending = Attending::begin(false)?;
    match fork()? {
        Side::Child => {
            attending.in_child()?;
            go_on(&plan, &place)
        }
        Side::Parent(child) => attending.stay_with(child),
    }
}

/// What the program finds.
struct Place {
    root: Option<OwnedFd>,
    workdir: Option<OwnedFd>,
    inner: Option<std::path::PathBuf>,
    context: Option<Vec<u8>>,
    environment: Environment,
    user: bool,
}

/// Enters one after the other: the user namespace first, which gives the rights for the others,
/// or last, where the rights come from outside.
fn enter(found: Vec<Found>) -> Result<()> {
    let (user, others): (Vec<Found>, Vec<Found>) = found
        .into_iter()
        .partition(|f| f.kind == NamespaceKind::User);
    let mut user = user.into_iter().next();
    if let Some(first) = &user
        && sys::namespace::setns(&first.fd, first.kind.clone_flag()).is_ok()
    {
        user = None;
    }
    for f in others.iter().chain(&user) {
        sys::namespace::setns(&f.fd, f.kind.clone_flag())
            .with_context(|| format!("enter the {} namespace {}", f.kind.oci_name(), f.from))?;
    }
    Ok(())
}

fn open_dir(directory: Option<&Directory>, pid: i32, link: &str) -> Result<Option<OwnedFd>> {
    let opened = directory.map(|d| match d {
        Directory::Target => open(Path::new(&format!("/proc/{pid}/{link}"))),
        Directory::Given(path) => open(path),
    });
    opened.transpose()
}

fn open(path: &Path) -> Result<OwnedFd> {
    let file = File::open(path).with_context(|| format!("open({})", path.display()))?;
    Ok(file.into())
}

fn environment(plan: &Plan, pid: i32) -> Result<Environment> {
    if !plan.target_env {
        return Ok(Environment::Kept);
    }
    let path = format!("/proc/{pid}/environ");
    let bytes = std::fs::read(&path).with_context(|| format!("read({path})"))?;
    let pairs = bytes.split(|b| *b == 0).filter_map(|entry| {
        let at = entry.iter().position(|b| *b == b'=')?;
        let word = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((word(&entry[..at]), word(&entry[at + 1..])))
    });
    Ok(Environment::Given(pairs.collect()))
}

fn context_of(pid: i32) -> Result<Vec<u8>> {
    let path = format!("/proc/{pid}/attr/current");
    std::fs::read(&path).with_context(|| format!("read({path}): is SELinux active?"))
}

/// Moves this process into all control groups of process `pid`.
fn join_cgroups(pid: i32) -> Result<()> {
    let theirs = super::super::proc::cgroups::of(pid)?;
    let mounts = super::super::proc::cgroups::mounts()?;
    for group in &theirs {
        let Some(dir) = mounts.directory(group) else {
            continue;
        };
        let path = dir.join("cgroup.procs");
        std::fs::write(&path, "0").with_context(|| format!("write({}, 0)", path.display()))?;
    }
    Ok(())
}

/// In the process that becomes the program.
fn go_on(plan: &Plan, place: &Place) -> Result<ExitCode> {
    if let Some(root) = &place.root {
        fchdir(root).context("fchdir(root)")?;
        chroot(".").context("chroot(.)")?;
    }
    if let Some(dir) = &place.workdir {
        fchdir(dir).context("fchdir(working directory)")?;
    }
    if let Some(dir) = &place.inner {
        rustix::process::chdir(dir).with_context(|| format!("chdir({})", dir.display()))?;
    }
    if let Some(context) = &place.context {
        let path = "/proc/self/attr/exec";
        std::fs::write(path, context).with_context(|| format!("write({path})"))?;
    }
    let mut identity = plan.identity;
    if place.user && !plan.preserve_credentials {
        identity.uid = identity.uid.or(Some(0));
        identity.gid = identity.gid.or(Some(0));
    }
    identity.assume()?;
    match creds::execute(&plan.program, &place.environment) {
        Ok(never) => match never {},
        Err(e) => {
            eprintln!("hullctl: ns enter: {e:#}");
            Ok(ExitCode::from(creds::code_of(&e)))
        }
    }
}

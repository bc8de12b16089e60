//! `hullctl run`: a container in the foreground, without a daemon.

mod args;
mod bundle;
mod config;
mod explain;
mod host;

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use runtime::ContainerId;
use runtime::become_program::Descriptors;
use runtime::create::{Request, Start};
use runtime::root::StateRoot;

pub use args::{RunArgs, command, parse};
use bundle::Bundle;

/// Runs the container; the exit code is its program's.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    // Before anything else exists: the container must not see the program's own file.
    sys::seal::ensure_sealed().context("run from a sealed copy of this program")?;
    let record = args.explain.then(sys::trace::Recorder::begin).transpose()?;
    let bundle = Bundle::open(args)?;
    let rootless = runtime::is_rootless();
    let users = runtime::root::of_user(rootless);
    let sticky = args.root.is_none() && users.is_some();
    let path = args
        .root
        .clone()
        .or(users)
        .unwrap_or_else(|| runtime::root::DEFAULT.into());
    let root = StateRoot::create(&path, sticky)?;
    let request = Request {
        id: ContainerId::new(&args.id)?,
        bundle: bundle.dir().to_owned(),
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        no_pivot: false,
        no_new_keyring: false,
        descriptors: Descriptors::default(),
        systemd_cgroup: false,
        rootless,
        notify_socket: None,
        start: if record.is_some() {
            Start::Later
        } else {
            Start::Attached
        },
    };
    let warn = &mut |text: &str| eprintln!("hullctl: {text}");
    let code = match record {
        None => runtime::run::run(&root, &request, runtime::run::Options::default(), warn)?,
        Some(record) => explain::run(&root, request, &bundle, &record, warn)?,
    };
    let code = u8::try_from(code).map_err(|_| anyhow!("exit code {code} of the container"))?;
    Ok(ExitCode::from(code))
}

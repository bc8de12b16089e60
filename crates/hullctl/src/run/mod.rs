//! `hullctl run`: a container without a daemon.

mod args;
mod bundle;
mod carrier;
mod config;
mod define;
mod detached;
mod explain;
mod host;
mod image;
mod network;
mod pieces;
mod rootless;
mod units;
mod volume;

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use runtime::ContainerId;
use runtime::become_program::Descriptors;
use runtime::create::{Request, Start};
use runtime::root::StateRoot;
use sys::trace::Recorder;

use args::{NetworkMode, Settings, Target};
pub use args::{RunArgs, parse};
use bundle::Bundle;
pub use define::command;
pub use detached::hull_program;
pub use host::{leftovers, private_mounts};
use image::Prepared;
pub use image::{clear, state_root};
pub use network::STATE as NETWORK_STATE;
pub use rootless::become_root;

/// Runs the container; the exit code is its program's.
pub fn run(args: &RunArgs) -> Result<u8> {
    if matches!(args.target, Target::Host | Target::Image(_)) {
        become_root(&mut |text| eprintln!("hullctl: {text}"))?;
    }
    if let (Target::Image(_), true) = (&args.target, runtime::is_rootless()) {
        can_user(args)?;
        // The root file system is mounted where only this process and the container see it, and
        // goes with them.
        private_mounts()?;
    }
    if let (true, Target::Image(name)) = (args.detach, &args.target) {
        if let Some(NetworkMode::UserSpace(_)) = args.settings.network {
            bail!("run: --detach: nobody would stay for a network in user space; use another");
        }
        return run_detached(args, name);
    }
    // Before anything else exists: the container must not see the program's own file.
    sys::seal::ensure_sealed().context("run from a sealed copy of this program")?;
    // Always: `hullctl why` tells afterwards what took long.
    let record = Recorder::begin()?;
    if let Target::Image(name) = &args.target {
        return run_image(args, name, &record);
    }
    let bundle = Bundle::open(args)?;
    exit_code(stay(args, bundle.dir(), bundle.terminal(), &record)?)
}

/// What a container of an image cannot have without root.
fn can_user(args: &RunArgs) -> Result<()> {
    if args.detach {
        bail!("run: --detach: a user's container of an image ends with this command; leave it out");
    }
    if args.settings.network.unwrap_or(NetworkMode::Bridge) == NetworkMode::Bridge {
        bail!("run: --network bridge: only root; use none, host, pasta or slirp4netns");
    }
    Ok(())
}

/// Creates and starts a container, and stays with it; its exit code.
fn stay(args: &RunArgs, bundle: &Path, terminal: bool, record: &Recorder) -> Result<i32> {
    let sticky = args.root.is_none() && runtime::root::of_user(runtime::is_rootless()).is_some();
    let root = StateRoot::create(&state_root(args), sticky)?;
    let carrier = match args.settings.network {
        Some(NetworkMode::UserSpace(program)) => Some(program),
        _ => None,
    };
    // Something is to be done between the making and the start.
    let in_steps = args.explain || carrier.is_some();
    let request = Request {
        id: ContainerId::new(&args.id)?,
        bundle: bundle.to_owned(),
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        no_pivot: false,
        no_new_keyring: false,
        descriptors: Descriptors::default(),
        systemd_cgroup: false,
        rootless: runtime::is_rootless(),
        notify_socket: None,
        start: if in_steps {
            Start::Later
        } else {
            Start::Attached
        },
    };
    let warn = &mut |text: &str| eprintln!("hullctl: {text}");
    let ended = if in_steps {
        let shown = args.explain.then_some(record);
        explain::run(&root, request, terminal, shown, carrier, warn)
    } else {
        runtime::run::run(&root, &request, runtime::run::Options::default(), warn)
            .map_err(anyhow::Error::from)
    };
    if let Ok(steps) = record.steps() {
        crate::why::keep_stages(&state_root(args), &args.id, &steps);
    }
    if let (Ok(code), false) = (&ended, args.quiet)
        && let Some(hint) = crate::why::hint(&state_root(args), &args.id, *code)
    {
        eprintln!("hullctl: {hint}");
    }
    ended
}

fn run_image(args: &RunArgs, name: &str, record: &Recorder) -> Result<u8> {
    let prepared = Prepared::new(args, name, &state_root(args))?;
    quiet_input(&args.settings)?;
    let ended = stay(args, prepared.place.dir(), args.settings.terminal, record);
    if args.remove || ended.is_err() {
        let undone = prepared.clear(&args.store);
        let code = ended.map_err(|e| with_undo(e, undone.as_ref().err()))?;
        if let Err(e) = undone {
            // The program's exit code is what the caller asked for.
            eprintln!("hullctl: {e:#}");
        }
        return exit_code(code);
    }
    let code = ended?;
    let mut kept = prepared.record.clone();
    kept.exit = Some(code);
    prepared.place.save(&kept)?;
    exit_code(code)
}

fn run_detached(args: &RunArgs, name: &str) -> Result<u8> {
    let prepared = Prepared::new(args, name, &state_root(args))?;
    if let Err(e) = detached::start(&prepared, &args.settings, &args.store) {
        return Err(with_undo(e, prepared.clear(&args.store).as_ref().err()));
    }
    println!("{}", args.id);
    Ok(0)
}

fn with_undo(error: anyhow::Error, undone: Option<&anyhow::Error>) -> anyhow::Error {
    match undone {
        None => error,
        Some(also) => anyhow!("{error:#}; undo: {also:#}"),
    }
}

/// Without `-i` the program finds its standard input at its end.
fn quiet_input(settings: &Settings) -> Result<()> {
    if settings.interactive || settings.terminal {
        return Ok(());
    }
    let null = std::fs::File::open("/dev/null").context("open(/dev/null)")?;
    rustix::stdio::dup2_stdin(&null).context("dup2(/dev/null, 0)")
}

fn exit_code(code: i32) -> Result<u8> {
    u8::try_from(code).map_err(|_| anyhow!("exit code {code} of the container"))
}

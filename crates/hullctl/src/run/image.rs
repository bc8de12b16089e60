//! `hullctl run IMAGE`: from an image to a bundle that can be run.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use image::bundle::{Users, apply_config};
use image::document::ImageConfig;
use image::store::{ImageRecord, MountOptions, Store, StoreOptions};
use rustix::fs::{CWD, Mode, OFlags};
use spec::oci::{Mount, Spec};
use spec::plan::IdMaps;

use super::args::{NetworkMode, Pull, RunArgs, Settings};
use super::config::{base_spec, bind, own_variables, scratch_mounts, userns_map};
use super::network::{self, Connected};
use crate::container::record::{Place, Record};

/// How long to wait for another program that writes the store.
const PATIENCE: Duration = Duration::from_secs(60);
/// What asks a program to end where its image says nothing.
const STOP_SIGNAL: &str = "TERM";

/// A container's directory, root file system and network: made by [`Prepared::new`], undone by
/// [`Prepared::undo`], or by `hullctl container rm` later.
#[derive(Debug)]
pub struct Prepared {
    /// Its directory, with `config.json`.
    pub place: Place,
    /// What is kept of it.
    pub record: Record,
}

/// The store, to write to.
pub fn open_store(root: &Path) -> Result<Store> {
    let options = StoreOptions {
        wait: PATIENCE,
        rootless: runtime::is_rootless(),
        ..StoreOptions::default()
    };
    Ok(Store::open_with(root, &options)?)
}

impl Prepared {
    /// Fetches the image where that is wanted, and makes everything but the container.
    pub fn new(args: &RunArgs, name: &str, state_root: &Path) -> Result<Self> {
        let store = open_store(&args.store)?;
        let image = find(&store, name, args.pull)?;
        let config = store.inspect(&image.id)?.config;
        let place = Place::claim(&args.store, &args.id)?;
        let made = Self::build(args, name, &store, &image, &config, &place, state_root);
        // The other programs of this machine get their turn while the container runs.
        drop(store);
        made.map(|record| Self {
            place: place.clone(),
            record,
        })
        .map_err(|e| {
            match clear(&args.store, &args.id, &place, bridged(&args.settings)) {
                Ok(()) => e,
                Err(also) => anyhow!("{e:#}; undo: {also:#}"),
            }
        })
    }

    /// Removes it, once its program has ended.
    pub fn clear(&self, store: &Path) -> Result<()> {
        clear(store, &self.record.id, &self.place, self.record.bridged)
    }

    fn build(
        args: &RunArgs,
        name: &str,
        store: &Store,
        image: &ImageRecord,
        config: &ImageConfig,
        place: &Place,
        state_root: &Path,
    ) -> Result<Record> {
        let settings = &args.settings;
        let users = user_namespace(settings)?;
        let options = MountOptions {
            user_namespace: users.as_ref().map(OwnedFd::as_fd),
            read_only: false,
            // What is to go with the container need not survive a crash of the machine.
            volatile: args.remove,
            mount_points: true,
        };
        let rootfs = store.mount(&image.id, &args.id, &options)?;
        let connected = network::connect(&args.id, settings)?;
        let mut spec = base_spec(settings, &rootfs.path, &connected.namespace)?;
        program(settings, config, &rootfs.path, &mut spec)?;
        spec.hostname = settings
            .hostname
            .clone()
            .unwrap_or_else(|| short_name(&args.id));
        spec.mounts
            .extend(files(place, &spec.hostname, &connected)?);
        if settings.read_only {
            spec.mounts.extend(scratch_mounts());
        }
        for volume in &settings.volumes {
            spec.mounts.push(volume.mount(&args.store.join("volumes"))?);
        }
        if settings.init {
            under_init(&mut spec)?;
        }
        let json = serde_json::to_string_pretty::<Spec>(&spec).context("write config.json")?;
        place.write("config.json", &json)?;
        let command = spec.process.map(|p| p.args).unwrap_or_default();
        let stop = config.config.as_ref().map(|c| c.stop_signal.clone());
        let record = Record {
            id: args.id.clone(),
            image: name.to_owned(),
            command,
            created: runtime::clock::now_rfc3339(),
            detached: args.detach,
            remove: args.remove,
            bridged: bridged(settings),
            ip: connected.ip.map(|ip| ip.to_string()),
            ports: settings.ports.iter().map(ToString::to_string).collect(),
            stop_signal: stop
                .filter(|s| !s.is_empty())
                .unwrap_or_else(|| STOP_SIGNAL.to_owned()),
            root: state_root.to_owned(),
            exit: None,
        };
        place.save(&record)?;
        Ok(record)
    }
}

/// The ids that the image's files are to have: those of `--userns`.
fn user_namespace(settings: &Settings) -> Result<Option<OwnedFd>> {
    if !settings.userns {
        return Ok(None);
    }
    let maps = IdMaps {
        uids: vec![userns_map()],
        gids: vec![userns_map()],
    };
    Ok(Some(rootfs::user_namespace(&maps)?))
}

/// Whether a container of an image gets an attachment to our bridge.
fn bridged(settings: &Settings) -> bool {
    settings.network.unwrap_or(NetworkMode::Bridge) == NetworkMode::Bridge
}

/// Removes the network, the root file system and the directory of a container that has ended;
/// goes on after errors and reports all.
pub fn clear(store: &Path, id: &str, place: &Place, bridged: bool) -> Result<()> {
    let mut errors = Vec::new();
    if bridged {
        errors.extend(network::disconnect(id).err());
    }
    let removed = open_store(store).and_then(|s| Ok(s.remove_rootfs(id)?));
    errors.extend(removed.err());
    if errors.is_empty() {
        errors.extend(place.remove().err());
    }
    if errors.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = errors.iter().map(|e| format!("{e:#}")).collect();
    Err(anyhow!("{}", texts.join("; ")))
}

/// The image, fetched where `pull` says so.
fn find(store: &Store, name: &str, pull: Pull) -> Result<ImageRecord> {
    if pull != Pull::Always {
        match crate::image::find(store, name) {
            Err(image::Error::Missing { .. }) if pull == Pull::Missing => {}
            other => return Ok(other?),
        }
    }
    crate::image::fetch(store, name)
}

/// Program, environment, user, working directory: the image's, where the command line does not
/// say otherwise.
fn program(settings: &Settings, config: &ImageConfig, root: &Path, spec: &mut Spec) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(CWD, root, flags, Mode::empty())
        .with_context(|| format!("open({})", root.display()))?;
    let users = Users::read(dir.as_fd())?;
    apply_config(config, &users, spec)?;
    let run = config.config.clone().unwrap_or_default();
    let Some(process) = &mut spec.process else {
        return Ok(());
    };
    let entrypoint = match &settings.entrypoint {
        Some(word) if word.is_empty() => Vec::new(),
        Some(word) => vec![word.clone()],
        None => run.entrypoint,
    };
    // Another entrypoint does not get the words that were meant for the image's own.
    let own = settings.entrypoint.is_none() && settings.command.is_empty();
    let words = if own {
        run.cmd
    } else {
        settings.command.clone()
    };
    process.args = entrypoint.into_iter().chain(words).collect();
    if process.args.is_empty() {
        bail!("run: the image names no program: say which after its name");
    }
    for variable in own_variables(settings) {
        let name = variable.split('=').next().unwrap_or_default().to_owned();
        process
            .env
            .retain(|v| v.split('=').next() != Some(name.as_str()));
        process.env.push(variable);
    }
    if let Some(user) = &settings.user {
        let user = users.resolve(user)?;
        (process.user.uid, process.user.gid) = (user.uid, user.gid);
        process.user.additional_gids = user.additional_gids;
    }
    if let Some(dir) = &settings.workdir {
        process.cwd.clone_from(dir);
    }
    Ok(())
}

/// The files that the image cannot know.
fn files(place: &Place, hostname: &str, connected: &Connected) -> Result<Vec<Mount>> {
    let mut hosts =
        String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    match connected.ip {
        Some(ip) => hosts += &format!("{ip}\t{hostname}\n"),
        None => hosts += &format!("127.0.1.1\t{hostname}\n"),
    }
    let resolvers = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let files = [
        ("hosts", hosts),
        ("hostname", format!("{hostname}\n")),
        ("resolv.conf", reachable(&resolvers, connected)),
    ];
    files
        .into_iter()
        .map(|(name, text)| {
            let path = place.write(name, &text)?;
            Ok(bind(
                &path.display().to_string(),
                &format!("/etc/{name}"),
                &["bind", "rprivate"],
            ))
        })
        .collect()
}

/// A resolver on this machine's loopback is not there in another network namespace.
fn reachable(resolvers: &str, connected: &Connected) -> String {
    if connected.ip.is_none() {
        return resolvers.to_owned();
    }
    let is_here = |line: &&str| {
        let address = line.strip_prefix("nameserver").map(str::trim_start);
        !address.is_some_and(|a| a.starts_with("127.") || a == "::1")
    };
    let mut text = resolvers
        .lines()
        .filter(is_here)
        .collect::<Vec<_>>()
        .join("\n");
    text.push('\n');
    text
}

/// A host name has at most 63 letters (gethostname(2), RFC 1035).
fn short_name(id: &str) -> String {
    id.chars().take(63).collect()
}

/// Runs the program below `hull init`, whose file is shown read-only.
fn under_init(spec: &mut Spec) -> Result<()> {
    const INSIDE: &str = "/run/hull-init";
    let hull = super::detached::hull_program()?;
    let options = ["bind", "ro", "nosuid", "nodev"];
    spec.mounts
        .push(bind(&hull.display().to_string(), INSIDE, &options));
    if let Some(process) = &mut spec.process {
        let words = [INSIDE, "init", "--"].map(str::to_owned);
        process.args.splice(0..0, words);
    }
    Ok(())
}

/// Where the runtime keeps the state of containers.
pub fn state_root(args: &RunArgs) -> PathBuf {
    let users = runtime::root::of_user(runtime::is_rootless());
    args.root
        .clone()
        .or(users)
        .unwrap_or_else(|| runtime::root::DEFAULT.into())
}

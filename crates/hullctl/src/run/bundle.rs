//! The bundle to run: a directory as it is, or the one made for this machine's root.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use spec::oci::Spec;
use spec::plan::IdMaps;

use super::args::{NetworkMode, RunArgs, Settings, Target};
use super::config::{NetworkNamespace, host_spec, userns_map};
use super::host::HostRoot;

/// A bundle, and what must stay while it runs.
#[derive(Debug)]
pub enum Bundle {
    /// Somebody's directory.
    Given {
        /// Absolute.
        dir: PathBuf,
        /// Its configuration asks for a terminal.
        terminal: bool,
    },
    /// Made here; it goes with the value.
    Made {
        /// The layers and their mount points; `config.json` lies among them.
        root: HostRoot,
        /// A terminal was asked for.
        terminal: bool,
    },
}

impl Bundle {
    /// Finds or makes it.
    pub fn open(args: &RunArgs) -> Result<Self> {
        match &args.target {
            Target::Bundle(dir) => given(dir),
            Target::Host | Target::Image(_) => made(args),
        }
    }

    /// The directory with `config.json`.
    pub fn dir(&self) -> &Path {
        match self {
            Self::Given { dir, .. } => dir,
            Self::Made { root, .. } => root.dir(),
        }
    }

    /// Whether its program gets a terminal.
    pub const fn terminal(&self) -> bool {
        match self {
            Self::Given { terminal, .. } | Self::Made { terminal, .. } => *terminal,
        }
    }
}

fn given(dir: &Path) -> Result<Bundle> {
    let what = || {
        format!(
            "{}: no such bundle; give `host` or a bundle directory",
            dir.display()
        )
    };
    let dir = dir.canonicalize().with_context(what)?;
    let path = dir.join("config.json");
    let bytes =
        fs::read(&path).with_context(|| format!("{}: `hull spec` writes one", path.display()))?;
    let spec = spec::parse_config(&bytes).with_context(|| path.display().to_string())?;
    let terminal = spec.process.is_some_and(|p| p.terminal);
    Ok(Bundle::Given { dir, terminal })
}

fn made(args: &RunArgs) -> Result<Bundle> {
    // A user's container is in a user namespace already: the one that we have entered.
    let settings = &Settings {
        userns: args.settings.userns && !runtime::is_rootless(),
        ..args.settings.clone()
    };
    let maps = settings.userns.then(|| IdMaps {
        uids: vec![userns_map()],
        gids: vec![userns_map()],
    });
    let network = match settings.network {
        Some(NetworkMode::Host) => NetworkNamespace::Host,
        _ => NetworkNamespace::New,
    };
    let root = HostRoot::mount(maps.as_ref())?;
    let mut spec = host_spec(settings, &root.path(), &network)?;
    for volume in &settings.volumes {
        spec.mounts.push(volume.mount(&args.store.join("volumes"))?);
    }
    let json = serde_json::to_vec_pretty::<Spec>(&spec).context("write config.json")?;
    let path = root.dir().join("config.json");
    fs::write(&path, json).with_context(|| format!("write({})", path.display()))?;
    Ok(Bundle::Made {
        root,
        terminal: settings.terminal,
    })
}

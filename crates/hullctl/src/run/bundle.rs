//! The bundle to run: a directory as it is, or the one made for this machine's root.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use seccomp::profile::Template;
use spec::oci::{IdMapping, Seccomp, Spec};
use spec::plan::IdMaps;

use super::args::{RunArgs, Target};
use super::config::{USERNS_BASE, USERNS_SIZE, host_spec};
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
            Target::Host => made(args),
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
    let map = vec![IdMapping {
        container_id: 0,
        host_id: USERNS_BASE,
        size: USERNS_SIZE,
    }];
    let maps = args.host.userns.then(|| IdMaps {
        uids: map.clone(),
        gids: map,
    });
    let root = HostRoot::mount(maps.as_ref())?;
    let spec = host_spec(&args.host, &root.path(), seccomp(args)?);
    let json = serde_json::to_vec_pretty::<Spec>(&spec).context("write config.json")?;
    let path = root.dir().join("config.json");
    fs::write(&path, json).with_context(|| format!("write({})", path.display()))?;
    Ok(Bundle::Made {
        root,
        terminal: args.host.terminal,
    })
}

fn seccomp(args: &RunArgs) -> Result<Option<Seccomp>> {
    if args.host.no_seccomp {
        return Ok(None);
    }
    let template = Template::default_profile().context("the default seccomp profile")?;
    let granted: Vec<String> = super::config::CAPABILITIES
        .iter()
        .map(ToString::to_string)
        .collect();
    Ok(Some(template.resolve(&granted)))
}

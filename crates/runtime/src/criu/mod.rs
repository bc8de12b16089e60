//! Saving a container's processes to disk and restoring them, with criu(8).
//!
//! criu is started as `criu swrk` and driven over a socket ([`swrk`]) in its own messages
//! ([`message`]). What it may connect to the outside is said here, from the configuration alone:
//! an image can name nothing that the configuration does not ([`outside`]), and what was restored
//! is measured against the configuration before it runs ([`verify`]).

mod checkpoint;
mod log;
mod message;
mod outside;
mod protobuf;
mod restore;

mod streams;
mod swrk;
mod verify;

use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use sys::Context as _;

pub use checkpoint::{Request as CheckpointRequest, checkpoint};
pub use message::{CgroupsMode, Switches};
pub use restore::{Request as RestoreRequest, restore};
pub use verify::verify;

use log::Log;
use message::{Kind, Options};
use swrk::Criu;

use crate::{Container, Error, Result};

/// Oldest major version that is spoken with.
const OLDEST: u64 = 3;
/// A file of options for criu that applies to all containers; the annotation of the same purpose
/// names another one.
const CONFIG_FILE: &str = "/etc/criu/hull.conf";
const CONFIG_ANNOTATION: &str = "org.criu.config";

/// What dumps and restores have in common.
#[derive(Clone, Debug, Default)]
pub struct Common {
    /// Directory of the image.
    pub image_path: PathBuf,
    /// Directory for criu's log and temporary files; the image's where absent.
    pub work_path: Option<PathBuf>,
    /// Treatment of control groups.
    pub cgroups_mode: CgroupsMode,
    /// The switches.
    pub switches: Switches,
}

impl Common {
    /// The options of criu that come from here. `make` makes missing directories.
    fn options(
        &self,
        container: &Container,
        log_file: &'static str,
        make: bool,
    ) -> Result<Options> {
        // Devices and addresses are nothing of a runtime's: whoever gave them to the container
        // gives them to the restored one, and their other ends are not in the image.
        const CLONE_NEWNET: u32 = 0x4000_0000;
        let images_dir = open_dir(&self.image_path, make)?;
        let work_dir = self.work_path.as_deref().map(|p| open_dir(p, true));
        Ok(Options {
            images_dir: Some(images_dir),
            work_dir: work_dir.transpose()?,
            log_file,
            cgroups_mode: self.cgroups_mode,
            empty_namespaces: CLONE_NEWNET,
            config_file: config_file(container)?,
            switches: self.switches,
            ..Options::default()
        })
    }

    /// The log of `criu`.
    fn log(&self, criu: String, name: &str) -> Log {
        let dir = self.work_path.as_ref().unwrap_or(&self.image_path);
        Log::new(criu, dir.join(name))
    }
}

fn open_dir(path: &Path, make: bool) -> Result<OwnedFd> {
    let args = || path.display().to_string();
    if make {
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(path);
        made.context("mkdir", args)?;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty()).context("openat", args)?)
}

/// A file named by the annotation must be there; the other one may.
fn config_file(container: &Container) -> Result<Option<String>> {
    let named = container.record.annotations.get(CONFIG_ANNOTATION);
    match named.map(String::as_str) {
        Some("") => Ok(None),
        Some(path) if Path::new(path).is_file() => Ok(Some(path.to_owned())),
        Some(path) => {
            let text = format!("annotation {CONFIG_ANNOTATION}: {path:?} is not a file");
            Err(Error::Invalid(text))
        }
        None => Ok(Path::new(CONFIG_FILE)
            .is_file()
            .then(|| CONFIG_FILE.to_owned())),
    }
}

/// Refuses a criu that is too old, and what it or the kernel cannot do. Returns its name and
/// version.
fn require(memory_tracking: bool, lazy_pages: bool) -> Result<String> {
    // Each question ends the criu that answers it.
    let version = Criu::start()?.ask(Kind::Version, None)?.version;
    let [major, minor, sublevel] = version.unwrap_or_default();
    let name = match sublevel {
        0 => format!("criu {major}.{minor}"),
        _ => format!("criu {major}.{minor}.{sublevel}"),
    };
    if major < OLDEST {
        let text = format!("{name} is too old: {OLDEST}.0 or newer is needed");
        return Err(Error::Criu(text));
    }
    if !memory_tracking && !lazy_pages {
        return Ok(name);
    }
    let [tracks, lazy] = Criu::start()?.ask(Kind::FeatureCheck, None)?.features;
    let missing = match (memory_tracking && !tracks, lazy_pages && !lazy) {
        (true, _) => "track changes of memory",
        (_, true) => "serve pages on demand",
        _ => return Ok(name),
    };
    let text = format!("{name} on this kernel cannot {missing}");
    Err(Error::Criu(text))
}

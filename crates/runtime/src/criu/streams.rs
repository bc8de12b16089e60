//! The standard streams of the first process: those that lead out of the container are connected
//! to the restorer's own.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sys::Context as _;

use super::Common;
use super::message::Options;
use crate::{Doing as _, Error, Result};

/// What the streams were at the time of the dump, beside the image: where their links led, or
/// criu's name for a file that is outside.
const DESCRIPTORS: &str = "descriptors.json";

/// For a dump: names files of the host, and writes all down.
pub(super) fn save(pid: i32, common: &Common, options: &mut Options) -> Result<()> {
    let mounts = format!("/proc/{pid}/mountinfo");
    let mounts = std::fs::read_to_string(&mounts).context("read", || mounts)?;
    let mut streams = Vec::new();
    for number in 0..3 {
        let path = format!("/proc/{pid}/fd/{number}");
        let link = std::fs::read_link(&path).unwrap_or_default();
        let outside = outside_file(pid, number, &link, &mounts);
        options.external.extend(outside.clone());
        streams.push(outside.unwrap_or_else(|| link.to_string_lossy().into_owned()));
    }
    options.external.dedup();
    let json = serde_json::to_vec(&streams).map_err(|source| Error::Json {
        what: DESCRIPTORS.to_owned(),
        source,
    })?;
    let path = common.image_path.join(DESCRIPTORS);
    std::fs::write(&path, json)
        .context("write", || path.display().to_string())
        .doing(|| "save the links of standard streams")
}

/// criu's name of a regular file that no mount of the container shows.
fn outside_file(pid: i32, number: i32, link: &Path, mounts: &str) -> Option<String> {
    let stat = std::fs::metadata(format!("/proc/{pid}/fd/{number}")).ok()?;
    if !stat.is_file() || link.starts_with("/memfd:") {
        return None;
    }
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    let mount: u32 = info
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))?
        .trim()
        .parse()
        .ok()?;
    let name = mount.to_string();
    let shown = mounts.lines().any(|l| l.split(' ').next() == Some(&name));
    (!shown).then(|| format!("file[{mount:x}:{:x}]", stat.ino()))
}

/// For a restore: streams that were pipes or files of the host become ours, which criu has under
/// the same numbers.
pub(super) fn inherited(common: &Common) -> Result<Vec<(String, i32)>> {
    let path = common.image_path.join(DESCRIPTORS);
    let json = std::fs::read(&path).context("open", || path.display().to_string())?;
    let links: Vec<String> = serde_json::from_slice(&json).map_err(|source| Error::Json {
        what: path.display().to_string(),
        source,
    })?;
    let numbered = links.into_iter().take(3).zip(0..);
    Ok(numbered
        .filter(|(link, _)| link.starts_with("pipe:[") || link.starts_with("file["))
        .collect())
}

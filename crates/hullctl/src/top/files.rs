//! Files that are open for writing, and the devices they are on.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::Serialize;

/// A file that a container has open for writing.
#[derive(Clone, Debug, Serialize)]
pub struct OpenFile {
    /// Whose it is.
    pub pid: i32,
    /// As the process sees it.
    pub path: String,
    /// Mount point, type and source.
    pub mount: Option<String>,
    /// `vda`, or major:minor.
    pub device: String,
}

/// The regular files that these processes have open for writing, each once.
pub fn open_for_writing(pids: &[i32]) -> Vec<OpenFile> {
    let mut files: BTreeMap<String, OpenFile> = BTreeMap::new();
    for &pid in pids {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd"));
        for entry in entries.into_iter().flatten().flatten() {
            if !writes(pid, &entry.file_name().to_string_lossy()) {
                continue;
            }
            let (Ok(target), Ok(meta)) = (
                std::fs::read_link(entry.path()),
                std::fs::metadata(entry.path()),
            ) else {
                continue;
            };
            if !meta.is_file() {
                continue;
            }
            let path = target.display().to_string();
            let file = OpenFile {
                pid,
                mount: crate::proc::waits::mount_of(pid, &target),
                device: device_name(meta.dev()),
                path: path.clone(),
            };
            files.entry(path).or_insert(file);
        }
    }
    files.into_values().collect()
}

/// The access mode is the last two bits of `flags` in fdinfo.
fn writes(pid: i32, fd: &str) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
    let flags = crate::proc::status_field(&text, "flags").unwrap_or_default();
    u32::from_str_radix(&flags, 8).is_ok_and(|flags| flags & 3 != 0)
}

/// The name of a block device, by /sys; `tmpfs and the like` have none.
fn device_name(dev: u64) -> String {
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    name_of(u64::from(major), u64::from(minor))
}

/// `vda` for 254:0.
pub fn name_of(major: u64, minor: u64) -> String {
    let number = format!("{major}:{minor}");
    let link = std::fs::read_link(Path::new("/sys/dev/block").join(&number));
    let name = link
        .ok()
        .and_then(|l| Some(l.file_name()?.to_string_lossy().into_owned()));
    name.unwrap_or(number)
}

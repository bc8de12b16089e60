//! What a process of the container sees, as JSON.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{major, minor};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};

const FILES: &[&str] = &[
    "status",
    "limits",
    "mountinfo",
    "cgroup",
    "uid_map",
    "gid_map",
    "setgroups",
    "oom_score_adj",
    "personality",
    "timens_offsets",
    "attr/current",
    "stat",
    "sched",
    "numa_maps",
    "comm",
];

const LINKS: &[&str] = &[
    "exe",
    "root",
    "cwd",
    "ns/pid",
    "ns/net",
    "ns/mnt",
    "ns/ipc",
    "ns/uts",
    "ns/user",
    "ns/cgroup",
    "ns/time",
];

/// Everything.
pub fn report() -> Value {
    // First, so that the list does not hold what the rest opens.
    let fds = fds();
    let read = |name: &&str| fs::read_to_string(Path::new("/proc/self").join(name)).ok();
    let link = |name: &&str| {
        let target = fs::read_link(Path::new("/proc/self").join(name)).ok()?;
        Some(target.to_string_lossy().into_owned())
    };
    let files: Map<String, Value> = FILES
        .iter()
        .map(|f| (f.to_string(), json!(read(f))))
        .collect();
    let links: Map<String, Value> = LINKS
        .iter()
        .map(|l| (l.to_string(), json!(link(l))))
        .collect();
    let uname = rustix::system::uname();
    let text = |c: &std::ffi::CStr| c.to_string_lossy().into_owned();
    let mut dev = Map::new();
    devices(Path::new("/dev"), &mut dev);
    json!({
        "pid": std::process::id(),
        "args": std::env::args().collect::<Vec<_>>(),
        "env": std::env::vars_os()
            .map(|(k, v)| format!("{}={}", k.to_string_lossy(), v.to_string_lossy()))
            .collect::<Vec<_>>(),
        "cwd": std::env::current_dir().map(|p| p.to_string_lossy().into_owned()).ok(),
        "files": files,
        "links": links,
        "fds": fds,
        "dev": dev,
        "hostname": text(uname.nodename()),
        "domainname": text(uname.domainname()),
        "machine": text(uname.machine()),
        "monotonic": clock_gettime(ClockId::Monotonic).tv_sec,
        "boottime": clock_gettime(ClockId::Boottime).tv_sec,
    })
}

/// Open descriptors but the one of the listing itself.
fn fds() -> Vec<(u64, String)> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let own = format!("/proc/{}/fd", std::process::id());
    let mut fds: Vec<(u64, String)> = entries
        .flatten()
        .filter_map(|e| {
            let number = e.file_name().to_str()?.parse().ok()?;
            let target = fs::read_link(e.path()).ok()?;
            Some((number, target.to_string_lossy().into_owned()))
        })
        .filter(|(_, target)| *target != own)
        .collect();
    fds.sort_unstable();
    fds
}

fn devices(dir: &Path, out: &mut Map<String, Value>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let kind = meta.file_type();
        let letter = match () {
            () if kind.is_char_device() => "c",
            () if kind.is_block_device() => "b",
            () if kind.is_fifo() => "p",
            () if kind.is_symlink() => "l",
            () if kind.is_dir() => "d",
            () => "f",
        };
        let target = fs::read_link(&path).map(|t| t.to_string_lossy().into_owned());
        out.insert(
            path.to_string_lossy().into_owned(),
            json!({
                "kind": letter,
                "rdev": format!("{}:{}", major(meta.rdev()), minor(meta.rdev())),
                "mode": format!("{:o}", meta.permissions().mode() & 0o7777),
                "uid": meta.uid(),
                "gid": meta.gid(),
                "target": target.ok(),
            }),
        );
        if kind.is_dir() {
            devices(&path, out);
        }
    }
}

/// Rows and columns of the terminal on standard input.
pub fn winsize() {
    match rustix::termios::tcgetwinsize(std::io::stdin()) {
        Ok(size) => println!("{} {}", size.ws_row, size.ws_col),
        Err(e) => println!("no terminal: {e}"),
    }
}

/// Prints what it was passed by sd_listen_fds(3): count, pid, the first line of each file.
pub fn listen_fds() {
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    println!("{} {}", var("LISTEN_FDS"), var("LISTEN_PID"));
    let count: u32 = var("LISTEN_FDS").parse().unwrap_or(0);
    for fd in 3..3 + count {
        let text = fs::read_to_string(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        println!("{}", text.lines().next().unwrap_or(""));
    }
}

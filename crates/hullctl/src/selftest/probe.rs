//! The attacker inside: what this program does as a container's process. Each finding is a line.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The definition; hidden, for containers only.
pub fn command() -> Command {
    Command::new("selftest-probe")
        .hide(true)
        .arg(Arg::new("words").num_args(1..).allow_hyphen_values(true))
}

/// Does what the words say.
pub fn run(m: &ArgMatches) -> ExitCode {
    let words: Vec<&str> = m
        .get_many::<String>("words")
        .unwrap_or_default()
        .map(String::as_str)
        .collect();
    match words.as_slice() {
        ["hello"] => println!("hello"),
        ["descriptors"] => descriptors(),
        ["outside", mark] => outside(mark),
        ["climb", mark] => climb(mark),
        ["watch"] => watch(),
        ["overwrite"] => overwrite(),
        ["read", path] => read(path),
        ["writable", paths @ ..] => paths.iter().for_each(|p| writable(Path::new(p))),
        ["release-agents"] => release_agents(Path::new("/sys/fs/cgroup"), 3),
        ["device"] => device(),
        ["status", field] => status(field),
        ["processes"] => processes(),
        ["mounts", word] => mounts(word),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// Whether whoever started the probe has done all that is to be watched.
fn is_over() -> bool {
    let stdin = std::io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::empty())];
    let polled = poll(&mut fds, Some(&Timespec::default()));
    polled.is_err() || fds[0].revents().contains(PollFlags::HUP)
}

/// Descriptors beyond the standard three, but for the one that lists them.
fn descriptors() {
    let entries = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    for entry in entries {
        let number: i32 = entry.file_name().to_string_lossy().parse().unwrap_or(0);
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        if number > 2 && !target.to_string_lossy().contains("/proc/") && !target.ends_with("fd") {
            println!("found {number} {}", target.display());
        }
    }
}

/// Whether the mark can be reached by climbing from the working directory.
fn outside(mark: &str) {
    let up = "../".repeat(32);
    let path = format!("{up}{}", mark.trim_start_matches('/'));
    if Path::new(&path).exists() {
        println!("found {path}");
    }
    if std::env::current_dir().is_err() {
        println!("found a working directory that is not below the root");
    }
}

/// The oldest way out of chroot(2).
fn climb(mark: &str) {
    let _ = fs::create_dir("/tmp/deeper");
    if let Err(e) = rustix::process::chroot("/tmp/deeper") {
        println!("chroot refused: {e}");
        return;
    }
    for _ in 0..64 {
        let _ = rustix::process::chdir("..");
    }
    let _ = rustix::process::chroot(".");
    if Path::new(mark).exists() {
        println!("found {mark}");
    }
}

/// The programs of other processes here that are not the image's.
fn foreign() -> Vec<(String, String)> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    let pids = names.filter(|n| *n != own && n.parse::<u32>().is_ok());
    let programs = pids.filter_map(|pid| {
        let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let of_image = exe.starts_with("/bin");
        (!of_image).then(|| (pid, exe.display().to_string()))
    });
    programs.collect()
}

/// Looks at every process that comes up beside this one: its descriptors and memory.
fn watch() {
    let mut found = BTreeSet::new();
    println!("watching");
    while !is_over() {
        for (pid, exe) in foreign() {
            let fds = fs::read_dir(format!("/proc/{pid}/fd"));
            for fd in fds.into_iter().flatten().flatten() {
                if let Ok(target) = fs::read_link(fd.path()) {
                    found.insert(format!("a descriptor of {exe}: {}", target.display()));
                }
            }
            let memory = OpenOptions::new()
                .write(true)
                .open(format!("/proc/{pid}/mem"));
            if memory.is_ok() {
                found.insert(format!("the memory of {exe}"));
            }
        }
    }
    found.iter().for_each(|f| println!("found {f}"));
}

/// Holds the program file of every such process and tries to open it for writing; a last time when
/// nobody executes it any more.
fn overwrite() {
    let mut held: Vec<(String, File)> = Vec::new();
    println!("watching");
    loop {
        let last = is_over();
        for (pid, exe) in foreign() {
            if held.iter().all(|(known, _)| *known != exe)
                && let Ok(file) = File::open(format!("/proc/{pid}/exe"))
            {
                held.push((exe, file));
            }
        }
        if let Some((exe, _)) = held.iter().find(|(_, file)| can_write(file)) {
            println!("found {exe} can be overwritten");
            return;
        }
        if last {
            return;
        }
    }
}

/// Whether the file can be opened for writing and no seal forbids to write.
fn can_write(file: &File) -> bool {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let Ok(again) = OpenOptions::new().write(true).open(path) else {
        return false;
    };
    let seals = rustix::fs::fcntl_get_seals(&again);
    !seals.is_ok_and(|s| s.contains(rustix::fs::SealFlags::WRITE))
}

fn read(path: &str) {
    match fs::read(path) {
        Ok(bytes) if !bytes.is_empty() => println!("found {}", String::from_utf8_lossy(&bytes)),
        Ok(_) => println!("empty"),
        Err(e) => println!("refused: {e}"),
    }
}

/// Opened for writing only: nothing is written.
fn writable(path: &Path) {
    if OpenOptions::new().write(true).open(path).is_ok() {
        println!("found {}", path.display());
    }
}

fn release_agents(dir: &Path, depth: u32) {
    for name in ["release_agent", "notify_on_release"] {
        writable(&dir.join(name));
    }
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            release_agents(&entry.path(), depth - 1);
        }
    }
}

/// The machine's memory as a device: a node can be made, opening it must be refused.
fn device() {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let made = mknodat(
        CWD,
        "/tmp/mem",
        FileType::CharacterDevice,
        Mode::RUSR,
        makedev(1, 1),
    );
    match made {
        Err(e) => println!("refused: mknod: {e}"),
        Ok(()) => match File::open("/tmp/mem") {
            Ok(_) => println!("found /dev/mem"),
            Err(e) => println!("refused: {e}"),
        },
    }
}

fn status(field: &str) {
    let value = crate::proc::status_field(&crate::proc::status_self(), field);
    println!("value {}", value.unwrap_or_default());
}

fn processes() {
    for pid in crate::proc::pids().unwrap_or_default() {
        if pid != i32::try_from(std::process::id()).unwrap_or(0) {
            println!("found {pid} {}", crate::proc::command_line(pid));
        }
    }
}

/// Mounts whose line has this word.
fn mounts(word: &str) {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter(|l| l.contains(word))
        .for_each(|l| println!("found {l}"));
}

//! Misbehaviour, each kind as one command.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Takes and touches that many megabytes, then says that it survived.
pub fn hog(megabytes: u64) {
    let mut held = Vec::new();
    for n in 0..megabytes {
        let fill = u8::try_from(n % 255 + 1).unwrap_or(1);
        held.push(vec![fill; 1 << 20]);
    }
    println!("survived with {} MB", held.len());
}

/// Starts that many processes at once, and says how many it got.
pub fn fork(count: u64) {
    let mut children = Vec::new();
    for _ in 0..count {
        match Command::new("/bin/sleep").arg("5").spawn() {
            Ok(child) => children.push(child),
            Err(_) => break,
        }
    }
    println!("{}", children.len());
    for child in &mut children {
        // Gone is what we want.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Opens a file (`r`, `w`), and prints `ok` or the error's text.
pub fn open(how: &str, path: &str) -> ExitCode {
    let write = how.contains('w');
    match OpenOptions::new().read(!write).write(write).open(path) {
        Ok(_) => {
            println!("ok");
            ExitCode::SUCCESS
        }
        Err(e) => {
            println!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// Looks, for some seconds, at every process that comes up beside this one, and prints each thing
/// of the host that it gets hold of: descriptors, memory, the root and the program of a process
/// that is not the container's own program.
pub fn watch(seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    let own = std::process::id();
    let mut found = BTreeSet::new();
    println!("watching");
    while Instant::now() < end {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.parse::<u32>().is_ok_and(|pid| pid != own) {
                look(&name, &mut found);
            }
        }
    }
    for line in found {
        println!("{line}");
    }
    println!("done");
}

fn look(pid: &str, found: &mut BTreeSet<String>) {
    // What the container starts itself is no secret: only the runtime's own processes are.
    let Ok(exe) = fs::read_link(format!("/proc/{pid}/exe")) else {
        return;
    };
    let exe = exe.to_string_lossy().into_owned();
    if exe.starts_with("/bin/") {
        return;
    }
    found.insert(format!("exe of the runtime: {exe}"));
    for fd in fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let target = fs::read_link(fd.path()).unwrap_or_default();
        found.insert(format!("descriptor of {exe}: {}", target.display()));
    }
    if OpenOptions::new()
        .write(true)
        .open(format!("/proc/{pid}/mem"))
        .is_ok()
    {
        found.insert(format!("memory of {exe}"));
    }
    if fs::read_dir(format!("/proc/{pid}/root/")).is_ok_and(|mut d| {
        d.any(|e| e.is_ok_and(|e| e.file_name() == "lost+found" || e.file_name() == "boot"))
    }) {
        found.insert(format!("root of {exe}"));
    }
}

/// Holds the program file of every process that is not the container's own, and tries for some
/// seconds to open it for writing, also after the process has gone. Prints what it could open.
pub fn overwrite(seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut held = Vec::new();
    let mut seen = BTreeSet::new();
    println!("watching");
    while Instant::now() < end {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let path = entry.path().join("exe");
            let Ok(target) = fs::read_link(&path) else {
                continue;
            };
            let foreign = !target.starts_with("/bin");
            if foreign
                && let Ok(file) = fs::File::open(&path)
                && seen.insert(entry.file_name())
            {
                println!("held {}", target.display());
                held.push(file);
            }
        }
        for file in &held {
            let fd = std::os::fd::AsRawFd::as_raw_fd(file);
            let again = OpenOptions::new()
                .write(true)
                .open(format!("/proc/self/fd/{fd}"));
            if let Ok(mut file) = again
                && file.write_all(b"").is_ok()
                && rustix::fs::fcntl_get_seals(&file).is_ok_and(|s| s.is_empty())
                    | rustix::fs::fcntl_get_seals(&file).is_err()
            {
                println!("OVERWRITABLE");
                return;
            }
        }
        sleep(Duration::from_millis(1));
    }
    println!("done, held {}", held.len());
}

/// Sends a text to `$NOTIFY_SOCKET` (sd_notify(3)).
pub fn notify(text: &str) {
    let path = std::env::var_os("NOTIFY_SOCKET").expect("NOTIFY_SOCKET");
    let socket = UnixDatagram::unbound().expect("socket");
    socket
        .send_to(text.replace("\\n", "\n").as_bytes(), path)
        .expect("send to NOTIFY_SOCKET");
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

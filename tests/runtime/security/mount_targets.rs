//! Mount points that change under the runtime's hands (CVE-2021-30465, CVE-2024-45310): another
//! container exchanges a directory of a shared volume with a symbolic link to the host.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use runtime_suite::prelude::*;
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Exchanges two names for as long as it lives.
struct Exchanger {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Exchanger {
    fn new(one: PathBuf, two: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).expect("exchange");
                count += 1;
            }
            count
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Exchanger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let count = self.thread.take().map(JoinHandle::join);
        println!("exchanged {count:?} times");
    }
}

/// A volume with a directory `target` and a link `evil` to a directory of the host.
fn volume(t: &Case) -> (PathBuf, PathBuf) {
    let (volume, victim) = (t.new_dir("volume"), t.new_dir("victim"));
    std::fs::create_dir(volume.join("target")).expect("mkdir");
    symlink(&victim, volume.join("evil")).expect("symlink");
    (volume, victim)
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir)
        .expect("read a directory")
        .next()
        .is_none()
}

const ROUNDS: u32 = 60;

#[test]
fn a_mount_below_a_directory_that_is_exchanged() {
    case(|t| {
        let (volume, victim) = volume(t);
        let _exchanger = Exchanger::new(volume.join("target"), volume.join("evil"));
        let mut worked = 0;
        for round in 0..ROUNDS {
            let out = t.run(|c| {
                args(c, &["/bin/probe", "report"]);
                bind(c, &volume, "/vol", &[]);
                mount(c, "tmpfs", "race", "/vol/target/new/mount", &[]);
            });
            assert!(is_empty(&victim), "round {round}: made on the host: {out}");
            if out.code() == 0 {
                worked += 1;
                let r = Report::new(&out.stdout);
                let inside = r.mounts().iter().any(|m| m.source == "race");
                assert!(inside, "round {round}: it was mounted elsewhere: {out}");
            }
        }
        println!("{worked} of {ROUNDS} worked");
    });
}

#[test]
fn a_bind_of_a_file_on_a_name_that_is_exchanged() {
    case(|t| {
        let (volume, victim) = (t.new_dir("volume"), t.new_dir("victim"));
        std::fs::write(victim.join("file"), "of the host").expect("write");
        std::fs::write(volume.join("target"), "of the volume").expect("write");
        symlink(victim.join("file"), volume.join("evil")).expect("symlink");
        let source = t.new_file("source", "the source");
        let _exchanger = Exchanger::new(volume.join("target"), volume.join("evil"));
        for round in 0..ROUNDS {
            let out = t.run(|c| {
                script(c, "echo scribble >/vol/target; cat /proc/self/mountinfo");
                bind(c, &volume, "/vol", &[]);
                bind(c, &source, "/vol/target", &["ro"]);
            });
            let text = std::fs::read_to_string(victim.join("file")).expect("read");
            assert_eq!(text, "of the host", "round {round}: {out}");
        }
    });
}

#[test]
fn masks_below_a_directory_that_is_exchanged() {
    case(|t| {
        let (volume, victim) = volume(t);
        std::fs::create_dir(victim.join("sub")).expect("mkdir");
        std::fs::create_dir(volume.join("target/sub")).expect("mkdir");
        let _exchanger = Exchanger::new(volume.join("target"), volume.join("evil"));
        for round in 0..ROUNDS {
            let out = t.run(|c| {
                bind(c, &volume, "/vol", &[]);
                c["linux"]["maskedPaths"] = json!(["/vol/target/sub"]);
                c["linux"]["readonlyPaths"] = json!(["/vol/target"]);
            });
            let host = runtime_suite::mountinfo::own();
            assert!(
                !host.iter().any(|m| m.point.starts_with(&victim)),
                "round {round}: {out}"
            );
            // The host can write to its own directory as before.
            std::fs::write(victim.join("sub/file"), "x").expect("write");
        }
    });
}

#[test]
fn a_working_directory_below_a_directory_that_is_exchanged() {
    case(|t| {
        let (volume, victim) = volume(t);
        let _exchanger = Exchanger::new(volume.join("target"), volume.join("evil"));
        for round in 0..ROUNDS {
            let out = t.run(|c| {
                bind(c, &volume, "/vol", &[]);
                c["process"]["cwd"] = json!("/vol/target/made/deep");
            });
            assert!(is_empty(&victim), "round {round}: {out}");
            // What was made in the volume itself would be found in the next round.
            for name in ["target/made", "evil/made"] {
                let _ = std::fs::remove_dir_all(volume.join(name));
            }
            // Through the link, the line above may have looked at the victim only.
            assert!(is_empty(&victim));
        }
    });
}

/// Control: a program that first looks and then makes is caught out by the same exchange.
#[test]
fn control_look_and_make_is_caught_out() {
    case(|t| {
        let (volume, victim) = volume(t);
        let _exchanger = Exchanger::new(volume.join("target"), volume.join("evil"));
        let target = volume.join("target");
        wait_until("it is caught out", || {
            // Many times without a pause: the moment is short.
            for _ in 0..1000 {
                let looks_good = std::fs::symlink_metadata(&target).is_ok_and(|m| m.is_dir());
                if looks_good {
                    // Errors: exchanged in the other direction, or there already.
                    let _ = std::fs::create_dir(target.join("new"));
                }
            }
            !is_empty(&victim)
        });
    });
}

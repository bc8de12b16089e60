//! Descriptors of the host inside (CVE-2016-9962, CVE-2024-21626), and a working directory that
//! leads to one.

use std::process::Command;

use runtime_suite::prelude::*;

/// Directories of the host, open in the caller under low and high numbers, as a careless caller
/// or a bug would leave them.
const LEFT_OPEN: [u32; 4] = [3, 7, 8, 9];

fn left_open(path: &Path) -> Vec<(u32, &Path)> {
    LEFT_OPEN.iter().map(|n| (*n, path)).collect()
}

/// A directory of the host with a file that nobody inside may read.
fn secret(t: &Case) -> PathBuf {
    let dir = t.new_dir("outside/deep");
    std::fs::write(dir.join("secret"), "the secret of the host").expect("write");
    dir
}

#[test]
fn none_is_left_in_the_first_process() {
    case(|t| {
        let dir = secret(t);
        t.write(|c| args(c, &["/bin/probe", "report"]));
        let out = t
            .with_bundle("run", &[])
            .with_fds(&left_open(&dir))
            .run()
            .ok();
        let fds = Report::new(&out.stdout).fds();
        assert_eq!(fds.len(), 3, "{fds:?}");
    });
}

#[test]
fn none_is_left_in_an_executed_process() {
    case(|t| {
        let dir = secret(t);
        t.up(|_| {});
        let exec = t.exec_cmd(&[], &["/bin/probe", "report"]);
        let out = exec.with_fds(&left_open(&dir)).run().ok();
        let fds = Report::new(&out.stdout).fds();
        assert_eq!(fds.len(), 3, "{fds:?}");
    });
}

/// Control: a descriptor that is passed on purpose is seen.
#[test]
fn control_a_passed_descriptor_is_found() {
    case(|t| {
        let dir = secret(t);
        t.write(|c| args(c, &["/bin/probe", "report"]));
        let run = t.with_bundle("run", &["--preserve-fds", "1"]);
        let out = run.with_fds(&left_open(&dir)).run().ok();
        let fds = Report::new(&out.stdout).fds();
        assert!(
            fds.iter().any(|(n, to)| *n == 3 && to.contains("outside")),
            "{fds:?}"
        );
    });
}

/// What a shell does that was started in a directory of the host.
const STEAL: &str = "pwd; cat secret ../secret ../deep/secret 2>/dev/null; \
    ls -d ../../../../../../lost+found ../../../../../../boot 2>/dev/null; true";

/// Refused, or harmless: nothing of the host was read.
fn harmless(out: &Output, what: &str) {
    assert!(
        !out.stdout.contains("the secret of the host"),
        "{what}: {out}"
    );
    assert!(!out.stdout.contains("lost+found"), "{what}: {out}");
    assert!(!out.stdout.contains("/boot"), "{what}: {out}");
    if out.code() == 0 {
        let cwd = out.stdout.lines().next().unwrap_or("");
        assert!(
            cwd.starts_with('/'),
            "{what}: the working directory is nowhere: {out}"
        );
    }
}

#[test]
fn a_working_directory_through_a_descriptor() {
    case(|t| {
        let dir = secret(t);
        for n in 3..=14 {
            t.write(|c| {
                c["process"]["cwd"] = json!(format!("/proc/self/fd/{n}"));
                script(c, STEAL);
            });
            let out = t.with_bundle("run", &[]).with_fds(&left_open(&dir)).run();
            harmless(&out, &format!("descriptor {n}"));
        }
    });
}

#[test]
fn a_working_directory_that_is_a_symlink_to_a_descriptor() {
    case(|t| {
        let dir = secret(t);
        for n in [3, 5, 6, 7, 8, 9, 10] {
            let link = t.rootfs().join("work");
            // The link of the round before.
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(format!("/proc/self/fd/{n}"), &link).expect("symlink");
            t.write(|c| {
                c["process"]["cwd"] = json!("/work");
                script(c, STEAL);
            });
            let out = t.with_bundle("run", &[]).with_fds(&left_open(&dir)).run();
            harmless(&out, &format!("descriptor {n}"));
        }
    });
}

#[test]
fn an_exec_with_a_working_directory_through_a_descriptor() {
    case(|t| {
        let dir = secret(t);
        t.up(|_| {});
        for n in 3..=14 {
            let cwd = format!("/proc/self/fd/{n}");
            let exec = t.exec_cmd(&["--cwd", &cwd], &["/bin/sh", "-c", STEAL]);
            let out = exec.with_fds(&left_open(&dir)).run();
            harmless(&out, &format!("descriptor {n}"));
        }
    });
}

#[test]
fn an_exec_with_a_working_directory_of_a_process_of_the_runtime() {
    case(|t| {
        let dir = secret(t);
        t.up(|_| {});
        // In the pid namespace the executed process has the next number; its own cwd is a link
        // to wherever the runtime was started.
        for cwd in [
            "/proc/self/cwd",
            "/proc/thread-self/cwd",
            "/proc/self/root/..",
        ] {
            let exec = t.exec_cmd(&["--cwd", cwd], &["/bin/sh", "-c", STEAL]);
            harmless(&exec.dir(&dir).run(), cwd);
        }
    });
}

/// The worst case: the caller passes a directory of the host on purpose, and the configuration
/// asks to start in it. The descriptor may be used by the program; as working directory it is
/// out of the container's root, and refused. This also is the control: a runtime that does not
/// look where it stands (crun 1.8, runc before 1.1.12) fails it.
#[test]
fn a_working_directory_through_a_passed_descriptor() {
    case(|t| {
        let dir = secret(t);
        t.write(|c| {
            c["process"]["cwd"] = json!("/proc/self/fd/3");
            script(c, STEAL);
        });
        let run = t.with_bundle("run", &["--preserve-fds", "1"]);
        harmless(&run.with_fds(&left_open(&dir)).run(), "run");
        t.up(|_| {});
        let flags = ["--preserve-fds", "1", "--cwd", "/proc/self/fd/3"];
        let exec = t.exec_cmd(&flags, &["/bin/sh", "-c", STEAL]);
        harmless(&exec.with_fds(&left_open(&dir)).run(), "exec");
    });
}

/// CVE-2016-9962: a process of the container, here with all that a default one may do, watches
/// for the runtime's own process on its way to the executed program.
#[test]
fn the_process_of_an_exec_cannot_be_looked_into() {
    case(|t| {
        let watch = t.run_aside(|c| args(c, &["/bin/probe", "watch"]));
        wait_until("it watches", || watch.stdout().contains("watching"));
        // Where a watcher and an exec share one processor, each exec takes long.
        for _ in 0..15 / slowness() {
            let _ = t.exec(&[], &["/bin/true"]).ok();
        }
        t.enough();
        let out = watch.wait().ok();
        assert!(out.stdout.contains("done"), "{out}");
        assert!(!out.stdout.contains("found"), "{out}");
    });
}

/// Control: a process that was put into the pid namespace by hand, with no more rights than the
/// container has, is looked into.
#[test]
fn control_a_process_put_inside_is_looked_into() {
    case(|t| {
        t.needs_root("nsenter(1) of a pid namespace alone");
        t.write(|c| args(c, &["/bin/probe", "watch"]));
        let watch = t.with_bundle("run", &[]).spawn();
        wait_until("it watches", || watch.stdout().contains("watching"));
        let target = t.pid().to_string();
        let mut nsenter = Command::new("nsenter");
        nsenter
            .args(["--target", &target, "--pid"])
            .args(["setpriv", "--bounding-set", "-all", "--no-new-privs"])
            .args(["sleep", "1000"])
            .env(MARK, t.token());
        let mut inside = nsenter.spawn().expect("run nsenter");
        wait_until("it is looked into", || {
            let seen = watch.stdout();
            seen.contains("found the program") && seen.contains("found a descriptor")
        });
        t.enough();
        let _ = watch.wait().ok();
        // Its process in the namespace has ended with the namespace, and so it has.
        let _ = inside.wait().expect("wait for nsenter");
    });
}

#[test]
fn standard_streams_keep_their_owner() {
    case(|t| {
        use std::os::unix::fs::MetadataExt;
        let before = std::fs::metadata("/dev/null").expect("stat");
        let user = json!({"uid": 1000, "gid": 1000});
        t.write(|c| c["process"]["user"] = user);
        let null = ["sh", "-c", "exec \"$0\" \"$@\" </dev/null >/dev/null 2>&1"];
        let mut shell = Command::new(null[0]);
        shell.args(&null[1..]);
        let _ = t.with_bundle("run", &[]).under(&shell).run().ok();
        let after = std::fs::metadata("/dev/null").expect("stat");
        assert_eq!((before.uid(), before.mode()), (after.uid(), after.mode()));
    });
}

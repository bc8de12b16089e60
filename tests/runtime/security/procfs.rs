//! A /proc that is not one (CVE-2019-16884, CVE-2019-19921, CVE-2025-52881): what the runtime
//! writes there must reach the kernel, or nothing.

use std::process::Command;

use runtime_suite::prelude::*;

/// A directory that looks like /proc to who does not look twice.
fn fake_proc(t: &Case) -> PathBuf {
    let fake = t.new_dir("fake-proc");
    for dir in [
        "sys/net/ipv4",
        "sys/kernel",
        "self/attr",
        "self/fd",
        "1/attr",
        "thread-self/attr",
    ] {
        std::fs::create_dir_all(fake.join(dir)).expect("mkdir");
    }
    for file in [
        "sys/net/ipv4/ip_default_ttl",
        "self/oom_score_adj",
        "self/attr/exec",
        "self/attr/keycreate",
        "self/setgroups",
        "thread-self/attr/exec",
        "sysrq-trigger",
        "1/oom_score_adj",
        "version",
    ] {
        std::fs::write(fake.join(file), "fake").expect("write");
    }
    fake
}

fn is_unwritten(dir: &Path) {
    for entry in std::fs::read_dir(dir).expect("read a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            is_unwritten(&path);
        } else {
            let text = std::fs::read_to_string(&path).expect("read");
            assert_eq!(text, "fake", "{} was written", path.display());
        }
    }
}

/// A parameter of the container's network namespace, read with the host's own /proc.
fn real_ttl(pid: i32) -> String {
    // A user enters the user namespace first.
    let user = match ground() {
        Ground::Rootless => &["--user", "--preserve-credentials"][..],
        _ => &[],
    };
    let out = Command::new("nsenter")
        .args(user)
        .args([
            "--net",
            "--target",
            &pid.to_string(),
            "cat",
            "/proc/sys/net/ipv4/ip_default_ttl",
        ])
        .output()
        .expect("run nsenter");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// Refused, or what was asked for is true in the kernel, with the fake as it was.
fn true_or_refused(t: &Case, change: impl FnOnce(&mut Value)) {
    let fake = fake_proc(t);
    let out = t.create(|c| {
        c["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "77"});
        c["process"]["oomScoreAdj"] = json!(523);
        c["linux"]["maskedPaths"] = json!([]);
        args(c, &["/bin/sleep", "1000"]);
        change(c);
    });
    println!("{out}");
    if out.code() == 0 {
        let _ = t.start().ok();
        let pid = t.pid();
        assert_eq!(real_ttl(pid), "77");
        let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("read");
        assert_eq!(score.trim(), "523");
    }
    is_unwritten(&fake);
}

#[test]
fn a_volume_on_proc() {
    case(|t| {
        let fake = t.dir().join("fake-proc");
        true_or_refused(t, |c| {
            no_mount(c, "/proc");
            c["linux"]["readonlyPaths"] = json!([]);
            bind(c, &fake, "/proc", &[]);
        });
    });
}

#[test]
fn a_volume_over_proc() {
    case(|t| {
        let fake = t.dir().join("fake-proc");
        true_or_refused(t, |c| {
            c["linux"]["readonlyPaths"] = json!([]);
            bind(c, &fake, "/proc", &[]);
        });
    });
}

#[test]
fn a_volume_on_a_part_of_proc() {
    case(|t| {
        let fake = t.dir().join("fake-proc");
        true_or_refused(t, |c| bind(c, fake.join("sys"), "/proc/sys", &[]));
        let _ = t.delete_force();
        true_or_refused(t, |c| {
            bind(c, fake.join("self/attr"), "/proc/self/attr", &[])
        });
    });
}

#[test]
fn a_tmpfs_on_proc() {
    case(|t| {
        true_or_refused(t, |c| {
            no_mount(c, "/proc");
            c["linux"]["readonlyPaths"] = json!([]);
            mount(c, "tmpfs", "tmpfs", "/proc", &[]);
        });
    });
}

#[test]
fn an_image_with_files_in_proc_and_no_mount() {
    case(|t| {
        let fake = fake_proc(t);
        let proc = t.rootfs().join("proc");
        std::fs::remove_dir(&proc).expect("rmdir");
        let copied = Command::new("cp").arg("-r").arg(&fake).arg(&proc).status();
        assert!(copied.expect("run cp").success());
        true_or_refused(t, |c| {
            no_mount(c, "/proc");
            c["linux"]["readonlyPaths"] = json!([]);
        });
        is_unwritten(&proc);
    });
}

/// A link in the image in place of the directory: nothing is mounted where it leads.
#[test]
fn an_image_whose_proc_leads_to_the_fake() {
    case(|t| {
        let fake = fake_proc(t);
        let proc = t.rootfs().join("proc");
        std::fs::remove_dir(&proc).expect("rmdir");
        std::os::unix::fs::symlink("/data/proc", &proc).expect("symlink");
        let copied = Command::new("cp")
            .arg("-r")
            .arg(&fake)
            .arg(t.rootfs().join("data/proc"))
            .status();
        assert!(copied.expect("run cp").success());
        true_or_refused(t, |_| {});
        is_unwritten(&t.rootfs().join("data/proc"));
    });
}

/// An executed process finds the fake too.
#[test]
fn an_exec_beside_a_fake() {
    case(|t| {
        let fake = fake_proc(t);
        let out = t.create(|c| {
            no_mount(c, "/proc");
            c["linux"]["maskedPaths"] = json!([]);
            c["linux"]["readonlyPaths"] = json!([]);
            bind(c, &fake, "/proc", &[]);
            args(c, &["/bin/sleep", "1000"]);
        });
        if out.code() == 0 {
            let _ = t.start().ok();
            let mut process = t.config(|_| {})["process"].clone();
            process["args"] = json!(["/bin/sleep", "55"]);
            process["oomScoreAdj"] = json!(456);
            let pid_file = t.dir().join("pid");
            let flags = ["--detach", "--pid-file", pid_file.to_str().expect("UTF-8")];
            let out = t.exec_process(&flags, &process);
            if out.code() == 0 {
                let pid = std::fs::read_to_string(&pid_file).expect("read");
                let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
                assert_eq!(score.expect("read").trim(), "456");
            }
        }
        is_unwritten(&fake);
    });
}

/// Control: with no fake in the way, the same values are read back from the kernel.
#[test]
fn control_without_a_fake_the_values_are_there() {
    case(|t| {
        true_or_refused(t, |_| {});
        assert_eq!(t.status(), "running");
    });
}

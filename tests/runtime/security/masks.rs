//! Masked paths (CVE-2025-31133): whatever covers them must not come from the container.

use std::os::unix::fs::symlink;

use runtime_suite::prelude::*;

/// The root's own /dev, with nothing mounted over it.
fn plain_dev(c: &mut Value) {
    for place in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        no_mount(c, place);
    }
}

const LOOK: &str = "cat /proc/version /data/secret; stat -c '%t:%T' /data/secret";

fn mask(c: &mut Value) {
    c["linux"]["maskedPaths"] = json!(["/proc/version", "/data/secret"]);
    c["linux"]["readonlyPaths"] = json!([]);
}

fn secret(t: &Case) {
    std::fs::write(t.rootfs().join("data/secret"), "the secret").expect("write");
    std::fs::write(t.rootfs().join("data/fake"), "a fake null").expect("write");
}

/// Refused, or really masked.
fn is_masked(out: &Output) {
    assert!(!out.stdout.contains("the secret"), "{out}");
    assert!(!out.stdout.contains("a fake null"), "{out}");
    assert!(!out.stdout.contains("Linux version"), "{out}");
}

/// Runs a container with the image's own /dev that looks at its masked files.
fn look(t: &Case) -> Output {
    t.write(|c| {
        plain_dev(c);
        mask(c);
        script(c, LOOK);
    });
    let run = t.with_bundle("run", &[]);
    run.patience(Duration::from_secs(4)).run()
}

#[test]
fn with_an_image_whose_null_is_a_link() {
    case(|t| {
        secret(t);
        symlink("/data/fake", t.rootfs().join("dev/null")).expect("symlink");
        is_masked(&look(t));
    });
}

#[test]
fn with_an_image_whose_null_is_a_file() {
    case(|t| {
        secret(t);
        std::fs::write(t.rootfs().join("dev/null"), "a fake null").expect("write");
        is_masked(&look(t));
    });
}

#[test]
fn with_a_null_that_leads_into_proc() {
    case(|t| {
        // Bound over the mask's place, it would open what /proc protects.
        secret(t);
        symlink("/proc/sysrq-trigger", t.rootfs().join("dev/null")).expect("symlink");
        let out = t.run(|c| {
            plain_dev(c);
            mask(c);
            script(c, "grep -c sysrq /proc/self/mountinfo; cat /data/secret");
        });
        assert!(out.code() != 0 || out.stdout.starts_with("0\n"), "{out}");
        is_masked(&out);
    });
}

/// A volume on /dev that another container shares, and in which it exchanges `null` with a link.
#[test]
fn with_a_null_that_is_exchanged() {
    case(|t| {
        t.needs_root("mknod(2)");
        secret(t);
        let dev = t.new_dir("dev");
        for (name, minor) in [
            ("null", 3),
            ("zero", 5),
            ("full", 7),
            ("random", 8),
            ("urandom", 9),
        ] {
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            let number = rustix::fs::makedev(1, minor);
            let kind = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(rustix::fs::CWD, dev.join(name), kind, mode, number)
                .expect("mknod");
        }
        symlink("/data/fake", dev.join("evil")).expect("symlink");
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (stopped, one, two) = (stop.clone(), dev.join("null"), dev.join("evil"));
        let thread = std::thread::spawn(move || {
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &two, flags)
                    .expect("exchange");
            }
        });
        let mut outs = Vec::new();
        for _ in 0..40 {
            outs.push(t.run(|c| {
                plain_dev(c);
                bind(c, &dev, "/dev", &[]);
                mask(c);
                script(c, LOOK);
            }));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        thread.join().expect("join");
        for out in &outs {
            is_masked(out);
        }
    });
}

/// Control: a fake that is bound on purpose is seen.
#[test]
fn control_a_fake_that_is_bound_is_seen() {
    case(|t| {
        secret(t);
        let out = t.run(|c| {
            bind(c, t.rootfs().join("data/fake"), "/data/secret", &[]);
            script(c, "cat /data/secret");
        });
        assert!(out.stdout.contains("a fake null"), "{out}");
    });
}

#[test]
fn a_masked_directory_cannot_be_filled() {
    case(|t| {
        let one = t.container("one");
        std::fs::create_dir(one.rootfs().join("data/dir")).expect("mkdir");
        std::fs::create_dir(t.rootfs().join("data/dir")).expect("mkdir");
        let masked = |c: &mut Value| c["linux"]["maskedPaths"] = json!(["/data/dir"]);
        one.up(masked);
        // All containers may share what covers their masks: none may write to it.
        let _ = one.exec(&[], &["/bin/touch", "/data/dir/message"]);
        let out = t.sh("ls -A /data/dir", masked);
        assert_eq!(out, "");
    });
}

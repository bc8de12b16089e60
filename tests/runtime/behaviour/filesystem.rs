//! What every container's file system holds: /proc, /sys, /dev and its links, masked and
//! read-only paths, the root itself.

use runtime_suite::prelude::*;

#[test]
fn the_usual_file_systems_are_there() {
    case(|t| {
        let r = t.report(|_| {});
        for (point, kind) in [
            ("/proc", "proc"),
            ("/sys", "sysfs"),
            ("/dev", "tmpfs"),
            ("/dev/pts", "devpts"),
            ("/dev/shm", "tmpfs"),
            ("/dev/mqueue", "mqueue"),
        ] {
            assert_eq!(r.mount(point).kind, kind, "{point}");
        }
        assert!(r.mount("/sys").has("ro"));
        assert!(r.mount("/dev/pts").super_has("ptmxmode=666"));
        let gid = host::outside(5);
        assert!(r.mount("/dev/pts").super_has(&format!("gid={gid}")));
        assert!(r.mount("/dev/shm").super_has("size=65536k"));
    });
}

#[test]
fn the_default_devices_are_there() {
    case(|t| {
        t.needs_root("devices that mknod(2) makes");
        let r = t.report(|_| {});
        for (name, rdev) in [
            ("null", "1:3"),
            ("zero", "1:5"),
            ("full", "1:7"),
            ("random", "1:8"),
            ("urandom", "1:9"),
            ("tty", "5:0"),
        ] {
            let dev = r.dev(&format!("/dev/{name}"));
            assert_eq!(
                (&dev["kind"], &dev["rdev"]),
                (&json!("c"), &json!(rdev)),
                "{name}"
            );
            assert_eq!(dev["mode"], "666", "{name}");
            assert_eq!((&dev["uid"], &dev["gid"]), (&json!(0), &json!(0)), "{name}");
        }
        assert!(r.dev("/dev/console").is_null(), "there is no terminal");
    });
}

#[test]
fn the_default_devices_can_be_used() {
    case(|t| {
        let text = "echo x >/dev/null && head -c1 /dev/zero >/dev/null && \
            head -c1 /dev/urandom >/dev/null && { echo x >/dev/full || echo full; }";
        let out = t.run(|c| {
            script(c, text);
            c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        });
        assert_eq!(out.ok().text(), "full");
    });
}

#[test]
fn the_links_of_dev() {
    case(|t| {
        let r = t.report(|_| {});
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            assert_eq!(r.dev(&format!("/dev/{name}"))["target"], target, "{name}");
        }
        let ptmx = r.dev("/dev/ptmx");
        let is_link = ptmx["target"] == "pts/ptmx" || ptmx["target"] == "/dev/pts/ptmx";
        assert!(is_link || ptmx["rdev"] == "5:2", "{ptmx}");
    });
}

#[test]
fn ptmx_is_of_the_containers_own_devpts() {
    case(|t| {
        let out = t.sh(
            "ls /dev/pts; stat -Lc %t:%T /dev/ptmx; exec 3<>/dev/ptmx; ls /dev/pts",
            |c| {
                c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            },
        );
        assert_eq!(out, "ptmx\n5:2\n0\nptmx");
    });
}

#[test]
fn masked_files_and_directories_are_empty() {
    case(|t| {
        std::fs::write(t.rootfs().join("data/secret"), "secret").expect("write");
        std::fs::create_dir(t.rootfs().join("data/dir")).expect("mkdir");
        std::fs::write(t.rootfs().join("data/dir/secret"), "secret").expect("write");
        let out = t.sh(
            "cat /data/secret; ls -A /data/dir; stat -c %F /data/dir",
            |c| {
                c["linux"]["maskedPaths"] = json!(["/data/secret", "/data/dir", "/proc/version"]);
            },
        );
        assert_eq!(out, "directory");
        let out = t.run(|c| {
            c["linux"]["maskedPaths"] = json!(["/data/dir"]);
            script(c, "touch /data/dir/file");
        });
        assert!(out.code() != 0, "a masked directory can be written: {out}");
    });
}

#[test]
fn a_masked_file_swallows_writes() {
    case(|t| {
        std::fs::write(t.rootfs().join("data/secret"), "secret").expect("write");
        let mask = |c: &mut Value| c["linux"]["maskedPaths"] = json!(["/data/secret"]);
        let _ = t.sh("echo x 2>/dev/null >/data/secret; true", mask);
        let left = std::fs::read_to_string(t.rootfs().join("data/secret")).expect("read");
        assert_eq!(left, "secret");
    });
}

#[test]
fn masked_paths_that_are_missing_do_not_matter() {
    case(|t| {
        let out = t.sh("ls /nonexistent 2>/dev/null || echo none", |c| {
            c["linux"]["maskedPaths"] = json!(["/nonexistent", "/proc/none"]);
            c["linux"]["readonlyPaths"] = json!(["/nonexistent", "/proc/none"]);
        });
        assert_eq!(out, "none");
        assert!(!t.rootfs().join("nonexistent").exists());
    });
}

#[test]
fn masked_paths_of_the_default_configuration() {
    case(|t| {
        let out = t.sh(
            "cat /proc/keys; ls -A /sys/firmware /proc/acpi /proc/scsi; true",
            |_| {},
        );
        let lines: Vec<&str> = out.lines().filter(|l| !l.ends_with(':')).collect();
        assert!(lines.iter().all(|l| l.is_empty()), "{out}");
    });
}

#[test]
fn read_only_paths_cannot_be_written() {
    case(|t| {
        std::fs::create_dir(t.rootfs().join("data/dir")).expect("mkdir");
        let out = t.run(|c| {
            c["linux"]["readonlyPaths"] = json!(["/data", "/proc/sys"]);
            script(
                c,
                "touch /data/a; touch /data/dir/b; echo 1 >/proc/sys/kernel/panic; true",
            );
        });
        assert_eq!(out.stderr.matches("Read-only").count(), 3, "{out}");
        let r = t.report(|c| c["linux"]["readonlyPaths"] = json!(["/data", "/proc/sys"]));
        assert!(r.mount("/data").has("ro"));
        let sys = r.mount("/proc/sys");
        assert!(sys.has("ro") && sys.kind == "proc", "{sys:?}");
    });
}

#[test]
fn a_read_only_path_covers_the_mounts_below() {
    case(|t| {
        let out = t.run(|c| {
            mount(c, "tmpfs", "tmpfs", "/data", &[]);
            mount(c, "tmpfs", "tmpfs", "/data/sub", &[]);
            c["linux"]["readonlyPaths"] = json!(["/data"]);
            script(c, "touch /data/a; ls -d /data/sub");
        });
        assert!(out.stderr.contains("Read-only"), "{out}");
        assert_eq!(out.text(), "/data/sub");
    });
}

#[test]
fn a_read_only_root() {
    case(|t| {
        let out = t.run(|c| {
            c["root"]["readonly"] = json!(true);
            mount(c, "tmpfs", "tmpfs", "/tmp", &[]);
            script(
                c,
                "touch /file; touch /dev/file || true; touch /tmp/file && echo tmp",
            );
        });
        assert!(out.stderr.contains("/file: Read-only"), "{out}");
        assert_eq!(out.text(), "tmp");
        let r = t.report(|c| c["root"]["readonly"] = json!(true));
        assert!(r.mount("/").has("ro"));
        assert!(!t.rootfs().join("file").exists());
    });
}

#[test]
fn mount_points_are_made_below_a_read_only_root() {
    case(|t| {
        let r = t.report(|c| {
            c["root"]["readonly"] = json!(true);
            mount(c, "tmpfs", "tmpfs", "/not/there/yet", &[]);
        });
        assert_eq!(r.mount("/not/there/yet").kind, "tmpfs");
    });
}

#[test]
fn a_root_can_be_absolute_or_anywhere_in_the_bundle() {
    case(|t| {
        let root = t.rootfs().to_str().expect("UTF-8").to_owned();
        assert_eq!(
            t.sh("echo absolute", |c| c["root"]["path"] = json!(root)),
            "absolute"
        );
        assert_eq!(
            t.sh("echo dots", |c| c["root"]["path"] = json!("./rootfs/")),
            "dots"
        );
    });
}

#[test]
fn the_bundle_is_the_current_directory_by_default() {
    case(|t| {
        t.write(|c| args(c, &["/bin/echo", "here"]));
        let out = t.runtime(&["run", t.id()]).dir(t.bundle()).run().ok();
        assert_eq!(out.text(), "here");
    });
}

#[test]
fn a_relative_bundle_is_taken() {
    case(|t| {
        t.write(|c| args(c, &["/bin/echo", "here"]));
        let out = t
            .runtime(&["run", "--bundle", "a", t.id()])
            .dir(t.dir())
            .run()
            .ok();
        assert_eq!(out.text(), "here");
    });
}

#[test]
fn a_missing_root_is_refused() {
    case(|t| {
        let message = t.create(|c| c["root"]["path"] = json!("nowhere")).refused();
        assert!(message.contains("nowhere"), "{message}");
        assert!(!t.bundle().join("nowhere").exists());
        let _ = t
            .create(|c| c["root"]["path"] = json!("config.json"))
            .refused();
    });
}

#[test]
fn the_root_is_left_as_it_was() {
    case(|t| {
        let list = |dir: &Path| {
            let entries = std::fs::read_dir(dir).expect("read the root");
            let mut names: Vec<_> = entries.flatten().map(|e| e.file_name()).collect();
            names.sort();
            names
        };
        let before = list(&t.rootfs());
        let _ = t.run(|_| {}).ok();
        assert_eq!(list(&t.rootfs()), before);
        assert!(
            list(&t.rootfs().join("dev")).is_empty(),
            "devices on the tmpfs only"
        );
    });
}

#[test]
fn without_mounts_the_root_is_all_there_is() {
    case(|t| {
        let out = t.sh("ls /proc /sys; ls -d /bin", |c| {
            c["mounts"] = json!([]);
            c["linux"]["maskedPaths"] = json!([]);
            c["linux"]["readonlyPaths"] = json!([]);
        });
        assert!(out.ends_with("/bin"), "{out}");
    });
}

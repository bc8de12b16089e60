//! `--systemd-cgroup`: the container's control group is a scope of systemd.

use std::process::Command;

use runtime_suite::prelude::*;

const MB: u64 = 1 << 20;

/// Ends the case where systemd does not run or is not asked.
fn needs_systemd(t: &Case) {
    t.needs(ground() == Ground::Systemd, "systemd as PID 1, and root");
}

/// Name of the unit for [`Ground::cgroups_path`]'s path.
fn unit(t: &Case) -> String {
    format!("suite-{}.scope", t.id())
}

fn systemctl(args: &[&str]) -> String {
    let out = Command::new("systemctl")
        .args(args)
        .output()
        .expect("run systemctl");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// One property of a unit.
fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "-p", name, unit])
}

fn is_loaded(unit: &str) -> bool {
    property(unit, "ActiveState") != "inactive"
}

/// The container's control group.
fn own(t: &Case) -> PathBuf {
    host::cgroup_of(t.pid(), "")
}

/// A file in it.
fn read(t: &Case, file: &str) -> String {
    let text = std::fs::read_to_string(own(t).join(file)).expect("read a cgroup's file");
    text.trim().to_owned()
}

#[test]
fn a_scope_in_its_slice() {
    case(|t| {
        needs_systemd(t);
        t.up(|_| {});
        assert_eq!(property(&unit(t), "ActiveState"), "active");
        assert_eq!(property(&unit(t), "Slice"), "system.slice");
        assert_eq!(property(&unit(t), "Delegate"), "yes");
        let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", t.pid())).expect("read");
        let inside = format!("/system.slice/{}", unit(t));
        assert!(cgroup.contains(&inside), "{cgroup}");
        let _ = t.delete_force().ok();
        assert!(!is_loaded(&unit(t)));
    });
}

#[test]
fn slices_are_nested_by_their_names() {
    case(|t| {
        needs_systemd(t);
        t.up(|c| c["linux"]["cgroupsPath"] = json!(format!("a-b.slice:suite:{}", t.id())));
        let own = own(t).display().to_string();
        let inside = format!("/a.slice/a-b.slice/{}", unit(t));
        assert!(own.contains(&inside), "{own}");
    });
}

#[test]
fn without_a_path_there_is_a_scope_too() {
    case(|t| {
        needs_systemd(t);
        t.up(|c| {
            c["linux"]
                .as_object_mut()
                .expect("linux")
                .remove("cgroupsPath");
        });
        let own = own(t).display().to_string();
        assert!(own.contains(t.id()) && own.contains(".scope"), "{own}");
    });
}

#[test]
fn names_that_cannot_be_are_refused() {
    case(|t| {
        needs_systemd(t);
        for path in [
            "a:b",
            "/a/b",
            "a.slice:b:c:d",
            "a.scope:b:c",
            "../a.slice:b:c",
        ] {
            let _ = t
                .create(|c| c["linux"]["cgroupsPath"] = json!(path))
                .refused();
        }
    });
}

#[test]
fn limits_are_known_to_systemd() {
    case(|t| {
        needs_systemd(t);
        t.up(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 64 * MB, "reservation": 32 * MB});
            c["linux"]["resources"]["cpu"] =
                json!({"quota": 50_000, "period": 100_000, "shares": 1024});
            c["linux"]["resources"]["pids"] = json!({"limit": 50});
        });
        for (name, value) in [
            ("MemoryMax", "67108864"),
            ("MemoryLow", "33554432"),
            ("TasksMax", "50"),
            ("CPUQuotaPerSecUSec", "500ms"),
        ] {
            assert_eq!(property(&unit(t), name), value, "{name}");
        }
        for (file, value) in [
            ("memory.max", "67108864"),
            ("pids.max", "50"),
            ("cpu.max", "50000 100000"),
        ] {
            assert_eq!(read(t, file), value, "{file}");
        }
    });
}

#[test]
fn without_a_limit_tasks_are_not_limited() {
    case(|t| {
        needs_systemd(t);
        t.up(|_| {});
        assert_eq!(property(&unit(t), "TasksMax"), "infinity");
    });
}

#[test]
fn annotations_are_properties() {
    case(|t| {
        needs_systemd(t);
        t.up(|c| {
            c["annotations"] = json!({
                "org.systemd.property.Description": "'of the suite'",
                // Whole milliseconds are all that outlives the reload of another test.
                "org.systemd.property.TimeoutStopUSec": "uint64 123456000",
                "org.systemd.property.CollectMode": "'inactive-or-failed'"
            });
        });
        assert_eq!(property(&unit(t), "Description"), "of the suite");
        assert_eq!(property(&unit(t), "TimeoutStopUSec"), "2min 3.456000s");
        assert_eq!(property(&unit(t), "CollectMode"), "inactive-or-failed");
    });
}

#[test]
fn bad_properties_are_refused() {
    case(|t| {
        needs_systemd(t);
        for (name, value) in [
            ("NoSuchProperty", "'x'"),
            ("TimeoutStopUSec", "'soon'"),
            ("Description", "'not closed"),
        ] {
            let key = format!("org.systemd.property.{name}");
            let _ = t
                .create(|c| c["annotations"] = json!({key: value}))
                .refused();
            assert!(!is_loaded(&unit(t)), "{name}");
        }
    });
}

#[test]
fn an_update_is_known_to_systemd_and_outlives_its_reload() {
    case(|t| {
        needs_systemd(t);
        t.up(|c| c["linux"]["resources"]["pids"] = json!({"limit": 50}));
        let flags = [
            "--memory",
            "67108864",
            "--pids-limit",
            "40",
            "--cpu-quota",
            "20000",
        ];
        let _ = t.runtime(&["update"]).args(flags).args([t.id()]).run().ok();
        assert_eq!(property(&unit(t), "MemoryMax"), "67108864");
        assert_eq!(property(&unit(t), "TasksMax"), "40");
        let _ = systemctl(&["daemon-reload"]);
        assert_eq!(read(t, "memory.max"), "67108864");
        assert_eq!(read(t, "pids.max"), "40");
        assert_eq!(read(t, "cpu.max"), "20000 100000");
    });
}

#[test]
fn devices_outlive_a_reload() {
    case(|t| {
        needs_systemd(t);
        t.up(|c| {
            caps(c, &["CAP_MKNOD"]);
            let kmsg =
                json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm"});
            push(&mut c["linux"]["resources"]["devices"], kmsg);
            c["linux"]["devices"] = json!([
                {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}
            ]);
        });
        let check = || {
            let allowed = "head -c 1 /dev/zero >/dev/null && : </dev/kmsg && echo fine";
            let out = t.exec(&[], &["/bin/sh", "-c", allowed]).ok();
            assert_eq!(out.text(), "fine");
            let denied = "mknod /data/mem c 1 1 2>/dev/null; : </data/mem";
            let out = t.exec(&[], &["/bin/sh", "-c", denied]);
            assert!(out.stderr.contains("not permitted"), "{out}");
        };
        check();
        let _ = systemctl(&["daemon-reload"]);
        check();
    });
}

#[test]
fn the_scope_goes_when_the_program_ends() {
    case(|t| {
        needs_systemd(t);
        t.up(|c| args(c, &["/bin/true"]));
        t.wait_for("stopped");
        wait_until("systemd drops the scope", || !is_loaded(&unit(t)));
        let _ = t.delete().ok();
    });
}

#[test]
fn a_name_can_be_used_again_at_once() {
    case(|t| {
        needs_systemd(t);
        for _ in 0..4 {
            t.up(|_| {});
            let _ = t.delete_force().ok();
        }
    });
}

#[test]
fn the_name_of_a_scope_that_failed_can_be_used_again() {
    case(|t| {
        needs_systemd(t);
        for _ in 0..2 {
            let out = t.run(|c| {
                c["linux"]["resources"]["memory"] = json!({"limit": 40 * MB, "swap": 40 * MB});
                c["linux"]["resources"]["unified"] = json!({"memory.oom.group": "1"});
                args(c, &["/bin/probe", "hog", "100"]);
            });
            assert_eq!(out.code(), 137, "{out}");
            assert!(!is_loaded(&unit(t)));
        }
    });
}

#[test]
fn many_at_once() {
    case(|t| {
        needs_systemd(t);
        let all: Vec<Container> = (0..6).map(|n| t.container(&format!("m{n}"))).collect();
        let mut running = Vec::new();
        for c in &all {
            c.write(|v| args(v, &["/bin/sleep", "1000"]));
            running.push(c.with_bundle("run", &["--detach"]).spawn());
        }
        for one in running {
            let _ = one.wait().ok();
        }
        for c in &all {
            let _ = c.delete_force().ok();
        }
    });
}

/// A runtime that cannot see systemd's sockets.
fn without_bus(t: &Case, args: &[&str]) -> Output {
    let mut hidden = Command::new("unshare");
    hidden.args(["--mount", "sh", "-c"]);
    hidden.arg(
        "mount -t tmpfs none /run/systemd && mount -t tmpfs none /run/dbus && exec \"$0\" \"$@\"",
    );
    t.runtime(args).under(&hidden).run()
}

#[test]
fn what_need_not_ask_systemd_does_not() {
    case(|t| {
        needs_systemd(t);
        t.up(|_| {});
        let id = t.id();
        for args in [
            &["exec", id, "/bin/true"][..],
            &["events", "--stats", id],
            &["ps", "--format", "json", id],
            &["pause", id],
            &["resume", id],
            &["state", id],
            &["list"],
            &["update", "--cpu-burst", "0", id],
            &["kill", id, "KILL"],
        ] {
            let _ = without_bus(t, args).ok();
        }
    });
}

#[test]
fn without_systemd_the_error_says_so_and_nothing_is_left() {
    case(|t| {
        needs_systemd(t);
        t.write(|_| {});
        let bundle = t.bundle().to_str().expect("UTF-8").to_owned();
        let out = without_bus(t, &["create", "--bundle", &bundle, t.id()]);
        let said = out.refused();
        assert!(said.contains("systemd") || said.contains("bus"), "{said}");
    });
}

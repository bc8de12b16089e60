//! `linux.namespaces`, `linux.timeOffsets`, `hostname`, `domainname`.

use runtime_suite::prelude::*;

/// Type in the configuration, name in /proc/PID/ns.
const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

#[test]
fn listed_kinds_are_new_and_others_inherited() {
    case(|t| {
        t.needs_root("a container in the user namespace of the machine");
        let r = t.report(|_| {});
        for (_, name) in KINDS {
            let inside = r.link(&format!("ns/{name}"));
            let new = ["pid", "net", "ipc", "uts", "mnt"].contains(&name);
            assert_eq!(
                inside != host::namespace("self", name),
                new,
                "{name}: {inside}"
            );
        }
    });
}

#[test]
fn a_cgroup_namespace_hides_the_path() {
    case(|t| {
        let r = t.report(|c| ns(c, "cgroup"));
        assert_ne!(r.link("ns/cgroup"), host::namespace("self", "cgroup"));
        for line in r.file("cgroup").lines() {
            assert!(line.ends_with(":/"), "{line}");
        }
    });
}

#[test]
fn no_namespace_but_mount_is_needed() {
    case(|t| {
        t.needs_root("a container in the user namespace of the machine");
        let r = t.report(|c| {
            for kind in ["pid", "network", "ipc", "uts"] {
                no_ns(c, kind);
            }
            c.as_object_mut()
                .expect("a configuration")
                .remove("hostname");
            // A new sysfs or mqueue is for the owner of the namespace; binds always work.
            no_mount(c, "/dev/mqueue");
        });
        for (_, name) in KINDS.into_iter().filter(|(k, _)| *k != "mount") {
            assert_eq!(
                r.link(&format!("ns/{name}")),
                host::namespace("self", name),
                "{name}"
            );
        }
    });
}

/// A process that holds namespaces of its own: another container of the case.
fn holder(t: &Case) -> (Container, i32) {
    let holder = t.container("holder");
    holder.up(|c| ns(c, "cgroup"));
    let pid = holder.pid();
    (holder, pid)
}

fn joins(t: &Case, kind: &str, name: &str) {
    let (_holder, pid) = holder(t);
    let path = format!("/proc/{pid}/ns/{name}");
    let r = t.report(|c| {
        join(c, kind, &path);
        if kind == "uts" {
            c.as_object_mut()
                .expect("a configuration")
                .remove("hostname");
        }
    });
    let theirs = host::namespace(&pid.to_string(), name);
    assert_eq!(r.link(&format!("ns/{name}")), theirs);
    assert_ne!(theirs, host::namespace("self", name));
}

#[test]
fn a_network_namespace_is_joined() {
    case(|t| joins(t, "network", "net"));
}

#[test]
fn an_ipc_namespace_is_joined() {
    case(|t| joins(t, "ipc", "ipc"));
}

#[test]
fn a_uts_namespace_is_joined() {
    case(|t| joins(t, "uts", "uts"));
}

#[test]
fn a_cgroup_namespace_is_joined() {
    case(|t| joins(t, "cgroup", "cgroup"));
}

#[test]
fn a_pid_namespace_is_joined() {
    case(|t| {
        let (_holder, pid) = holder(t);
        let r = t.report(|c| join(c, "pid", format!("/proc/{pid}/ns/pid")));
        assert_eq!(r.link("ns/pid"), host::namespace(&pid.to_string(), "pid"));
        assert_ne!(r.0["pid"], 1, "the holder has pid 1");
    });
}

#[test]
fn a_time_namespace_is_joined() {
    case(|t| {
        t.needs(host::has_namespace("time"), "time namespaces");
        let holder = t.container("holder");
        holder.up(|c| {
            ns(c, "time");
            c["linux"]["timeOffsets"] = json!({"boottime": {"secs": 5000}});
        });
        let pid = holder.pid();
        let r = t.report(|c| join(c, "time", format!("/proc/{pid}/ns/time")));
        assert_eq!(r.link("ns/time"), host::namespace(&pid.to_string(), "time"));
    });
}

#[test]
fn a_mount_namespace_is_joined() {
    case(|t| {
        let (holder, pid) = holder(t);
        // Whoever joins it stands on the other container's root already.
        std::fs::write(holder.rootfs().join("data/mark"), "theirs").expect("write a mark");
        let out = t.run(|c| {
            join(c, "mount", format!("/proc/{pid}/ns/mnt"));
            c["mounts"] = json!([]);
            c["linux"]["maskedPaths"] = json!([]);
            c["linux"]["readonlyPaths"] = json!([]);
            args(c, &["/bin/readlink", "/proc/self/ns/mnt"]);
        });
        // runc and crun refuse or accept by circumstance; joined or refused is right, new is wrong.
        if out.code() == 0 {
            assert_eq!(out.text(), host::namespace(&pid.to_string(), "mnt"));
        } else {
            let _ = out.refused();
        }
    });
}

#[test]
fn several_namespaces_are_joined_at_once() {
    case(|t| {
        let (_holder, pid) = holder(t);
        let kinds = [
            ("network", "net"),
            ("ipc", "ipc"),
            ("pid", "pid"),
            ("uts", "uts"),
        ];
        let r = t.report(|c| {
            for (kind, name) in kinds {
                join(c, kind, format!("/proc/{pid}/ns/{name}"));
            }
            c.as_object_mut()
                .expect("a configuration")
                .remove("hostname");
        });
        for (_, name) in kinds {
            let theirs = host::namespace(&pid.to_string(), name);
            assert_eq!(r.link(&format!("ns/{name}")), theirs, "{name}");
        }
    });
}

#[test]
fn a_path_of_another_type_is_refused() {
    case(|t| {
        let message = t
            .create(|c| join(c, "network", "/proc/self/ns/ipc"))
            .refused();
        println!("{message}");
        let message = t.create(|c| join(c, "pid", "/proc/self/ns/uts")).refused();
        println!("{message}");
    });
}

#[test]
fn a_path_that_is_no_namespace_is_refused() {
    case(|t| {
        let _ = t.create(|c| join(c, "network", "/etc/passwd")).refused();
        let _ = t
            .create(|c| join(c, "network", "/nonexistent/ns"))
            .refused();
    });
}

#[test]
fn a_relative_path_is_refused() {
    case(|t| {
        let _ = t
            .create(|c| join(c, "network", "proc/self/ns/net"))
            .refused();
    });
}

#[test]
fn the_same_type_twice_is_refused() {
    case(|t| {
        let twice = |c: &mut Value| push(&mut c["linux"]["namespaces"], json!({"type": "ipc"}));
        let _ = t.create(twice).refused();
    });
}

#[test]
fn an_unknown_type_is_refused() {
    case(|t| {
        let _ = t.create(|c| ns(c, "quantum")).refused();
    });
}

#[test]
fn the_loopback_device_is_up_in_a_new_network_namespace() {
    case(|t| {
        let out = t.sh("ip -o addr show dev lo", |_| {});
        assert!(out.contains("127.0.0.1/8"), "{out}");
        assert!(t.sh("ip -o link", |_| {}).contains("LOOPBACK,UP"));
    });
}

#[test]
fn host_and_domain_name_are_set() {
    case(|t| {
        let r = t.report(|c| {
            c["hostname"] = json!("box.example");
            c["domainname"] = json!("nis.example");
        });
        assert_eq!(r.0["hostname"], "box.example");
        assert_eq!(r.0["domainname"], "nis.example");
        let own = rustix::system::uname();
        assert_ne!(own.nodename().to_bytes(), b"box.example");
    });
}

#[test]
fn a_host_name_without_a_uts_namespace_is_refused() {
    case(|t| {
        let _ = t.create(|c| no_ns(c, "uts")).refused();
    });
}

#[test]
fn a_new_time_namespace_has_its_offsets() {
    case(|t| {
        t.needs(host::has_namespace("time"), "time namespaces");
        let r = t.report(|c| {
            ns(c, "time");
            c["linux"]["timeOffsets"] = json!({
                "monotonic": {"secs": 7200, "nanosecs": 500_000_000},
                "boottime": {"secs": 86400}
            });
        });
        let offsets: Vec<Vec<&str>> = r
            .file("timens_offsets")
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(offsets[0], ["monotonic", "7200", "500000000"]);
        assert_eq!(offsets[1], ["boottime", "86400", "0"]);
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec;
        let inside = r.0["boottime"].as_i64().expect("a clock");
        assert!(
            (inside - now - 86400).abs() < 30,
            "inside {inside}, outside {now}"
        );
        assert_ne!(r.link("ns/time"), host::namespace("self", "time"));
    });
}

#[test]
fn time_offsets_without_a_time_namespace_are_refused() {
    case(|t| {
        let offsets = json!({"boottime": {"secs": 10}});
        let _ = t.create(|c| c["linux"]["timeOffsets"] = offsets).refused();
    });
}

#[test]
fn an_unknown_clock_is_refused() {
    case(|t| {
        let _ = t
            .create(|c| {
                ns(c, "time");
                c["linux"]["timeOffsets"] = json!({"sundial": {"secs": 10}});
            })
            .refused();
    });
}

#[test]
fn an_exec_enters_all_namespaces() {
    case(|t| {
        t.up(|c| ns(c, "cgroup"));
        let pid = t.pid().to_string();
        let r = t.exec_report(&[]);
        for (_, name) in KINDS {
            let inits = host::namespace(&pid, name);
            assert_eq!(r.link(&format!("ns/{name}")), inits, "{name}");
        }
        assert_ne!(r.0["pid"], 1);
    });
}

#[test]
fn an_exec_enters_a_time_namespace() {
    case(|t| {
        t.needs(host::has_namespace("time"), "time namespaces");
        t.up(|c| {
            ns(c, "time");
            c["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1000}});
        });
        let r = t.exec_report(&[]);
        assert_eq!(
            r.link("ns/time"),
            host::namespace(&t.pid().to_string(), "time")
        );
    });
}

//! Places, namespaces and owners of control groups of version 2.

use std::os::unix::fs::MetadataExt;

use runtime_suite::prelude::*;

const MB: u64 = 1 << 20;

/// The container's control group, as the machine sees it.
fn own(t: &Case) -> PathBuf {
    host::cgroup_of(t.pid(), "")
}

fn needs_v2_alone(t: &Case) {
    t.needs(host::cgroup_v2_only(), "cgroup v2 alone");
}

/// Shows the container's groups with all that it may do there.
fn writable(c: &mut Value) {
    ns(c, "cgroup");
    mount_options(
        c,
        "/sys/fs/cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "rw"],
    );
}

#[test]
fn a_path_is_taken_from_the_top() {
    case(|t| {
        needs_v2_alone(t);
        t.needs(
            ground() != Ground::Systemd,
            "paths that systemd has no part in",
        );
        let path = ground().cgroups_path(&format!("{}-top/middle/leaf", t.token()));
        t.up(|c| c["linux"]["cgroupsPath"] = json!(path));
        assert_eq!(own(t), Path::new("/sys/fs/cgroup").join(&path[1..]));
        let _ = t.delete_force().ok();
        // What is above was made too, but others may have come to use it.
        for dir in runtime_suite::leaks::cgroups(t.token()).iter().rev() {
            assert!(
                !dir.join("middle/leaf").exists(),
                "the container's own is left"
            );
            std::fs::remove_dir(dir.join("middle")).expect("remove a cgroup");
            std::fs::remove_dir(dir).expect("remove a cgroup");
        }
    });
}

#[test]
fn a_group_with_processes_is_refused() {
    case(|t| {
        needs_v2_alone(t);
        t.needs(
            ground() != Ground::Systemd,
            "paths that systemd has no part in",
        );
        t.up(|_| {});
        let path = ground().cgroups_path(t.id());
        let other = t.container("b");
        let _ = other
            .create(|c| c["linux"]["cgroupsPath"] = json!(path))
            .refused();
        assert_eq!(t.status(), "running");
    });
}

#[test]
fn a_threaded_place_is_refused_with_the_reason() {
    case(|t| {
        needs_v2_alone(t);
        t.needs(
            ground() != Ground::Systemd,
            "paths that systemd has no part in",
        );
        let path = ground().cgroups_path(&format!("{}-parent", t.token()));
        let parent = Path::new("/sys/fs/cgroup").join(&path[1..]);
        std::fs::create_dir_all(parent.join("threads")).expect("make cgroups");
        let remove = parent.clone();
        t.at_end(move || {
            for dir in [remove.join("threads"), remove] {
                std::fs::remove_dir(&dir).expect("remove a cgroup");
            }
        });
        std::fs::write(parent.join("threads/cgroup.type"), "threaded").expect("make it threaded");
        let inside = format!("{path}/threads/{}", t.id());
        let said = t
            .create(|c| c["linux"]["cgroupsPath"] = json!(inside))
            .refused();
        assert!(said.contains("thread") || said.contains("domain"), "{said}");
        assert!(!parent.join("threads").join(t.id()).exists());
    });
}

#[test]
fn the_groups_namespace_hides_the_rest() {
    case(|t| {
        needs_v2_alone(t);
        let text = "cat /proc/self/cgroup; ls /sys/fs/cgroup | grep -c cgroup.procs; \
            cat /sys/fs/cgroup/cgroup.procs | wc -l";
        let out = t.sh(text, |c| ns(c, "cgroup"));
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[..2], ["0::/", "1"], "{out}");
        let processes: u32 = lines[2].parse().expect("a number");
        assert!(processes <= 3, "{out}");
    });
}

#[test]
fn only_the_containers_own_group_is_seen_inside() {
    case(|t| {
        t.needs_v2("memory");
        for with_namespace in [false, true] {
            let out = t.sh("cat /sys/fs/cgroup/memory.max", |c| {
                c["linux"]["resources"]["memory"] = json!({"limit": 80 * MB});
                if with_namespace {
                    ns(c, "cgroup");
                } else {
                    no_ns(c, "cgroup");
                }
            });
            assert_eq!(out, (80 * MB).to_string(), "namespace: {with_namespace}");
        }
    });
}

#[test]
fn it_cannot_change_its_own_limits() {
    case(|t| {
        t.needs_v2("pids");
        let out = t.run(|c| {
            ns(c, "cgroup");
            script(
                c,
                "echo max >/sys/fs/cgroup/pids.max; mkdir /sys/fs/cgroup/x; true",
            );
        });
        assert_eq!(out.stderr.matches("Read-only").count(), 2, "{out}");
    });
}

/// The mount option nsdelegate: limits of a namespace's root are not for those inside.
#[test]
fn what_may_be_written_is_not_the_limits() {
    case(|t| {
        t.needs_v2("memory");
        let mounts = std::fs::read_to_string("/proc/mounts").expect("read");
        t.needs(mounts.contains("nsdelegate"), "the mount option nsdelegate");
        let out = t.run(|c| {
            writable(c);
            c["linux"]["resources"]["memory"] = json!({"limit": 64 * MB});
            let text = "echo max >/sys/fs/cgroup/memory.max; cat /sys/fs/cgroup/memory.max; \
                mkdir /sys/fs/cgroup/below && echo made";
            script(c, text);
        });
        assert_eq!(out.text(), format!("{}\nmade", 64 * MB), "{out}");
        assert!(out.stderr.contains("not permitted"), "{out}");
    });
}

#[test]
fn a_container_that_may_write_owns_its_group() {
    case(|t| {
        needs_v2_alone(t);
        t.needs_root("a user namespace of other ids than the caller's");
        t.up(|c| {
            user_ns(c, 200_000, 65536);
            writable(c);
        });
        let list = std::fs::read_to_string("/sys/kernel/cgroup/delegate").expect("read");
        let uid = |file: &str| std::fs::metadata(own(t).join(file)).map(|m| m.uid());
        for file in [""].into_iter().chain(list.lines()) {
            // The list has files of controllers that are not here.
            assert!(
                uid(file).is_err() || uid(file).is_ok_and(|u| u == 200_000),
                "{file}"
            );
        }
        assert_eq!(uid("cgroup.max.depth").expect("stat"), 0);
        let text = "mkdir /sys/fs/cgroup/a && echo 0 >/sys/fs/cgroup/a/cgroup.procs && \
            cat /proc/self/cgroup";
        let out = t.exec(&[], &["/bin/sh", "-c", text]).ok();
        assert_eq!(out.text(), "0::/a");
    });
}

#[test]
fn a_container_that_may_only_read_owns_nothing() {
    case(|t| {
        needs_v2_alone(t);
        t.needs_root("a user namespace of other ids than the caller's");
        t.up(|c| {
            user_ns(c, 200_000, 65536);
            ns(c, "cgroup");
        });
        let owner = std::fs::metadata(own(t).join("cgroup.procs"))
            .expect("stat")
            .uid();
        assert_eq!(owner, 0);
    });
}

#[test]
fn groups_that_the_container_made_are_removed() {
    case(|t| {
        needs_v2_alone(t);
        t.up(|_| {});
        let dir = own(t);
        std::fs::create_dir_all(dir.join("one/two")).expect("make cgroups");
        let _ = t.delete_force().ok();
        assert!(!dir.exists());
    });
}

#[test]
fn an_exec_goes_where_it_is_told() {
    case(|t| {
        needs_v2_alone(t);
        t.up(|_| {});
        std::fs::create_dir(own(t).join("below")).expect("make a cgroup");
        let place = |flags: &[&str]| {
            let r = t.exec_report(flags);
            r.file("cgroup")
                .trim()
                .rsplit('/')
                .next()
                .unwrap_or("")
                .to_owned()
        };
        assert_eq!(place(&["--cgroup", "below"]), "below");
        assert_eq!(place(&["--cgroup", "/below"]), "below");
        assert_ne!(place(&[]), "below");
        for path in ["missing", "../..", "memory:below"] {
            let _ = t.exec(&["--cgroup", path], &["/bin/true"]).refused();
        }
    });
}

#[test]
fn an_exec_follows_the_first_process_where_the_top_is_closed() {
    case(|t| {
        t.needs_v2("pids");
        t.up(|_| {});
        let top = own(t);
        let init = top.join("init");
        std::fs::create_dir(&init).expect("make a cgroup");
        std::fs::write(init.join("cgroup.procs"), t.pid().to_string()).expect("move");
        std::fs::write(top.join("cgroup.subtree_control"), "+pids").expect("hand down");
        let r = t.exec_report(&[]);
        assert!(
            r.file("cgroup").trim().ends_with("/init"),
            "{}",
            r.file("cgroup")
        );
        // Unless it is told to go to the top, which is not possible.
        let _ = t.exec(&["--cgroup", "/"], &["/bin/true"]).refused();
    });
}

#[test]
fn a_kill_of_all_is_a_kill_of_the_group() {
    case(|t| {
        needs_v2_alone(t);
        // A process that forks as fast as it can has no gap to slip through.
        t.up(|c| {
            no_ns(c, "pid");
            c["linux"]["resources"]["pids"] = json!({"limit": 50});
            script(
                c,
                "f() { while :; do (sleep 100 &) 2>/dev/null; done; }; f & f & wait",
            );
        });
        let dir = own(t);
        wait_until("it forks", || {
            let procs = std::fs::read_to_string(dir.join("cgroup.procs"));
            procs.is_ok_and(|p| p.lines().count() > 10)
        });
        let _ = t.kill("KILL").ok();
        wait_until("all are gone", || {
            let events = std::fs::read_to_string(dir.join("cgroup.events"));
            events.map_or(true, |e| e.contains("populated 0"))
        });
        let _ = t.delete_force().ok();
    });
}

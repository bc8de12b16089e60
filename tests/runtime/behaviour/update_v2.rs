//! `update` on cgroup v2.

use runtime_suite::prelude::*;

const MB: u64 = 1 << 20;

fn read(t: &Case, file: &str) -> String {
    let path = host::cgroup_of(t.pid(), "").join(file);
    let text = std::fs::read_to_string(&path);
    let text = text.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim().to_owned()
}

fn update(t: &Case, flags: &[&str]) -> Output {
    t.runtime(&["update"]).args(flags).args([t.id()]).run()
}

fn update_by(t: &Case, resources: &Value) -> Output {
    let cmd = t.runtime(&["update", "--resources=-", t.id()]);
    cmd.run_with_input(&resources.to_string())
}

/// Each flag, its value, the file that shows it, and what it shows.
const FLAGS: [(&str, &str, &str, &str); 6] = [
    ("--cpu-period", "50000", "cpu.max", "max 50000"),
    ("--cpu-quota", "20000", "cpu.max", "20000 50000"),
    ("--memory", "67108864", "memory.max", "67108864"),
    ("--memory-reservation", "33554432", "memory.low", "33554432"),
    ("--pids-limit", "17", "pids.max", "17"),
    ("--pids-limit", "-1", "pids.max", "max"),
];

#[test]
fn each_flag_alone() {
    case(|t| {
        t.needs_v2("memory");
        t.up(|_| {});
        for (flag, value, file, shown) in FLAGS {
            let _ = update(t, &[flag, value]).ok();
            assert_eq!(read(t, file), shown, "{flag}");
        }
    });
}

#[test]
fn the_newer_flags() {
    case(|t| {
        t.needs_v2("cpu");
        t.up(|_| {});
        let _ = update(t, &["--cpu-quota", "20000"]).ok();
        let _ = update(t, &["--cpu-burst", "5000"]).ok();
        assert_eq!(read(t, "cpu.max.burst"), "5000");
        let _ = update(t, &["--cpu-idle", "1"]).ok();
        assert_eq!(read(t, "cpu.idle"), "1");
    });
}

#[test]
fn cpus_of_a_running_container() {
    case(|t| {
        t.needs_v2("cpuset");
        t.up(|_| {});
        let _ = update(t, &["--cpuset-cpus", "0", "--cpuset-mems", "0"]).ok();
        assert_eq!(read(t, "cpuset.cpus"), "0");
        let _ = update(t, &["--cpuset-cpus", "9999"]).refused();
        assert_eq!(read(t, "cpuset.cpus"), "0");
    });
}

#[test]
fn a_new_sum_with_swap_for_the_old_limit() {
    case(|t| {
        t.needs_v2("memory");
        t.up(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 64 * MB, "swap": 64 * MB});
        });
        t.needs(
            host::cgroup_of(t.pid(), "")
                .join("memory.swap.max")
                .exists(),
            "accounting of swap (CONFIG_SWAP)",
        );
        let sum = (96 * MB).to_string();
        let _ = update(t, &["--memory-swap", &sum]).ok();
        assert_eq!(read(t, "memory.swap.max"), (32 * MB).to_string());
        assert_eq!(read(t, "memory.max"), (64 * MB).to_string());
    });
}

#[test]
fn what_is_not_named_stays() {
    case(|t| {
        t.needs_v2("memory");
        t.up(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 64 * MB});
            c["linux"]["resources"]["cpu"] = json!({"quota": 30_000, "period": 60_000});
            c["linux"]["resources"]["pids"] = json!({"limit": 50});
        });
        let _ = update(t, &["--pids-limit", "60"]).ok();
        assert_eq!(read(t, "pids.max"), "60");
        assert_eq!(read(t, "cpu.max"), "30000 60000");
        assert_eq!(read(t, "memory.max"), (64 * MB).to_string());
    });
}

/// The rules for devices are not among what `update` changes, nor does it drop them.
#[test]
fn the_rules_for_devices_stay() {
    case(|t| {
        t.needs(host::cgroup_v2_only(), "cgroup v2 alone");
        t.needs_root("rules for devices");
        t.up(|c| caps(c, &["CAP_MKNOD"]));
        let closed = || {
            let made = "mknod /data/d c 1 1 2>/dev/null; head -c 1 /data/d";
            let out = t.exec(&[], &["/bin/sh", "-c", made]);
            assert!(out.stderr.contains("not permitted"), "{out}");
            let _ = t.exec(&[], &["/bin/head", "-c", "1", "/dev/zero"]).ok();
        };
        closed();
        let _ = update(t, &["--pids-limit", "60"]).ok();
        closed();
    });
}

#[test]
fn a_document() {
    case(|t| {
        t.needs_v2("memory");
        t.up(|_| {});
        let _ = update_by(
            t,
            &json!({
                "memory": {"limit": 64 * MB, "reservation": 32 * MB},
                "cpu": {"quota": 30_000, "period": 60_000},
                "pids": {"limit": 33}
            }),
        )
        .ok();
        for (file, shown) in [
            ("memory.max", "67108864"),
            ("memory.low", "33554432"),
            ("cpu.max", "30000 60000"),
            ("pids.max", "33"),
        ] {
            assert_eq!(read(t, file), shown, "{file}");
        }
    });
}

#[test]
fn unified_files() {
    case(|t| {
        t.needs_v2("memory");
        t.up(|_| {});
        let _ = update_by(t, &json!({"unified": {"memory.high": "62914560"}})).ok();
        assert_eq!(read(t, "memory.high"), "62914560");
    });
}

#[test]
fn bad_values_are_refused_and_change_nothing() {
    case(|t| {
        t.needs_v2("pids");
        t.up(|c| c["linux"]["resources"]["pids"] = json!({"limit": 50}));
        let _ = update(t, &["--memory", "lots"]).refused();
        let _ = update_by(t, &json!({"unified": {"memory.nonsense": "1"}})).refused();
        let cmd = t.runtime(&["update", "--resources=-", t.id()]);
        let _ = cmd.run_with_input("{\"pids\": {\"limit\": ").refused();
        assert_eq!(read(t, "pids.max"), "50");
    });
}

#[test]
fn a_limit_below_the_usage_is_refused_when_asked() {
    case(|t| {
        t.needs_v2("memory");
        t.up(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 256 * MB});
            let fill = "dd if=/dev/zero of=/dev/shm/file bs=1M count=40 2>/dev/null";
            script(c, &format!("{fill}; echo x >/data/ready; sleep 1000"));
        });
        let ready = t.rootfs().join("data/ready");
        wait_until("the memory is used", || ready.exists());
        let memory = json!({"memory": {"limit": 8 * MB, "checkBeforeUpdate": true}});
        let _ = update_by(t, &memory).refused();
        assert_eq!(t.status(), "running");
        assert_eq!(read(t, "memory.max"), (256 * MB).to_string());
    });
}

#[test]
fn a_paused_container_is_updated() {
    case(|t| {
        t.needs_v2("pids");
        t.up(|_| {});
        let _ = t.runtime(&["pause", t.id()]).run().ok();
        let _ = update(t, &["--pids-limit", "9"]).ok();
        assert_eq!(read(t, "pids.max"), "9");
        assert_eq!(t.status(), "paused", "an update does not thaw");
        let _ = t.runtime(&["resume", t.id()]).run().ok();
    });
}

#[test]
fn a_created_container_is_updated() {
    case(|t| {
        t.needs_v2("pids");
        let _ = t.create(|_| {}).ok();
        let _ = update(t, &["--pids-limit", "5"]).ok();
        assert_eq!(read(t, "pids.max"), "5");
    });
}

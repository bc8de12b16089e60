//! `update`: flags and documents, on cgroup v1.

use runtime_suite::prelude::*;

fn read(t: &Case, file: &str) -> String {
    let (controller, _) = file.split_once('.').expect("controller.file");
    let path = host::cgroup_of(t.pid(), controller).join(file);
    let text = std::fs::read_to_string(&path);
    text.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .trim()
        .to_owned()
}

fn update(t: &Case, flags: &[&str]) -> Output {
    t.runtime(&["update"]).args(flags).args([t.id()]).run()
}

const MB: u64 = 1 << 20;

/// Each flag, its value, the file that shows it, and what it shows.
const FLAGS: [(&str, &str, &str, &str); 8] = [
    ("--cpu-share", "256", "cpu.shares", "256"),
    ("--cpu-period", "50000", "cpu.cfs_period_us", "50000"),
    ("--cpu-quota", "20000", "cpu.cfs_quota_us", "20000"),
    ("--cpuset-cpus", "0", "cpuset.cpus", "0"),
    ("--cpuset-mems", "0", "cpuset.mems", "0"),
    ("--memory", "67108864", "memory.limit_in_bytes", "67108864"),
    (
        "--memory-reservation",
        "33554432",
        "memory.soft_limit_in_bytes",
        "33554432",
    ),
    ("--pids-limit", "17", "pids.max", "17"),
];

#[test]
fn each_flag_alone() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        t.up(|_| {});
        for (flag, value, file, shown) in FLAGS {
            let _ = update(t, &[flag, value]).ok();
            assert_eq!(read(t, file), shown, "{flag}");
        }
    });
}

#[test]
fn all_flags_at_once() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        t.up(|_| {});
        let flags: Vec<&str> = FLAGS.iter().flat_map(|f| [f.0, f.1]).collect();
        let _ = update(t, &flags).ok();
        for (flag, _, file, shown) in FLAGS {
            assert_eq!(read(t, file), shown, "{flag}");
        }
    });
}

#[test]
fn the_newer_flags() {
    case(|t| {
        t.needs(host::cgroup_v1("cpu"), "cgroup v1");
        t.up(|_| {});
        let _ = update(t, &["--cpu-quota", "20000"]).ok();
        let _ = update(t, &["--cpu-burst", "5000"]).ok();
        assert_eq!(read(t, "cpu.cfs_burst_us"), "5000");
        let _ = update(t, &["--cpu-idle", "1"]).ok();
        assert_eq!(read(t, "cpu.idle"), "1");
    });
}

#[test]
fn real_time_flags() {
    case(|t| {
        t.needs(host::cgroup_v1("cpu"), "cgroup v1");
        t.up(|_| {});
        let _ = update(
            t,
            &["--cpu-rt-period", "800000", "--cpu-rt-runtime", "3000"],
        )
        .ok();
        assert_eq!(read(t, "cpu.rt_period_us"), "800000");
        assert_eq!(read(t, "cpu.rt_runtime_us"), "3000");
    });
}

#[test]
fn memory_and_swap_grow_and_shrink_together() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        t.up(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 64 * MB, "swap": 64 * MB});
        });
        // The kernel wants limit <= memory and swap at each moment, so the order matters.
        for size in [128 * MB, 32 * MB, 256 * MB] {
            let size = size.to_string();
            let _ = update(t, &["--memory", &size, "--memory-swap", &size]).ok();
            assert_eq!(read(t, "memory.limit_in_bytes"), size);
            assert_eq!(read(t, "memory.memsw.limit_in_bytes"), size);
        }
    });
}

#[test]
fn what_is_not_named_stays() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        t.up(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 64 * MB});
            c["linux"]["resources"]["cpu"] = json!({"shares": 300});
            c["linux"]["resources"]["pids"] = json!({"limit": 50});
        });
        let _ = update(t, &["--pids-limit", "60"]).ok();
        assert_eq!(read(t, "pids.max"), "60");
        assert_eq!(read(t, "cpu.shares"), "300");
        assert_eq!(read(t, "memory.limit_in_bytes"), (64 * MB).to_string());
        // The rules for devices above all.
        let devices = read(t, "devices.list");
        let _ = update(t, &["--cpu-share", "200"]).ok();
        assert_eq!(devices, read(t, "devices.list"));
        assert!(!devices.contains("a *:* rwm"), "{devices}");
    });
}

#[test]
fn no_limit_is_minus_one() {
    case(|t| {
        t.needs(host::cgroup_v1("pids"), "cgroup v1");
        t.up(|c| c["linux"]["resources"]["pids"] = json!({"limit": 50}));
        let _ = update(t, &["--pids-limit", "-1"]).ok();
        assert_eq!(read(t, "pids.max"), "max");
    });
}

fn document() -> Value {
    json!({
        "memory": {"limit": 64 * MB, "reservation": 32 * MB},
        "cpu": {"shares": 128, "quota": 30_000, "period": 60_000, "cpus": "0"},
        "pids": {"limit": 33}
    })
}

fn shows_document(t: &Case) {
    assert_eq!(read(t, "memory.limit_in_bytes"), (64 * MB).to_string());
    assert_eq!(read(t, "memory.soft_limit_in_bytes"), (32 * MB).to_string());
    assert_eq!(read(t, "cpu.shares"), "128");
    assert_eq!(read(t, "cpu.cfs_quota_us"), "30000");
    assert_eq!(read(t, "cpu.cfs_period_us"), "60000");
    assert_eq!(read(t, "cpuset.cpus"), "0");
    assert_eq!(read(t, "pids.max"), "33");
}

#[test]
fn from_a_file() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        t.up(|_| {});
        let file = t.new_file("resources.json", &document().to_string());
        let _ = update(t, &["--resources", file.to_str().expect("UTF-8")]).ok();
        shows_document(t);
    });
}

#[test]
fn from_standard_input() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        t.up(|_| {});
        let cmd = t.runtime(&["update", "--resources=-", t.id()]);
        let _ = cmd.run_with_input(&document().to_string()).ok();
        shows_document(t);
    });
}

#[test]
fn bad_values_are_refused_and_change_nothing() {
    case(|t| {
        t.needs(host::cgroup_v1("pids"), "cgroup v1");
        t.up(|c| c["linux"]["resources"]["pids"] = json!({"limit": 50}));
        for flags in [
            ["--cpuset-cpus", "9999"],
            ["--memory", "lots"],
            ["--resources", "/nonexistent.json"],
        ] {
            let out = update(t, &flags);
            assert_ne!(out.code(), 0, "{out}");
        }
        let cmd = t.runtime(&["update", "--resources=-", t.id()]);
        let _ = cmd.run_with_input("{\"pids\": {\"limit\": ").refused();
        assert_eq!(read(t, "pids.max"), "50");
    });
}

#[test]
fn a_limit_below_the_usage_is_refused() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        t.up(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 256 * MB});
            script(c, "dd if=/dev/zero of=/dev/shm/file bs=1M count=40 2>/dev/null; echo x >/data/ready; sleep 1000");
        });
        wait_until("the memory is used", || {
            t.rootfs().join("data/ready").exists()
        });
        let file = json!({"memory": {"limit": 8 * MB, "checkBeforeUpdate": true}});
        let cmd = t.runtime(&["update", "--resources=-", t.id()]);
        let _ = cmd.run_with_input(&file.to_string()).refused();
        assert_eq!(t.status(), "running");
        assert_eq!(read(t, "memory.limit_in_bytes"), (256 * MB).to_string());
    });
}

#[test]
fn a_created_container_is_updated() {
    case(|t| {
        t.needs(host::cgroup_v1("pids"), "cgroup v1");
        let _ = t.create(|_| {}).ok();
        let _ = update(t, &["--pids-limit", "5"]).ok();
        assert_eq!(read(t, "pids.max"), "5");
    });
}

#[test]
fn a_stopped_container_is_not() {
    case(|t| {
        t.up(|_| {});
        t.stop();
        let _ = update(t, &["--pids-limit", "5"]).refused();
    });
}

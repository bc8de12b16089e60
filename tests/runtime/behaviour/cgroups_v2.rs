//! `linux.resources` on cgroup v2: values are read back from the kernel.

use runtime_suite::prelude::*;

const MB: u64 = 1 << 20;

/// What a file of the container's control group says.
fn read(t: &Case, file: &str) -> String {
    let path = host::cgroup_of(t.pid(), "").join(file);
    let text = std::fs::read_to_string(&path);
    let text = text.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim().to_owned()
}

/// Runs a container with these resources; each file must say what stands beside it.
fn shows(t: &Case, resources: &Value, files: &[(&str, &str)]) {
    for (file, _) in files {
        let (controller, _) = file.split_once('.').expect("controller.file");
        t.needs_v2(controller);
    }
    t.up(|c| {
        for (key, value) in resources.as_object().expect("an object") {
            c["linux"]["resources"][key] = value.clone();
        }
    });
    for (file, want) in files {
        assert_eq!(&read(t, file), want, "{file}");
    }
    let _ = t.delete_force().ok();
}

#[test]
fn memory() {
    case(|t| {
        let memory = json!({"limit": 64 * MB, "reservation": 32 * MB});
        let files = [("memory.max", "67108864"), ("memory.low", "33554432")];
        shows(t, &json!({"memory": memory}), &files);
    });
}

#[test]
fn swap_is_the_difference() {
    case(|t| {
        t.needs_v2("memory");
        t.needs(
            Path::new("/sys/fs/cgroup/init/memory.swap.max").exists()
                || Path::new("/sys/fs/cgroup/system.slice/memory.swap.max").exists(),
            "accounting of swap (CONFIG_SWAP)",
        );
        for (limit, swap, shown) in [(64, 96, 32 * MB), (64, 64, 0)] {
            let memory = json!({"limit": limit * MB, "swap": swap * MB});
            let shown = shown.to_string();
            shows(
                t,
                &json!({"memory": memory}),
                &[("memory.swap.max", &shown)],
            );
        }
        shows(
            t,
            &json!({"memory": {"limit": 64 * MB, "swap": -1}}),
            &[("memory.swap.max", "max")],
        );
    });
}

#[test]
fn a_sum_with_swap_below_the_memory_is_refused() {
    case(|t| {
        t.needs_v2("memory");
        let memory = json!({"limit": 64 * MB, "swap": 32 * MB});
        let _ = t
            .create(|c| c["linux"]["resources"]["memory"] = memory)
            .refused();
    });
}

#[test]
fn memory_without_limit() {
    case(|t| {
        let memory = json!({"limit": -1, "swap": -1});
        shows(t, &json!({"memory": memory}), &[("memory.max", "max")]);
    });
}

#[test]
fn cpu_weight_and_bandwidth() {
    case(|t| {
        let cpu = json!({"shares": 1024, "quota": 40_000, "period": 80_000});
        shows(t, &json!({"cpu": cpu}), &[("cpu.max", "40000 80000")]);
        t.up(|c| c["linux"]["resources"]["cpu"] = json!({"shares": 2048}));
        let weight: u32 = read(t, "cpu.weight").parse().expect("a number");
        // 2048 shares are more than the default's 1024, whose weight is 100 (or 39 by the older
        // formula).
        assert!((78..=200).contains(&weight), "{weight}");
    });
}

#[test]
fn the_default_shares_are_the_default_weight() {
    case(|t| {
        shows(
            t,
            &json!({"cpu": {"shares": 1024}}),
            &[("cpu.weight", "100")],
        )
    });
}

#[test]
fn cpu_burst() {
    case(|t| {
        let cpu = json!({"quota": 40_000, "period": 80_000, "burst": 10_000});
        shows(t, &json!({"cpu": cpu}), &[("cpu.max.burst", "10000")]);
    });
}

#[test]
fn cpu_idle() {
    case(|t| shows(t, &json!({"cpu": {"idle": 1}}), &[("cpu.idle", "1")]));
}

#[test]
fn cpus_and_memory_nodes() {
    case(|t| {
        let cpu = json!({"cpus": "0", "mems": "0"});
        shows(
            t,
            &json!({"cpu": cpu}),
            &[("cpuset.cpus", "0"), ("cpuset.mems", "0")],
        );
    });
}

#[test]
fn processes() {
    case(|t| {
        for (limit, shown) in [(20, "20"), (-1, "max")] {
            shows(
                t,
                &json!({"pids": {"limit": limit}}),
                &[("pids.max", shown)],
            );
        }
    });
}

#[test]
fn a_limit_of_0_processes() {
    case(|t| shows(t, &json!({"pids": {"limit": 0}}), &[("pids.max", "0")]));
}

/// The number of a block device that can be throttled.
fn disk(t: &Case) -> (u32, u32) {
    let all = std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten();
    let disk = all
        .filter(|d| !d.file_name().to_string_lossy().starts_with("zram"))
        .find_map(|d| std::fs::read_to_string(d.path().join("dev")).ok());
    t.needs(disk.is_some(), "a block device");
    let disk = disk.unwrap_or_default();
    let (major, minor) = disk.trim().split_once(':').expect("major:minor");
    let number = |s: &str| s.parse::<u32>().expect("a number");
    (number(major), number(minor))
}

#[test]
fn block_io_throttles() {
    case(|t| {
        let (major, minor) = disk(t);
        let rate = |rate: u32| json!([{"major": major, "minor": minor, "rate": rate}]);
        let block = json!({
            "throttleReadBpsDevice": rate(1_048_576), "throttleWriteBpsDevice": rate(2_097_152),
            "throttleReadIOPSDevice": rate(300), "throttleWriteIOPSDevice": rate(400)
        });
        let want = format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=300 wiops=400");
        shows(t, &json!({"blockIO": block}), &[("io.max", &want)]);
    });
}

#[test]
fn block_io_weight() {
    case(|t| {
        t.needs_v2("io");
        t.up(|_| {});
        let dir = host::cgroup_of(t.pid(), "");
        let bfq = dir.join("io.bfq.weight").exists();
        let there = bfq || dir.join("io.weight").exists();
        t.needs(
            there,
            "weights of block I/O (CONFIG_BFQ_GROUP_IOSCHED or BLK_CGROUP_IOCOST)",
        );
        let _ = t.delete_force().ok();
        let want = if bfq {
            ("io.bfq.weight", "default 500")
        } else {
            ("io.weight", "default 4950")
        };
        shows(t, &json!({"blockIO": {"weight": 500}}), &[want]);
    });
}

#[test]
fn huge_pages_and_their_reservations() {
    case(|t| {
        t.needs_v2("hugetlb");
        let limit = json!([{"pageSize": "2MB", "limit": 4 * MB}]);
        let files = [
            ("hugetlb.2MB.max", "4194304"),
            ("hugetlb.2MB.rsvd.max", "4194304"),
        ];
        shows(t, &json!({"hugepageLimits": limit}), &files);
    });
}

#[test]
fn rdma_of_a_device_that_is_missing_is_an_error() {
    case(|t| {
        t.needs_v2("rdma");
        let rdma = json!({"mlx5_1": {"hcaHandles": 3}});
        let said = t
            .create(|c| c["linux"]["resources"]["rdma"] = rdma)
            .refused();
        assert!(said.contains("rdma"), "{said}");
    });
}

#[test]
fn unified_files() {
    case(|t| {
        t.needs_v2("memory");
        let unified = json!({
            "memory.high": "62914560", "memory.min": "1048576", "memory.low": "2097152",
            "memory.oom.group": "1"
        });
        let files = [
            ("memory.high", "62914560"),
            ("memory.min", "1048576"),
            ("memory.low", "2097152"),
            ("memory.oom.group", "1"),
        ];
        shows(t, &json!({"unified": unified}), &files);
    });
}

#[test]
fn unified_goes_before_what_it_repeats() {
    case(|t| {
        let resources = json!({
            "pids": {"limit": 20}, "unified": {"pids.max": "21"}
        });
        shows(t, &resources, &[("pids.max", "21")]);
    });
}

#[test]
fn unified_files_that_are_not_there_are_errors() {
    case(|t| {
        t.needs_v2("memory");
        for file in [
            "memory.nonsense",
            "nonsense.max",
            "../memory.max",
            "cgroup.procs/x",
        ] {
            let unified = json!({file: "1"});
            let _ = t
                .create(|c| c["linux"]["resources"]["unified"] = unified)
                .refused();
        }
    });
}

#[test]
fn what_version_2_lacks_is_refused() {
    case(|t| {
        t.needs_v2("memory");
        for resources in [
            json!({"memory": {"swappiness": 10}}),
            json!({"memory": {"disableOOMKiller": true}}),
            json!({"cpu": {"realtimeRuntime": 4000, "realtimePeriod": 900_000}}),
            json!({"network": {"classID": 5}}),
        ] {
            println!("{resources}");
            let all = resources.as_object().and_then(|o| o.iter().next());
            let (key, value) = all.expect("one");
            let _ = t
                .create(|c| c["linux"]["resources"][key] = value.clone())
                .refused();
        }
    });
}

#[test]
fn the_memory_hog_dies_and_the_machine_lives() {
    case(|t| {
        t.needs_v2("memory");
        let hog = |size: &str| {
            t.run(|c| {
                c["linux"]["resources"]["memory"] = json!({"limit": 100 * MB, "swap": 100 * MB});
                args(c, &["/bin/probe", "hog", size]);
            })
        };
        let out = hog("200");
        assert_eq!(out.code(), 137, "{out}");
        assert!(!out.stdout.contains("survived"), "{out}");
        assert!(hog("50").ok().stdout.contains("survived with 50 MB"));
    });
}

#[test]
fn an_out_of_memory_group_dies_as_one() {
    case(|t| {
        t.needs_v2("memory");
        let out = t.run(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 60 * MB, "swap": 60 * MB});
            c["linux"]["resources"]["unified"] = json!({"memory.oom.group": "1"});
            // Without the group, the shell would live to tell.
            script(c, "probe hog 200; echo survived");
        });
        assert_eq!(out.code(), 137, "{out}");
        assert!(!out.stdout.contains("survived"), "{out}");
    });
}

#[test]
fn a_pause_freezes_the_group() {
    case(|t| {
        t.needs(host::cgroup_v2_only(), "cgroup v2 alone");
        t.up(|_| {});
        let _ = t.runtime(&["pause", t.id()]).run().ok();
        assert_eq!(t.status(), "paused");
        assert_eq!(read(t, "cgroup.freeze"), "1");
        assert!(read(t, "cgroup.events").contains("frozen 1"));
        let _ = t.runtime(&["resume", t.id()]).run().ok();
        assert_eq!(read(t, "cgroup.freeze"), "0");
    });
}

#[test]
fn a_paused_container_dies_of_a_forced_delete() {
    case(|t| {
        t.needs(host::cgroup_v2_only(), "cgroup v2 alone");
        t.up(|_| {});
        let _ = t.runtime(&["pause", t.id()]).run().ok();
        let _ = t.delete_force().ok();
    });
}

/// One reading of `events --stats`.
fn stats(t: &Case) -> Value {
    t.runtime(&["events", "--stats", t.id()]).run().ok().json()["data"].clone()
}

#[test]
fn statistics_have_runcs_shape() {
    case(|t| {
        t.needs_v2("memory");
        t.up(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 64 * MB});
            c["linux"]["resources"]["pids"] = json!({"limit": 30});
        });
        // A kernel that counts by ticks has none for the start, and no total is told then.
        let count = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let _ = t.exec(&[], &["/bin/sh", "-c", count]).ok();
        let data = stats(t);
        for path in [
            "/cpu/usage/total",
            "/cpu/usage/kernel",
            "/cpu/usage/user",
            "/memory/usage/limit",
            "/memory/usage/usage",
            "/memory/usage/max",
            "/memory/usage/failcnt",
            "/memory/swap/limit",
            "/memory/raw/anon",
            "/pids/current",
            "/pids/limit",
        ] {
            let number = data.pointer(path).is_some_and(Value::is_number);
            assert!(number, "{path}: {data}");
        }
        assert!(data["cpu"]["throttling"].is_object() && data["blkio"].is_object());
        assert_eq!(data["memory"]["usage"]["limit"], 64 * MB);
        let pids = (&data["pids"]["current"], &data["pids"]["limit"]);
        assert_eq!(pids, (&json!(1), &json!(30)));
    });
}

#[test]
fn pressure_is_in_the_statistics() {
    case(|t| {
        t.needs(host::cgroup_v2_only(), "cgroup v2 alone");
        let there = Path::new("/proc/pressure/memory").exists();
        t.needs(there, "pressure stall information (CONFIG_PSI)");
        t.up(|_| {});
        let data = stats(t);
        for part in ["cpu", "memory", "blkio"] {
            let average = &data[part]["psi"]["some"]["avg10"];
            assert!(average.is_number(), "{part}: {data}");
        }
    });
}

#[test]
fn running_out_of_memory_is_an_event() {
    case(|t| {
        t.needs_v2("memory");
        t.up(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 40 * MB, "swap": 40 * MB});
            let wait = "while [ ! -e /data/go ]; do usleep 10000; done";
            script(c, &format!("{wait}; probe hog 100; sleep 1000"));
        });
        let mut events = t.runtime(&["events", "--interval", "60s", t.id()]).spawn();
        // It says nothing when it watches; on a slow machine it takes a while to begin.
        std::thread::sleep(Duration::from_millis(1500));
        assert!(events.is_running());
        std::fs::write(t.rootfs().join("data/go"), "").expect("write");
        wait_until("the event comes", || {
            events.stdout().lines().any(|l| {
                serde_json::from_str::<Value>(l)
                    .is_ok_and(|e| e["type"] == "oom" && e["id"] == t.id())
            })
        });
        t.stop();
    });
}

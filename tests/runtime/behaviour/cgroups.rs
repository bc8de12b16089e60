//! `linux.resources` and `linux.cgroupsPath` on cgroup v1: values are read back from the kernel.

use runtime_suite::prelude::*;

/// Runs a container with these resources; returns the content of files of its cgroups.
fn values(t: &Case, resources: &Value, files: &[&str]) -> Vec<String> {
    for file in files {
        let (controller, _) = file.split_once('.').expect("controller.file");
        let controller = if controller == "cpuset" {
            "cpuset"
        } else {
            controller
        };
        t.needs(host::cgroup_v1(controller), "cgroup v1");
    }
    t.up(|c| {
        for (key, value) in resources.as_object().expect("an object") {
            c["linux"]["resources"][key] = value.clone();
        }
    });
    let pid = t.pid();
    let read = |file: &&str| {
        let (controller, _) = file.split_once('.').expect("controller.file");
        let path = host::cgroup_of(pid, controller).join(file);
        let text = std::fs::read_to_string(&path);
        text.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
            .trim()
            .to_owned()
    };
    let all = files.iter().map(read).collect();
    let _ = t.delete_force().ok();
    all
}

const MB: u64 = 1 << 20;

#[test]
fn memory() {
    case(|t| {
        let memory = json!({
            "limit": 64 * MB, "reservation": 32 * MB, "swap": 96 * MB, "swappiness": 10
        });
        let files = [
            "memory.limit_in_bytes",
            "memory.soft_limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            "memory.swappiness",
        ];
        let got = values(t, &json!({"memory": memory}), &files);
        let want = [64 * MB, 32 * MB, 96 * MB].map(|n| n.to_string());
        assert_eq!(got[..3], want);
        assert_eq!(got[3], "10");
    });
}

#[test]
fn memory_without_limit() {
    case(|t| {
        let memory = json!({"limit": -1, "swap": -1});
        let got = values(t, &json!({"memory": memory}), &["memory.limit_in_bytes"]);
        let limit: u64 = got[0].parse().expect("a number");
        assert!(limit > 1 << 60, "{limit}");
    });
}

#[test]
fn the_oom_killer_can_be_disabled() {
    case(|t| {
        let memory = json!({"limit": 64 * MB, "disableOOMKiller": true});
        let got = values(t, &json!({"memory": memory}), &["memory.oom_control"]);
        assert!(got[0].contains("oom_kill_disable 1"), "{}", got[0]);
    });
}

#[test]
fn cpu() {
    case(|t| {
        let cpu = json!({"shares": 512, "quota": 40_000, "period": 80_000, "burst": 10_000});
        let files = ["cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"];
        assert_eq!(
            values(t, &json!({"cpu": cpu}), &files),
            ["512", "40000", "80000"]
        );
    });
}

#[test]
fn cpu_burst() {
    case(|t| {
        let cpu = json!({"quota": 40_000, "period": 80_000, "burst": 10_000});
        let got = values(t, &json!({"cpu": cpu}), &["cpu.cfs_burst_us"]);
        assert_eq!(got, ["10000"]);
    });
}

#[test]
fn cpu_idle() {
    case(|t| {
        let got = values(t, &json!({"cpu": {"idle": 1}}), &["cpu.idle"]);
        assert_eq!(got, ["1"]);
    });
}

#[test]
fn cpu_real_time() {
    case(|t| {
        let cpu = json!({"realtimeRuntime": 4000, "realtimePeriod": 900_000});
        let files = ["cpu.rt_runtime_us", "cpu.rt_period_us"];
        assert_eq!(values(t, &json!({"cpu": cpu}), &files), ["4000", "900000"]);
    });
}

#[test]
fn cpus_and_memory_nodes() {
    case(|t| {
        let cpu = json!({"cpus": "0", "mems": "0"});
        let got = values(t, &json!({"cpu": cpu}), &["cpuset.cpus", "cpuset.mems"]);
        assert_eq!(got, ["0", "0"]);
        let inside = t.sh("grep Cpus_allowed_list /proc/self/status; nproc", |c| {
            c["linux"]["resources"]["cpu"] = json!({"cpus": "0"});
        });
        assert_eq!(inside, "Cpus_allowed_list:\t0\n1");
    });
}

#[test]
fn without_cpus_all_are_there() {
    case(|t| {
        let files = ["cpuset.cpus", "cpuset.mems"];
        let got = values(t, &json!({}), &files);
        let top = |f: &str| std::fs::read_to_string(Path::new("/sys/fs/cgroup/cpuset").join(f));
        assert_eq!(got[0], top("cpuset.cpus").expect("read").trim());
    });
}

#[test]
fn processes() {
    case(|t| {
        assert_eq!(
            values(t, &json!({"pids": {"limit": 20}}), &["pids.max"]),
            ["20"]
        );
        assert_eq!(
            values(t, &json!({"pids": {"limit": -1}}), &["pids.max"]),
            ["max"]
        );
    });
}

#[test]
fn a_limit_of_0_processes() {
    case(|t| {
        // The first process is put into the group, which the kernel allows; it cannot fork.
        assert_eq!(
            values(t, &json!({"pids": {"limit": 0}}), &["pids.max"]),
            ["0"]
        );
    });
}

#[test]
fn the_limit_of_processes_holds() {
    case(|t| {
        let got: u32 = t
            .sh("probe fork 30", |c| {
                c["linux"]["resources"]["pids"] = json!({"limit": 10});
            })
            .parse()
            .expect("a number");
        assert!(got < 10, "{got} children");
    });
}

/// The disk that the root file system lies on, or any other.
fn disk() -> Option<String> {
    let all = std::fs::read_dir("/sys/block").ok()?.flatten();
    let mut disks = all.filter(|d| !d.file_name().to_string_lossy().starts_with("loop"));
    let text = std::fs::read_to_string(disks.next()?.path().join("dev")).ok()?;
    Some(text.trim().to_owned())
}

#[test]
fn block_io_throttles() {
    case(|t| {
        let Some(disk) = disk() else {
            return t.needs(false, "a disk");
        };
        let (major, minor) = disk.split_once(':').expect("major:minor");
        let number = |s: &str| s.parse::<u32>().expect("a number");
        let rate =
            |rate: u32| json!([{"major": number(major), "minor": number(minor), "rate": rate}]);
        let block = json!({
            "throttleReadBpsDevice": rate(1_048_576), "throttleWriteBpsDevice": rate(2_097_152),
            "throttleReadIOPSDevice": rate(300), "throttleWriteIOPSDevice": rate(400)
        });
        let files = ["read_bps", "write_bps", "read_iops", "write_iops"]
            .map(|f| format!("blkio.throttle.{f}_device"));
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let got = values(t, &json!({"blockIO": block}), &files);
        let want = ["1048576", "2097152", "300", "400"].map(|n| format!("{disk} {n}"));
        assert_eq!(got, want);
    });
}

#[test]
fn a_controller_that_is_missing_is_an_error() {
    case(|t| {
        t.needs(
            !host::cgroup_v1("rdma"),
            "a machine without the rdma controller",
        );
        let rdma = json!({"mlx5_1": {"hcaHandles": 3}});
        let out = t.create(|c| c["linux"]["resources"]["rdma"] = rdma);
        let _ = out.refused();
    });
}

#[test]
fn unified_without_its_controller_is_an_error() {
    case(|t| {
        t.needs(!host::cgroup_v2_only(), "cgroup v1");
        let out = t.create(|c| {
            c["linux"]["resources"]["unified"] = json!({"memory.max": "1000000"});
        });
        let _ = out.refused();
    });
}

#[test]
fn values_that_the_kernel_refuses_are_errors() {
    case(|t| {
        for resources in [
            json!({"cpu": {"cpus": "9999"}}),
            json!({"cpu": {"cpus": "a-b"}}),
            json!({"memory": {"limit": 1}}),
            json!({"memory": {"swappiness": 1000}}),
            json!({"cpu": {"quota": 1, "period": 1}}),
        ] {
            let (key, value) = resources
                .as_object()
                .and_then(|o| o.iter().next())
                .expect("one");
            println!("{resources}");
            let out = t.create(|c| c["linux"]["resources"][key] = value.clone());
            let _ = out.refused();
        }
    });
}

#[test]
fn the_memory_hog_dies_and_the_machine_lives() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        let out = t.run(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 100 * MB, "swap": 100 * MB});
            args(c, &["/bin/probe", "hog", "200"]);
        });
        assert_eq!(out.code(), 137, "{out}");
        assert!(!out.stdout.contains("survived"), "{out}");
        let out = t.run(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 100 * MB, "swap": 100 * MB});
            args(c, &["/bin/probe", "hog", "50"]);
        });
        assert!(out.ok().stdout.contains("survived with 50 MB"));
    });
}

#[test]
fn an_absolute_path_is_taken_from_the_top() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        let path = format!("/{}-top/middle/leaf", t.token());
        t.up(|c| c["linux"]["cgroupsPath"] = json!(path));
        for controller in [
            "memory", "cpu", "pids", "devices", "freezer", "blkio", "cpuset",
        ] {
            let place = host::cgroup_of(t.pid(), controller);
            let want = Path::new("/sys/fs/cgroup")
                .join(controller)
                .join(&path[1..]);
            assert_eq!(place, want);
        }
        let _ = t.delete_force().ok();
        remove_tops(t);
    });
}

/// The suite's own upper cgroups: a runtime removes what it can be sure is its own.
fn remove_tops(t: &Case) {
    for dir in runtime_suite::leaks::cgroups(t.token()).iter().rev() {
        let middle = dir.join("middle");
        assert!(!middle.join("leaf").exists(), "the container's own is left");
        let _ = std::fs::remove_dir(&middle);
        let _ = std::fs::remove_dir(dir);
    }
}

#[test]
fn a_relative_path_is_taken_consistently() {
    case(|t| {
        t.needs(
            ground() != Ground::Systemd,
            "paths that systemd has no part in",
        );
        let path = format!("{}-relative", t.token());
        let mut seen = Vec::new();
        for _ in 0..2 {
            t.up(|c| c["linux"]["cgroupsPath"] = json!(path));
            seen.push(std::fs::read_to_string(format!("/proc/{}/cgroup", t.pid())).expect("read"));
            let _ = t.delete_force().ok();
        }
        assert_eq!(seen[0], seen[1]);
        assert!(seen[0].contains(&path), "{}", seen[0]);
    });
}

#[test]
fn without_a_path_each_container_has_its_own() {
    case(|t| {
        let no_path = |c: &mut Value| {
            let linux = c["linux"].as_object_mut().expect("linux");
            linux.remove("cgroupsPath");
        };
        t.up(no_path);
        let other = t.container("b");
        other.up(no_path);
        let read = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read");
        let (one, two) = (read(t.pid()), read(other.pid()));
        let place = |text: &str| {
            let own = |l: &&str| l.contains("devices") || l.starts_with("0::");
            text.lines().find(own).map(str::to_owned)
        };
        assert_ne!(place(&one), place(&two));
        assert!(one.contains(t.id()), "{one}");
    });
}

#[test]
fn a_path_that_leads_up_stays_below_the_top() {
    case(|t| {
        let path = format!("/../../../{}-up", t.token());
        let out = t.create(|c| c["linux"]["cgroupsPath"] = json!(path));
        if out.code() == 0 {
            let dirs = runtime_suite::leaks::cgroups(t.token());
            assert!(!dirs.is_empty(), "it is nowhere");
        }
    });
}

#[test]
fn all_v1_controllers_are_mounted_inside() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        let r = t.report(|_| {});
        let own = |r: &Report| -> Vec<String> {
            let mounts = r.mounts().into_iter().filter(|m| m.kind == "cgroup");
            mounts.map(|m| m.point.display().to_string()).collect()
        };
        for controller in ["memory", "cpu", "pids", "devices"] {
            let point = format!("/sys/fs/cgroup/{controller}");
            assert!(own(&r).contains(&point), "{point}: {:?}", own(&r));
            let m = r.mount(&point);
            assert!(m.has("ro"), "{m:?}");
            assert!(
                m.root.contains(t.token()) || m.root == "/",
                "only the container's own: {m:?}"
            );
        }
    });
}

#[test]
fn only_the_containers_own_group_is_seen_inside() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        let text = "cat /sys/fs/cgroup/memory/cgroup.procs | wc -l; \
            cat /sys/fs/cgroup/memory/memory.limit_in_bytes; ls -d /sys/fs/cgroup/memory/*/ 2>/dev/null; true";
        for with_namespace in [false, true] {
            let out = t.sh(text, |c| {
                c["linux"]["resources"]["memory"] = json!({"limit": 80 * MB});
                if with_namespace {
                    ns(c, "cgroup");
                }
            });
            let lines: Vec<&str> = out.lines().collect();
            assert_eq!(lines[1..], [(80 * MB).to_string()], "{out}");
        }
    });
}

#[test]
fn it_cannot_change_its_own_limits() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        let out = t.run(|c| {
            script(
                c,
                "echo 0 >/sys/fs/cgroup/pids/pids.max; mkdir /sys/fs/cgroup/pids/x",
            );
        });
        assert_eq!(out.stderr.matches("Read-only").count(), 2, "{out}");
    });
}

#[test]
fn no_cgroup_is_left_when_create_fails() {
    case(|t| {
        let _ = t.create(|c| args(c, &["/bin/missing"]));
        let _ = t.delete_force();
        assert_eq!(
            runtime_suite::leaks::cgroups(t.token()),
            Vec::<PathBuf>::new()
        );
    });
}

#[test]
fn groups_that_the_container_made_are_removed() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        t.up(|_| {});
        let own = host::cgroup_of(t.pid(), "memory");
        std::fs::create_dir_all(own.join("one/two")).expect("make cgroups");
        let _ = t.delete_force().ok();
        assert!(!own.exists());
    });
}

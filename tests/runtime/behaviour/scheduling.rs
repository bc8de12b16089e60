//! `process.scheduler`, `ioPriority`, `execCPUAffinity`, `linux.memoryPolicy`, `personality`.

use runtime_suite::prelude::*;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Policies as stat shows them (sched(7)).
const OTHER: i64 = 0;
const FIFO: i64 = 1;
const BATCH: i64 = 3;
const IDLE: i64 = 5;
const DEADLINE: i64 = 6;

/// Policy, nice, real-time priority: fields 41, 19 and 40 of proc_pid_stat(5).
fn scheduling(r: &Report) -> (i64, i64, i64) {
    (r.stat(41), r.stat(19), r.stat(40))
}

#[test]
fn the_policy_and_nice_value_are_set() {
    case(|t| {
        for (name, number) in [("OTHER", OTHER), ("BATCH", BATCH)] {
            let scheduler = json!({"policy": format!("SCHED_{name}"), "nice": 7});
            let r = t.report(|c| c["process"]["scheduler"] = scheduler);
            assert_eq!(scheduling(&r), (number, 7, 0), "{name}");
        }
        let r = t.report(|c| c["process"]["scheduler"] = json!({"policy": "SCHED_IDLE"}));
        assert_eq!(scheduling(&r), (IDLE, 0, 0));
    });
}

#[test]
fn a_real_time_policy_has_its_priority() {
    case(|t| {
        // On cgroup v2 a kernel with RT_GROUP_SCHED gives real time to nobody below the top.
        t.needs(
            host::cgroup_v1("cpu") || host::succeeds("chrt", &["--fifo", "1", "true"]),
            "real-time scheduling in control groups (no RT_GROUP_SCHED), and the right to it",
        );
        // The group of a scope gets that controller when a neighbour's does.
        t.needs(
            ground() != Ground::Systemd,
            "a group that gets no processor controller from its neighbours (RT_GROUP_SCHED)",
        );
        let r = t.report(|c| {
            c["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 12});
            // On cgroup v1 a group has no real-time budget of its own (sched-rt-group.rst).
            if host::cgroup_v1("cpu") {
                c["linux"]["resources"]["cpu"] = json!({"realtimeRuntime": 5000});
            }
        });
        assert_eq!((r.stat(41), r.stat(40)), (FIFO, 12));
    });
}

#[test]
fn a_deadline_policy() {
    case(|t| {
        t.needs_root("real time, of the processor and of the disk");
        let r = t.report(|c| {
            c["process"]["scheduler"] = json!({
                "policy": "SCHED_DEADLINE", "runtime": 2_000_000, "deadline": 20_000_000,
                "period": 30_000_000, "flags": ["SCHED_FLAG_RESET_ON_FORK"]
            });
        });
        assert_eq!(r.stat(41), DEADLINE);
        // What is left of the run time in this period, at most all of it.
        let mut lines = r.file("sched").lines();
        let left = lines.find(|l| l.starts_with("dl.runtime")).unwrap_or("");
        let left: i64 = left
            .rsplit(' ')
            .next()
            .and_then(|w| w.parse().ok())
            .expect("a number");
        assert!(left <= 2_000_000, "{left}");
    });
}

#[test]
fn an_unknown_policy_is_refused() {
    case(|t| {
        let scheduler = json!({"policy": "SCHED_FAIR"});
        let _ = t
            .create(|c| c["process"]["scheduler"] = scheduler)
            .refused();
        let scheduler = json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_FAST"]});
        let _ = t
            .create(|c| c["process"]["scheduler"] = scheduler)
            .refused();
    });
}

#[test]
fn an_exec_has_its_own_scheduler() {
    case(|t| {
        t.up(|_| {});
        let mut process = t.config(|_| {})["process"].clone();
        process["args"] = json!(["/bin/probe", "report"]);
        process["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 3});
        let out = t.exec_process(&[], &process).ok();
        assert_eq!(scheduling(&Report::new(&out.stdout)), (BATCH, 3, 0));
    });
}

#[test]
fn the_io_priority_is_set() {
    case(|t| {
        t.needs_root("real time, of the processor and of the disk");
        for (class, priority, shown) in [
            ("BE", 6, "best-effort: prio 6"),
            ("IDLE", 0, "idle"),
            ("RT", 3, "realtime: prio 3"),
        ] {
            let out = t.sh("ionice -p $$", |c| {
                let class = format!("IOPRIO_CLASS_{class}");
                c["process"]["ioPriority"] = json!({"class": class, "priority": priority});
            });
            assert_eq!(out, shown);
        }
    });
}

#[test]
fn an_unknown_io_priority_is_refused() {
    case(|t| {
        let priority = json!({"class": "IOPRIO_CLASS_TURBO", "priority": 0});
        let _ = t
            .create(|c| c["process"]["ioPriority"] = priority)
            .refused();
        let priority = json!({"class": "IOPRIO_CLASS_BE", "priority": 8});
        let _ = t
            .create(|c| c["process"]["ioPriority"] = priority)
            .refused();
    });
}

#[test]
fn an_exec_runs_on_the_cpus_it_asks_for() {
    case(|t| {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        t.needs(cpus > 1, "two CPUs");
        t.up(|_| {});
        let mut process = t.config(|_| {})["process"].clone();
        process["args"] = json!(["/bin/probe", "report"]);
        process["execCPUAffinity"] = json!({"initial": "0", "final": "1"});
        let out = t.exec_process(&[], &process).ok();
        assert_eq!(Report::new(&out.stdout).status("Cpus_allowed_list"), "1");
        process["execCPUAffinity"] = json!({"initial": "0-1"});
        let out = t.exec_process(&[], &process).ok();
        assert_eq!(Report::new(&out.stdout).status("Cpus_allowed_list"), "0-1");
    });
}

#[test]
fn the_cpu_affinity_of_execs_comes_from_the_configuration() {
    case(|t| {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        t.needs(cpus > 1, "two CPUs");
        t.up(|c| c["process"]["execCPUAffinity"] = json!({"final": "1"}));
        let init = host::status_field(&t.pid().to_string(), "Cpus_allowed_list");
        assert_ne!(
            init.as_deref(),
            Some("1"),
            "it is not for the first process"
        );
        assert_eq!(t.exec_report(&[]).status("Cpus_allowed_list"), "1");
    });
}

#[test]
fn the_cpus_of_the_caller_are_not_the_containers() {
    case(|t| {
        let all = host::status_field("self", "Cpus_allowed_list").expect("a list");
        t.needs(all != "0", "a second CPU");
        let mut only = CpuSet::new();
        only.set(0);
        // This thread, and what it starts.
        sched_setaffinity(None, &only).expect("stay on CPU 0");
        let first = t.report(|_| {});
        assert_eq!(first.status("Cpus_allowed_list"), all);
        t.up(|_| {});
        let init = host::status_field(&t.pid().to_string(), "Cpus_allowed_list");
        assert_eq!(init.as_ref(), Some(&all));
        assert_eq!(t.exec_report(&[]).status("Cpus_allowed_list"), all);
        let mut process = t.config(|_| {})["process"].clone();
        process["args"] = json!(["/bin/probe", "report"]);
        process["execCPUAffinity"] = json!({"initial": "0"});
        let out = t.exec_process(&[], &process).ok();
        assert_eq!(Report::new(&out.stdout).status("Cpus_allowed_list"), all);
    });
}

#[test]
fn a_malformed_cpu_list_is_refused() {
    case(|t| {
        t.up(|_| {});
        let mut process = t.config(|_| {})["process"].clone();
        process["execCPUAffinity"] = json!({"final": "1-x"});
        let _ = t.exec_process(&[], &process).refused();
    });
}

#[test]
fn the_memory_policy_is_set() {
    case(|t| {
        t.needs(
            Path::new("/proc/self/numa_maps").exists(),
            "memory policies (CONFIG_NUMA)",
        );
        for (mode, nodes, shown) in [
            ("MPOL_BIND", "0", "bind:0"),
            ("MPOL_INTERLEAVE", "0", "interleave:0"),
            ("MPOL_PREFERRED", "0", "prefer:0"),
            ("MPOL_LOCAL", "", "local"),
            ("MPOL_DEFAULT", "", "default"),
        ] {
            let policy = json!({"mode": mode, "nodes": nodes});
            let r = t.report(|c| c["linux"]["memoryPolicy"] = policy);
            let maps = r.file("numa_maps");
            let heap = maps
                .lines()
                .find(|l| l.contains("heap") || l.contains("stack"));
            let heap = heap.expect("a heap");
            assert_eq!(heap.split(' ').nth(1), Some(shown), "{mode}: {heap}");
        }
        let policy = json!({
            "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]
        });
        let r = t.report(|c| c["linux"]["memoryPolicy"] = policy);
        assert!(
            r.file("numa_maps").contains("bind=static:0"),
            "{}",
            r.file("numa_maps")
        );
    });
}

#[test]
fn a_memory_policy_that_cannot_be_is_refused() {
    case(|t| {
        for policy in [
            json!({"mode": "MPOL_RANDOM", "nodes": "0"}),
            json!({"mode": "MPOL_BIND", "nodes": ""}),
            json!({"mode": "MPOL_BIND", "nodes": "zero"}),
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_FAST"]}),
            json!({"mode": "MPOL_DEFAULT", "nodes": "0"}),
        ] {
            println!("{policy}");
            let _ = t.run(|c| c["linux"]["memoryPolicy"] = policy).refused();
        }
    });
}

#[test]
fn the_personality_is_set() {
    case(|t| {
        let r = t.report(|c| c["linux"]["personality"] = json!({"domain": "LINUX32"}));
        assert_eq!(r.file("personality").trim(), "00000008");
        let r = t.report(|c| c["linux"]["personality"] = json!({"domain": "LINUX"}));
        assert_eq!(r.file("personality").trim(), "00000000");
    });
}

#[test]
fn the_personality_is_seen_in_the_machines_name() {
    case(|t| {
        needs_names(t);
        let r = t.report(|c| c["linux"]["personality"] = json!({"domain": "LINUX32"}));
        assert_eq!(r.0["machine"], "i686");
    });
}

fn needs_names(t: &Case) {
    let out = std::process::Command::new("setarch")
        .args(["i686", "uname", "-m"])
        .output();
    let obeys = out.is_ok_and(|out| out.stdout == b"i686\n");
    t.needs(obeys, "a uname(2) that obeys personality(2)");
}

#[test]
fn an_exec_has_the_personality() {
    case(|t| {
        needs_names(t);
        t.up(|c| c["linux"]["personality"] = json!({"domain": "LINUX32"}));
        assert_eq!(t.exec(&[], &["/bin/uname", "-m"]).ok().text(), "i686");
    });
}

#[test]
fn an_unknown_personality_is_refused() {
    case(|t| {
        let personality = json!({"domain": "SVR4"});
        let _ = t
            .create(|c| c["linux"]["personality"] = personality)
            .refused();
    });
}

#[test]
fn resctrl_is_refused_where_it_is_not_mounted() {
    case(|t| {
        t.needs(
            !Path::new("/sys/fs/resctrl/schemata").exists(),
            "a machine without resctrl",
        );
        let rdt = json!({"closID": "suite", "schemata": ["L3:0=f"]});
        let _ = t.create(|c| c["linux"]["intelRdt"] = rdt).refused();
    });
}

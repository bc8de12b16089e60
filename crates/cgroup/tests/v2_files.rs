//! The version 2 file logic against a directory tree shaped like cgroupfs.
//!
//! The host's kernel has its controllers in version 1 hierarchies, so the files of the version 2
//! controllers do not exist here. The same code runs on a real version 2 kernel in the VM's
//! suite; this is about which value goes into which file, and what is said when one is missing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

mod common;

use std::path::{Path, PathBuf};

use cgroup::{ErrorKind, Manager};
use common::{read, v2_manager};
use spec::oci::Resources;

const FILES: &[&str] = &[
    "cpu.idle",
    "cpu.max",
    "cpu.max.burst",
    "cpu.weight",
    "cpuset.cpus",
    "cpuset.mems",
    "hugetlb.2MB.max",
    "hugetlb.2MB.rsvd.max",
    "io.max",
    "io.weight",
    "memory.current",
    "memory.events",
    "memory.high",
    "memory.low",
    "memory.max",
    "memory.oom.group",
    "memory.stat",
    "memory.swap.current",
    "memory.swap.max",
    "pids.current",
    "pids.max",
    "rdma.max",
    "cpu.stat",
    "io.stat",
    "cgroup.procs",
    "cgroup.type",
    "cgroup.freeze",
];
const CONTROLLERS: &str = "cpuset cpu io memory hugetlb pids rdma\n";

/// A mount point `root` with a group `slice` and in that the container's `c1`.
struct Tree {
    root: PathBuf,
    manager: Manager,
}

impl Tree {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("hull-test-v2-{}-{name}", std::process::id()));
        let leaf = root.join("slice/c1");
        std::fs::create_dir_all(&leaf).unwrap();
        for dir in [root.as_path(), &root.join("slice"), &leaf] {
            std::fs::write(dir.join("cgroup.controllers"), CONTROLLERS).unwrap();
            std::fs::write(dir.join("cgroup.subtree_control"), "").unwrap();
        }
        for file in FILES {
            std::fs::write(leaf.join(file), "").unwrap();
        }
        let manager = v2_manager(&root, &leaf);
        Self { root, manager }
    }

    fn leaf(&self) -> PathBuf {
        self.root.join("slice/c1")
    }

    fn set(&self, file: &str, text: &str) {
        std::fs::write(self.leaf().join(file), text).unwrap();
    }

    fn get(&self, file: &str) -> String {
        read(&self.leaf().join(file))
    }

    fn remove(&self, file: &str) {
        std::fs::remove_file(self.leaf().join(file)).unwrap();
    }

    fn apply(&self, json: &str) -> cgroup::Result<Vec<String>> {
        let resources: Resources = serde_json::from_str(json).unwrap();
        self.manager.apply(&resources)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.root).unwrap();
    }
}

#[test]
fn values_reach_their_files() {
    let t = Tree::new("values");
    t.apply(
        r#"{"memory":{"limit":1000,"swap":3000,"reservation":500,"kernel":5},
            "cpu":{"shares":1024,"quota":50000,"period":200000,"burst":7,"cpus":"0-1","mems":"0","idle":0},
            "pids":{"limit":0},
            "hugepageLimits":[{"pageSize":"2MB","limit":4194304}],
            "rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":4}},
            "blockIO":{"weight":500,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":7}]}}"#,
    )
    .unwrap();
    for (file, want) in [
        ("memory.max", "1000"),
        ("memory.swap.max", "2000"),
        ("memory.low", "500"),
        ("cpu.weight", "100"),
        ("cpu.max", "50000 200000"),
        ("cpu.max.burst", "7"),
        ("cpu.idle", "0"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("pids.max", "0"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
        ("rdma.max", "mlx5_1 hca_handle=3 hca_object=4"),
        ("io.weight", "4950"),
        ("io.max", "8:0 rbps=7"),
    ] {
        assert_eq!(t.get(file), want, "{file}");
    }
}

#[test]
fn no_limit_is_max() {
    let t = Tree::new("max");
    t.apply(
        r#"{"memory":{"limit":-1},"cpu":{"quota":-1},"pids":{"limit":-1},
            "blockIO":{"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]}}"#,
    )
    .unwrap();
    for file in ["memory.max", "memory.swap.max", "cpu.max", "pids.max"] {
        assert_eq!(t.get(file), "max", "{file}");
    }
    assert_eq!(t.get("io.max"), "8:0 wiops=max");
}

#[test]
fn an_update_takes_from_what_is_in_force() {
    let t = Tree::new("update");
    t.set("cpu.max", "30000 100000\n");
    t.apply(r#"{"cpu":{"period":200000}}"#).unwrap();
    assert_eq!(t.get("cpu.max"), "30000 200000");
    t.set("memory.max", "1000\n");
    t.apply(r#"{"memory":{"swap":1500}}"#).unwrap();
    assert_eq!(t.get("memory.swap.max"), "500");
    t.set("memory.current", "900\n");
    let e = t.apply(r#"{"memory":{"limit":800,"checkBeforeUpdate":true}}"#);
    let e = e.unwrap_err().to_string();
    assert_eq!(e, "memory.limit: 800: below the current usage of 900");
    assert_eq!(t.get("memory.max"), "1000");
}

#[test]
fn bfq_has_its_own_weights() {
    let t = Tree::new("bfq");
    t.set("io.bfq.weight", "");
    t.apply(r#"{"blockIO":{"weight":500,"weightDevice":[]}}"#)
        .unwrap();
    assert_eq!(t.get("io.bfq.weight"), "500");
    assert_eq!(t.get("io.weight"), "");
}

#[test]
fn unified_files_come_last_and_line_by_line() {
    let t = Tree::new("unified");
    t.apply(
        r#"{"memory":{"limit":1000},
            "unified":{"memory.max":"2000","memory.high":"1500","memory.oom.group":"1"}}"#,
    )
    .unwrap();
    assert_eq!(t.get("memory.max"), "2000");
    assert_eq!(t.get("memory.high"), "1500");
    assert_eq!(t.get("memory.oom.group"), "1");
    for bad in [
        r#"{"unified":{"../x.y":"1"}}"#,
        r#"{"unified":{"plain":"1"}}"#,
    ] {
        let e = t.apply(bad).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid, "{e}");
    }
    // A controller that we do not know is still written, and must be there.
    let e = t.apply(r#"{"unified":{"magic.max":"1"}}"#).unwrap_err();
    assert!(
        e.to_string()
            .contains("controller magic is not available: not in"),
        "{e}"
    );
}

#[test]
fn what_version_2_lacks_is_refused() {
    let t = Tree::new("refused");
    for json in [
        r#"{"memory":{"swappiness":1}}"#,
        r#"{"memory":{"disableOOMKiller":true}}"#,
        r#"{"cpu":{"realtimeRuntime":1}}"#,
        r#"{"network":{"classID":1}}"#,
        r#"{"network":{"priorities":[{"name":"eth0","priority":1}]}}"#,
        r#"{"blockIO":{"leafWeight":10}}"#,
    ] {
        let e = t.apply(json).unwrap_err();
        assert!(e.to_string().contains("cgroup v2 has none"), "{json}: {e}");
    }
    t.apply(r#"{"memory":{"disableOOMKiller":false},"cpu":{"realtimePeriod":0},"network":{}}"#)
        .unwrap();
}

#[test]
fn a_missing_controller_names_the_place() {
    let t = Tree::new("missing");
    t.remove("pids.max");
    for dir in ["slice", "slice/c1"] {
        let file = t.root.join(dir).join("cgroup.controllers");
        std::fs::write(file, "cpu memory\n").unwrap();
    }
    let e = t.apply(r#"{"pids":{"limit":1}}"#).unwrap_err().to_string();
    let place = t.root.join("slice/cgroup.controllers");
    assert!(
        e.contains(&format!(
            "pids.limit: controller pids is not available: not in {place:?}"
        )),
        "{e}"
    );
    // It was asked for at the top on the way.
    assert_eq!(read(&t.root.join("cgroup.subtree_control")), "+pids");
    // Files that only newer kernels have: an error that names the file.
    t.remove("cpu.max.burst");
    let e = t.apply(r#"{"cpu":{"burst":1}}"#).unwrap_err().to_string();
    assert!(
        e.contains("cpu.max.burst\"): no such file or directory"),
        "{e}"
    );
    // No swap accounting: nothing to switch off, but a limit is an error.
    t.remove("memory.swap.max");
    t.apply(r#"{"memory":{"limit":5,"swap":5}}"#).unwrap();
    assert!(t.apply(r#"{"memory":{"limit":5,"swap":6}}"#).is_err());
}

#[test]
fn create_hands_down_controllers_and_checks_the_type() {
    let mut t = Tree::new("create");
    t.set("cgroup.type", "domain\n");
    t.manager.create().unwrap();
    for dir in [t.root.clone(), t.root.join("slice")] {
        let text = read(&dir.join("cgroup.subtree_control"));
        assert_eq!(text, "+cpuset +cpu +io +memory +hugetlb +pids +rdma");
    }
    assert_eq!(t.get("cgroup.subtree_control"), "");
    for kind in ["threaded", "domain invalid"] {
        t.set("cgroup.type", kind);
        let e = t.manager.create().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Occupied);
        assert!(
            e.to_string().contains(&format!("cgroup type is {kind:?}")),
            "{e}"
        );
    }
}

#[test]
fn statistics() {
    let t = Tree::new("stats");
    t.set("cpu.stat", "usage_usec 10\nuser_usec 6\nsystem_usec 4\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1\n");
    t.set("memory.stat", "anon 1\nfile 2\n");
    t.set("memory.current", "100\n");
    t.set("memory.max", "max\n");
    t.set("memory.peak", "150\n");
    t.set("memory.events", "low 0\nmax 3\noom 1\noom_kill 2\n");
    t.set("memory.swap.current", "10\n");
    t.set("memory.swap.max", "max\n");
    t.set("pids.current", "4\n");
    t.set("pids.max", "max\n");
    t.set(
        "io.stat",
        "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
    );
    t.set(
        "cpu.pressure",
        "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\n",
    );
    let s = t.manager.stats().unwrap();
    assert_eq!(
        (s.cpu.usage.total, s.cpu.usage.user, s.cpu.usage.kernel),
        (10_000, 6000, 4000)
    );
    assert_eq!(
        (s.cpu.throttling.periods, s.cpu.throttling.throttled_time),
        (3, 1000)
    );
    assert_eq!(
        (
            s.memory.usage.usage,
            s.memory.usage.max,
            s.memory.usage.failcnt
        ),
        (100, 150, 3)
    );
    assert_eq!(
        (s.memory.swap.usage, s.memory.swap.limit, s.memory.cache),
        (110, u64::MAX, 2)
    );
    assert_eq!((s.pids.current, s.pids.limit), (4, 0));
    assert_eq!(s.blkio.io_serviced_recursive[1].value, 4);
    assert_eq!(s.cpu.psi.unwrap().some.total, 9);
    assert!(s.memory.psi.is_none());
    assert_eq!(t.manager.oom_kills().unwrap(), Some(2));
}

#[test]
fn delegation_changes_the_owner_of_the_named_files() {
    let t = Tree::new("delegate");
    t.manager.delegate(4242).unwrap();
    let uid = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).unwrap().uid()
    };
    assert_eq!(uid(&t.leaf()), 4242);
    assert_eq!(uid(&t.leaf().join("cgroup.procs")), 4242);
    assert_eq!(uid(&t.leaf().join("cgroup.subtree_control")), 4242);
    assert_eq!(uid(&t.leaf().join("memory.max")), 0);
}

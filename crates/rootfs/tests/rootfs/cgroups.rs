//! Mounts of type `cgroup`, on whatever this machine has.

use std::path::{Path, PathBuf};

use rootfs::{CgroupLayout, Context, Hierarchy};
use spec::Plan;
use spec::plan::{MountAttrs, NamespaceKind, NamespaceMode};

use crate::support::{alone, bare, cgroup, contained, enter, fs, image, mounts, names};

/// This process's groups as a layout: of version 1 mounts of the host, where there are any.
fn v1_layout() -> Vec<Hierarchy> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let mut all: Vec<Hierarchy> = groups
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let (name, options) = match controllers.strip_prefix("name=") {
                Some(name) => (name, vec!["none".to_owned(), controllers.to_owned()]),
                None => (
                    controllers,
                    controllers.split(',').map(str::to_owned).collect(),
                ),
            };
            let path = PathBuf::from(format!("/sys/fs/cgroup/{name}{path}"));
            (!name.is_empty() && path.is_dir()).then(|| Hierarchy {
                name: name.to_owned(),
                path,
                options,
                unified: false,
            })
        })
        .collect();
    all.truncate(4);
    all
}

fn plan_of(root: &Path, attrs: u64, own: bool) -> Plan {
    let mut plan = bare(root);
    plan.mounts = vec![
        fs("/proc", "proc", &[], 0),
        fs("/sys", "sysfs", &[], 0),
        cgroup("/sys/fs/cgroup", attrs),
    ];
    if own {
        plan.namespaces
            .set(NamespaceKind::Cgroup, NamespaceMode::New);
    }
    plan
}

fn inside(plan: &Plan, layout: CgroupLayout, check: impl FnOnce()) {
    contained(plan, |plan, context| {
        let context = Context {
            cgroups: layout,
            ..context
        };
        enter(plan, context);
        check();
    });
}

#[test]
fn version_1() {
    alone(|| {
        let hierarchies = v1_layout();
        if hierarchies.is_empty() {
            println!("this machine has no version 1 hierarchies");
            return;
        }
        for own in [false, true] {
            for readonly in [0, MountAttrs::RDONLY] {
                let root = image();
                let plan = plan_of(root.path(), readonly, own);
                let layout = CgroupLayout::V1(hierarchies.clone());
                inside(&plan, layout, || {
                    let all = mounts();
                    let top = &all["/sys/fs/cgroup"];
                    let word = if readonly == 0 { "rw" } else { "ro" };
                    let expected = format!("{word},nosuid,nodev,noexec");
                    assert!(top.options.starts_with(&expected), "{top:?}");
                    for h in &hierarchies {
                        let m = &all[&format!("/sys/fs/cgroup/{}", h.name)];
                        assert_eq!(m.fstype, "cgroup");
                        assert!(m.options.starts_with(&expected), "{m:?}");
                        assert!(
                            Path::new("/sys/fs/cgroup")
                                .join(&h.name)
                                .join("cgroup.procs")
                                .exists()
                        );
                    }
                });
            }
        }
    });
}

#[test]
fn merged_hierarchies_have_links() {
    alone(|| {
        let (root, host) = (image(), image());
        std::fs::write(host.path().join("cpu.shares"), "1024").unwrap();
        let plan = plan_of(root.path(), 0, false);
        let layout = CgroupLayout::V1(vec![Hierarchy {
            name: "cpu,cpuacct".to_owned(),
            path: host.path().to_owned(),
            ..Hierarchy::default()
        }]);
        inside(&plan, layout, || {
            assert_eq!(names("/sys/fs/cgroup"), ["cpu", "cpu,cpuacct", "cpuacct"]);
            assert!(Path::new("/sys/fs/cgroup/cpu/cpu.shares").exists());
        });
    });
}

/// Where the unified hierarchy is mounted on this machine.
fn unified() -> Option<PathBuf> {
    let text = crate::support::mountinfo();
    let line = text.lines().find(|l| l.contains(" - cgroup2 "))?;
    Some(PathBuf::from(line.split(' ').nth(4)?))
}

#[test]
fn version_2() {
    alone(|| {
        let Some(top) = unified() else {
            println!("this machine has no unified hierarchy");
            return;
        };
        let own = top.join(format!("hull-rootfs-test-{}", std::process::id()));
        std::fs::create_dir(&own).unwrap();
        let result = std::panic::catch_unwind(|| {
            for (namespace, file) in [(true, "cgroup.procs"), (false, "cgroup.events")] {
                let root = image();
                let plan = plan_of(root.path(), MountAttrs::RDONLY, namespace);
                inside(&plan, CgroupLayout::V2 { path: own.clone() }, || {
                    let m = &mounts()["/sys/fs/cgroup"];
                    assert_eq!(m.fstype, "cgroup2");
                    assert!(m.options.starts_with("ro,nosuid,nodev,noexec"), "{m:?}");
                    assert!(Path::new("/sys/fs/cgroup").join(file).exists());
                });
            }
        });
        std::fs::remove_dir(&own).unwrap();
        result.unwrap();
    });
}

#[test]
fn none_is_left_out() {
    alone(|| {
        let root = image();
        inside(&plan_of(root.path(), 0, false), CgroupLayout::None, || {
            assert!(!mounts().contains_key("/sys/fs/cgroup"));
        });
    });
}

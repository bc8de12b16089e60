//! What a configuration becomes.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::path::Path;

use common::plan;
use serde_json::{Value, json};
use spec::oci::DeviceRule;
use spec::plan::{
    CapabilitySets, DeviceKind, IdMaps, NamespaceKind, NamespaceMode, ProcessPlan, Propagation,
    PropagationKind,
};

#[test]
fn a_small_configuration() {
    let (plan, warnings) = plan(|_| {});
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(plan.root.path, Path::new("/bundle/rootfs"));
    assert!(!plan.root.readonly);
    assert!(plan.namespaces.is_new(NamespaceKind::Mount));
    assert!(plan.namespaces.is_inherited(NamespaceKind::User));
    assert_eq!(plan.cgroup.path, None);
    let process = plan.process.unwrap();
    assert_eq!(process.args, ["sh"]);
    assert_eq!(process.cwd, Path::new("/"));
    assert!(process.terminal.is_none() && process.capabilities.is_none());
    assert!(process.scheduler.is_none() && process.oom_score_adj.is_none());
}

#[test]
fn paths_of_the_host_stay_and_those_inside_are_cleaned() {
    let (plan, warnings) = plan(|c| {
        c["root"]["path"] = json!("/srv/../root");
        c["linux"]["maskedPaths"] = json!(["/proc//kcore", "/../sys/firmware/"]);
        c["mounts"] = json!([
            {"destination": "data/../../x", "source": "relative", "options": ["rbind"]},
            {"destination": "/y/.", "source": "/abs/../olute", "options": ["bind"]}
        ]);
    });
    assert_eq!(plan.root.path, Path::new("/srv/../root"));
    assert_eq!(
        plan.masked_paths,
        [Path::new("/proc/kcore"), Path::new("/sys/firmware")]
    );
    assert_eq!(plan.mounts[0].destination, Path::new("/x"));
    assert_eq!(plan.mounts[1].destination, Path::new("/y"));
    let sources: Vec<_> = plan
        .mounts
        .iter()
        .map(|m| format!("{:?}", m.kind))
        .collect();
    assert!(sources[0].contains("/bundle/relative"), "{}", sources[0]);
    assert!(sources[1].contains("/abs/../olute"), "{}", sources[1]);
    assert_eq!(
        warnings,
        ["mounts[0].destination \"data/../../x\": relative, taken as relative to /"]
    );
}

#[test]
fn of_two_values_for_a_variable_the_last_one_wins() {
    let (plan, _) = plan(|c| c["process"]["env"] = json!(["A=1", "B=", "A=2", "AB=x=y", "B=3"]));
    assert_eq!(plan.process.unwrap().env, ["A=2", "AB=x=y", "B=3"]);
}

#[test]
fn capabilities_that_cannot_be_granted_are_left_out_with_a_warning() {
    let (plan, warnings) = plan(|c| {
        c["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE", "CAP_FUTURE"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_FUTURE"],
            "inheritable": ["CAP_CHOWN", "cap_chown"],
            "ambient": ["CAP_CHOWN", "CAP_KILL"]
        });
    });
    let process = plan.process.unwrap();
    assert_eq!(
        process.capabilities.unwrap(),
        CapabilitySets {
            bounding: 1 | 1 << 40,
            permitted: 1 | 1 << 5,
            effective: 1,
            inheritable: 1,
            ambient: 1,
        }
    );
    assert_eq!(process.unknown_capabilities, ["CAP_FUTURE", "cap_chown"]);
    assert_eq!(
        warnings,
        [
            "process.capabilities.bounding[2] \"CAP_FUTURE\": unknown capability, left out",
            "process.capabilities.effective[2] \"CAP_FUTURE\": unknown capability, left out",
            "process.capabilities.inheritable[1] \"cap_chown\": unknown capability, left out",
            "process.capabilities.effective: CAP_SYS_ADMIN left out, not in permitted",
        ]
    );
}

#[test]
fn numbers_for_the_kernel() {
    let (plan, _) = plan(|c| {
        c["process"]["scheduler"] = json!({
            "policy": "SCHED_RR", "priority": 7, "nice": -3,
            "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_UTIL_CLAMP_MAX"]
        });
        c["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 4});
        c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 5, "hard": u64::MAX}]);
        c["process"]["execCPUAffinity"] = json!({"initial": "3,0-1", "final": ""});
        c["linux"]["memoryPolicy"] =
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "2-3", "flags": ["MPOL_F_STATIC_NODES"]});
        c["linux"]["rootfsPropagation"] = json!("rslave");
    });
    let process = plan.process.unwrap();
    let scheduler = process.scheduler.unwrap();
    assert_eq!(
        (
            scheduler.policy,
            scheduler.priority,
            scheduler.nice,
            scheduler.flags
        ),
        (2, 7, -3, 0x41)
    );
    assert_eq!(process.io_priority, Some(2 << 13 | 4));
    let limit = process.rlimits[0];
    assert_eq!((limit.resource, limit.name), (7, "RLIMIT_NOFILE"));
    assert_eq!((limit.soft, limit.hard), (5, u64::MAX));
    let affinity = process.exec_cpu_affinity.unwrap();
    assert_eq!((affinity.initial, affinity.after), (vec![0, 1, 3], vec![]));
    let policy = plan.memory_policy.unwrap();
    assert_eq!((policy.mode, policy.nodes), (3 | 1 << 15, vec![2, 3]));
    let slave = Propagation {
        kind: PropagationKind::Slave,
        recursive: true,
    };
    assert_eq!(plan.rootfs_propagation, Some(slave));
}

#[test]
fn default_devices_come_first_and_can_be_given_owners() {
    let (plan, _) = plan(|c| {
        c["linux"]["devices"] = json!([
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 33_206, "gid": 7},
            {"path": "/dev/zero", "type": "u", "major": 1, "minor": 5, "fileMode": 384, "uid": 3},
            {"path": "/dev/queue", "type": "p"},
            {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0}
        ]);
    });
    let paths: Vec<_> = plan
        .devices
        .iter()
        .map(|d| d.path.to_str().unwrap())
        .collect();
    let wanted = "null zero full random urandom tty fuse queue sda";
    let wanted: Vec<_> = wanted
        .split(' ')
        .map(|name| format!("/dev/{name}"))
        .collect();
    assert_eq!(paths, wanted);
    let char = |major, minor| DeviceKind::Char { major, minor };
    assert_eq!(plan.devices[0].kind, char(1, 3));
    assert_eq!((plan.devices[1].mode, plan.devices[1].uid), (0o600, 3));
    assert_eq!((plan.devices[6].mode, plan.devices[6].gid), (0o666, 7));
    assert_eq!(plan.devices[7].kind, DeviceKind::Fifo);
    assert_eq!(
        plan.devices[8].kind,
        DeviceKind::Block { major: 8, minor: 0 }
    );
}

/// A rule as the v1 controller lists it.
fn rule(rule: &DeviceRule) -> String {
    let number = |n: Option<i64>| match n {
        Some(-1) => "*".to_owned(),
        n => n.unwrap().to_string(),
    };
    let sign = if rule.allow { '+' } else { '-' };
    let (major, minor) = (number(rule.major), number(rule.minor));
    format!("{sign}{} {major}:{minor} {}", rule.kind, rule.access)
}

fn rules(resources: &Value, annotations: &Value) -> Vec<String> {
    let (plan, _) = plan(|c| {
        c["linux"]["resources"] = resources.clone();
        c["annotations"] = annotations.clone();
    });
    plan.cgroup.resources.devices.iter().map(rule).collect()
}

#[test]
fn device_rules_are_complete_unless_the_defaults_are_switched_off() {
    let defaults = [
        "+c 1:3 rwm",
        "+c 1:5 rwm",
        "+c 1:7 rwm",
        "+c 1:8 rwm",
        "+c 1:9 rwm",
        "+c 5:0 rwm",
        "+c *:* m",
        "+b *:* m",
        "+c 136:* rwm",
        "+c 5:2 rwm",
        "+c 10:200 rwm",
    ];
    let deny = "-a *:* rwm".to_owned();
    let fuse = json!({"devices": [{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]});
    let all = json!({"devices": [{"allow": true}]});

    let got = rules(&Value::Null, &Value::Null);
    assert_eq!(got[0], deny);
    assert_eq!(got[1..], defaults);
    let got = rules(&fuse, &json!({"run.hull.default-device-rules": "true"}));
    assert_eq!(got[..2], [deny, "+c 10:229 rw".to_owned()]);
    assert_eq!(got[2..], defaults);
    let got = rules(&all, &Value::Null);
    assert_eq!(got[0], "+a *:* rwm");
    assert_eq!(got[1..], defaults);

    let off = json!({"run.hull.default-device-rules": "false"});
    assert_eq!(rules(&Value::Null, &off), [""; 0]);
    assert_eq!(rules(&fuse, &off), ["+c 10:229 rw"]);
}

#[test]
fn zeros_that_mean_not_set_are_gone() {
    let (plan, warnings) = plan(|c| {
        c["linux"]["resources"] = json!({
            "memory": {
                "limit": 0, "swap": 0, "reservation": -1, "kernel": 5, "kernelTCP": 5,
                "swappiness": u64::MAX
            },
            "cpu": {"shares": 0, "quota": -7, "period": 0, "burst": 0},
            "pids": {"limit": -3},
            "blockIO": {"weight": 0, "weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 0}]}
        });
    });
    let resources = plan.cgroup.resources;
    let memory = resources.memory.unwrap();
    assert_eq!(
        (memory.limit, memory.swap, memory.reservation),
        (None, None, Some(-1))
    );
    assert_eq!((memory.kernel, memory.swappiness), (None, None));
    let cpu = resources.cpu.unwrap();
    assert_eq!(
        (cpu.shares, cpu.quota, cpu.period, cpu.burst),
        (None, Some(-1), None, Some(0))
    );
    assert_eq!(resources.pids.unwrap().limit, Some(-1));
    let block = resources.block_io.unwrap();
    assert_eq!(
        (block.weight, block.weight_device[0].leaf_weight),
        (None, None)
    );
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let (plan, _) = common::plan(|c| c["linux"]["resources"] = json!({"pids": {"limit": 0}}));
    assert_eq!(plan.cgroup.resources.pids.unwrap().limit, Some(0));
}

#[test]
fn an_update_may_lack_what_was_set_before_and_gets_no_default_rules() {
    let parse = |text: &str| spec::parse_resources(text.as_bytes()).unwrap();
    let (checked, _) = spec::check_update(&parse(r#"{"memory": {"swap": 100}}"#)).unwrap();
    assert_eq!(checked.memory.unwrap().swap, Some(100));
    assert!(checked.devices.is_empty());
    let e = spec::check_update(&parse(r#"{"cpu": {"idle": 3}}"#)).unwrap_err();
    assert_eq!(e.to_string(), "resources.cpu.idle 3: must be 0 or 1");
}

#[test]
fn hooks_keep_their_order_and_get_a_name() {
    let (plan, _) = plan(|c| {
        c["hooks"] = json!({
            "createRuntime": [{"path": "/b", "timeout": 3}],
            "prestart": [{"path": "/a", "args": ["a", "x"]}],
            "poststop": [{"path": "/c", "env": ["X=1"]}]
        });
    });
    let paths: Vec<_> = plan
        .hooks
        .create_runtime
        .iter()
        .map(|h| h.path.as_str())
        .collect();
    assert_eq!(paths, ["/a", "/b"]);
    assert_eq!(plan.hooks.create_runtime[0].args, ["a", "x"]);
    assert_eq!(plan.hooks.create_runtime[1].args, ["/b"]);
    assert_eq!(plan.hooks.create_runtime[1].timeout, Some(3));
    assert_eq!(plan.hooks.poststop[0].env, ["X=1"]);
}

#[test]
fn namespaces_and_network_devices() {
    let (plan, _) = plan(|c| {
        c["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network", "path": "/run/netns/a"}, {"type": "uts"}]);
        c["linux"]["netDevices"] = json!({"veth1": {"name": "eth%d"}, "veth0": {}});
        c["hostname"] = json!("box");
    });
    let joined = NamespaceMode::Join("/run/netns/a".into());
    assert_eq!(*plan.namespaces.get(NamespaceKind::Network), joined);
    assert_eq!(plan.net_devices["veth0"].name, "veth0");
    assert_eq!(plan.net_devices["veth1"].name, "eth%d");
    assert_eq!(plan.hostname.as_deref(), Some("box"));
    assert_eq!(plan.domainname, None);
}

#[test]
fn a_process_document_by_itself() {
    let parse = |text: &str| spec::parse_process(text.as_bytes()).unwrap();
    let process = parse(r#"{"args": ["id"], "cwd": "/", "user": {"uid": 5}}"#);
    let (plan, _) = ProcessPlan::new(&process, &IdMaps::default()).unwrap();
    assert_eq!(plan.user.uid, 5);
    let one = spec::oci::IdMapping {
        size: 1,
        ..Default::default()
    };
    let maps = IdMaps {
        uids: vec![one],
        gids: vec![one],
    };
    let e = ProcessPlan::new(&process, &maps).unwrap_err();
    assert_eq!(
        e.to_string(),
        "process.user.uid 5: not in linux.uidMappings"
    );
}

#[test]
fn the_owner_of_the_control_group() {
    let owner = |namespace: bool, options: &[&str], user: u32, maps: &Value| {
        plan(|c| {
            let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
            if namespace {
                namespaces.push(json!({"type": "cgroup"}));
            }
            if maps.is_array() {
                namespaces.push(json!({"type": "user"}));
                c["linux"]["uidMappings"] = maps.clone();
                c["linux"]["gidMappings"] = maps.clone();
            }
            c["process"]["user"]["uid"] = json!(user);
            c["mounts"] = json!([
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": options}
            ]);
        })
        .0
        .cgroup_owner()
    };
    let map = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
    assert_eq!(owner(true, &["rw"], 7, &map), Some(5007));
    assert_eq!(owner(true, &[], 7, &Value::Null), Some(7));
    assert_eq!(owner(true, &["ro"], 7, &map), None);
    assert_eq!(owner(true, &["rro"], 7, &map), None);
    assert_eq!(owner(false, &["rw"], 7, &map), None);
    assert_eq!(plan(|_| {}).0.cgroup_owner(), None);
}

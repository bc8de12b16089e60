//! The features document tells the truth: what it lists is taken, what it does not list is not.

mod common;

use common::{config, plan, plan_of};
use serde_json::{Value, json};

#[test]
fn every_listed_word_is_accepted_where_it_belongs() {
    let features = spec::features();
    for option in &features.mount_options {
        let own_map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        plan(|c| {
            let mut mount = json!({
                "destination": "/x", "type": "tmpfs", "source": "/x", "options": [option]
            });
            if option.ends_with("idmap") {
                mount["uidMappings"] = own_map.clone();
                mount["gidMappings"] = own_map;
            }
            if option != "tmpcopyup" {
                mount["options"] = json!(["bind", option]);
            }
            c["mounts"] = json!([mount]);
        });
    }
    for kind in &features.linux.namespaces {
        plan(|c| c["linux"]["namespaces"] = namespaces(kind));
    }
    for name in &features.linux.capabilities {
        let (_, warnings) = plan(|c| c["process"]["capabilities"] = json!({"bounding": [name]}));
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    for mode in &features.linux.memory_policy.modes {
        let nodes = if matches!(mode.as_str(), "MPOL_DEFAULT" | "MPOL_LOCAL") {
            ""
        } else {
            "0"
        };
        plan(|c| c["linux"]["memoryPolicy"] = json!({"mode": mode, "nodes": nodes}));
    }
    for flag in &features.linux.memory_policy.flags {
        let policy = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": [flag]});
        plan(|c| c["linux"]["memoryPolicy"] = policy);
    }
}

#[test]
fn every_seccomp_word_is_accepted() {
    let seccomp = spec::features().linux.seccomp;
    for action in &seccomp.actions {
        let rule = json!({"names": ["uname"], "action": action});
        plan(|c| {
            c["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], "listenerPath": "/run/x"
            });
        });
    }
    for op in &seccomp.operators {
        let rule = json!({
            "names": ["uname"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": op}]
        });
        plan(|c| {
            c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
        });
    }
    plan(|c| {
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": seccomp.archs, "flags": seccomp.known_flags
        });
    });
}

#[test]
fn every_hook_name_is_a_field() {
    for name in spec::features().hooks {
        let mut config = config();
        config["hooks"] = json!({&name: [{"path": "relative"}]});
        let message = plan_of(&config).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("hooks.{name}[0].path")),
            "{message}"
        );
    }
}

#[test]
fn the_specification_table_of_mount_options_is_covered() {
    // config.md, Linux mount options, MUST and SHOULD.
    let wanted = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud \
        noatime nodev nodiratime noexec noiversion nolazytime norelatime nostrictatime nosuid \
        private rbind relatime remount ro rprivate rshared rslave runbindable rw shared silent \
        slave strictatime suid sync unbindable ratime rdev rdiratime rexec rnoatime rnodev \
        rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow rrelatime rro rrw \
        rstrictatime rsuid rsymfollow nosymfollow symfollow idmap ridmap mand nomand tmpcopyup";
    let listed = spec::features().mount_options;
    let missing: Vec<_> = wanted
        .split_whitespace()
        .filter(|word| !listed.iter().any(|l| l == word))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(listed.is_sorted());
}

#[test]
fn the_versions_named_are_accepted() {
    let features = spec::features();
    for version in [features.oci_version_min, features.oci_version_max] {
        let (_, warnings) = plan(|c| c["ociVersion"] = json!(version));
        assert!(warnings.is_empty());
    }
}

/// `kind` besides the mount namespace that every container needs.
fn namespaces(kind: &str) -> Value {
    match kind {
        "mount" => json!([{"type": "mount"}]),
        "user" => json!([{"type": "mount"}, {"type": "user", "path": "/proc/1/ns/user"}]),
        other => json!([{"type": "mount"}, {"type": other}]),
    }
}

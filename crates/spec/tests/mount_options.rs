//! Mount options: which words set which flags, and which of two words wins.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use common::{plan, plan_of};
use serde_json::{Value, json};
use spec::plan::{MountAttrs, MountKind, MountPlan, PropagationKind, SuperblockFlags};

fn bind(words: &str) -> MountPlan {
    let words: Vec<_> = words.split_whitespace().collect();
    let mount = json!({"destination": "/x", "source": "/s", "options": words});
    plan(|c| c["mounts"] = json!([mount])).0.mounts.remove(0)
}

fn tmpfs(words: &str) -> MountPlan {
    let words: Vec<_> = words.split_whitespace().collect();
    let mount = json!({"destination": "/x", "type": "tmpfs", "options": words});
    plan(|c| c["mounts"] = json!([mount])).0.mounts.remove(0)
}

const RDONLY: u64 = MountAttrs::RDONLY;
const NOSUID: u64 = MountAttrs::NOSUID;
const NODEV: u64 = MountAttrs::NODEV;
const NOEXEC: u64 = MountAttrs::NOEXEC;
const ATIME: u64 = MountAttrs::ATIME_MASK;
const NOATIME: u64 = MountAttrs::NOATIME;
const STRICT: u64 = MountAttrs::STRICTATIME;
const NODIR: u64 = MountAttrs::NODIRATIME;
const NOFOLLOW: u64 = MountAttrs::NOSYMFOLLOW;

/// Words, bits set, bits cleared. The recursive table is the same with an `r` before each word.
const ATTRS: &[(&str, u64, u64)] = &[
    ("ro", RDONLY, 0),
    ("rw", 0, RDONLY),
    ("ro rw", 0, RDONLY),
    ("rw ro", RDONLY, 0),
    ("nosuid nodev noexec", NOSUID | NODEV | NOEXEC, 0),
    ("suid dev exec", 0, NOSUID | NODEV | NOEXEC),
    ("nodiratime", NODIR, 0),
    ("diratime", 0, NODIR),
    ("nosymfollow", NOFOLLOW, 0),
    ("symfollow", 0, NOFOLLOW),
    ("noatime", NOATIME, ATIME),
    ("strictatime", STRICT, ATIME),
    ("relatime", 0, ATIME),
    ("noatime strictatime", STRICT, ATIME),
    ("strictatime noatime", NOATIME, ATIME),
    ("relatime norelatime", 0, 0),
    ("norelatime", 0, 0),
    ("noatime norelatime", NOATIME, ATIME),
    ("noatime ro nodiratime", NOATIME | RDONLY | NODIR, ATIME),
];

#[test]
fn attributes_of_a_mount_and_of_a_tree() {
    for &(words, set, clear) in ATTRS {
        let want = MountAttrs { set, clear };
        let plan = bind(&format!("bind {words}"));
        assert_eq!(plan.attrs, want, "{words}");
        assert!(plan.recursive_attrs.is_empty());
        let tree: Vec<_> = words.split(' ').map(|word| format!("r{word}")).collect();
        let plan = bind(&format!("rbind {}", tree.join(" ")));
        assert_eq!(plan.recursive_attrs, want, "{tree:?}");
        assert!(plan.attrs.is_empty());
    }
}

#[test]
fn words_that_take_access_times_back() {
    // As mount(8): alone they change nothing, after their opposite they undo it.
    for words in [
        "atime",
        "nostrictatime",
        "noatime atime",
        "strictatime nostrictatime",
    ] {
        assert!(bind(&format!("bind {words}")).attrs.is_empty(), "{words}");
    }
    // A tree gets the kernel's default back.
    for words in ["ratime", "rnostrictatime", "rnoatime ratime"] {
        let want = MountAttrs {
            set: 0,
            clear: ATIME,
        };
        assert_eq!(
            bind(&format!("bind {words}")).recursive_attrs,
            want,
            "{words}"
        );
    }
}

#[test]
fn a_bind_mount_is_one_by_its_options() {
    for (words, want) in [
        ("bind", false),
        ("rbind", true),
        ("bind rbind", true),
        ("rbind bind", true),
    ] {
        let MountKind::Bind { recursive, .. } = bind(words).kind else {
            unreachable!("{words}");
        };
        assert_eq!(recursive, want, "{words}");
    }
    let mount = json!({"destination": "/x", "type": "cgroup", "source": "/s", "options": ["bind"]});
    let (plan, _) = plan(|c| c["mounts"] = json!([mount]));
    assert!(matches!(plan.mounts[0].kind, MountKind::Bind { .. }));
    assert_eq!(bind("bind ro").superblock, SuperblockFlags::default());
}

#[test]
fn the_rest_is_for_the_file_system() {
    let mount = tmpfs("defaults nosuid size=64k mode=755 ro size=1m rprivate");
    let MountKind::Filesystem {
        fstype,
        source,
        data,
    } = mount.kind
    else {
        unreachable!("not a file system");
    };
    assert_eq!((fstype.as_str(), source.as_str()), ("tmpfs", "tmpfs"));
    assert_eq!(data, ["size=64k", "mode=755", "size=1m"]);
    assert_eq!(
        (mount.attrs.set, mount.superblock.ro),
        (NOSUID | RDONLY, true)
    );
    assert_eq!(mount.propagation.unwrap().kind, PropagationKind::Private);
    for kind in ["cgroup", "cgroup2"] {
        let (plan, _) = plan(|c| c["mounts"] = json!([{"destination": "/x", "type": kind}]));
        assert_eq!(plan.mounts[0].kind, MountKind::Cgroup);
    }
}

#[test]
fn flags_of_the_superblock() {
    let all = tmpfs("sync dirsync lazytime mand iversion silent").superblock;
    let none =
        tmpfs("sync dirsync lazytime mand iversion silent async nolazytime nomand noiversion loud");
    let want = SuperblockFlags {
        ro: false,
        sync: true,
        dirsync: true,
        lazytime: true,
        mand: true,
        iversion: true,
        silent: true,
    };
    assert_eq!(all, want);
    let want = SuperblockFlags {
        dirsync: true,
        ..SuperblockFlags::default()
    };
    assert_eq!(none.superblock, want);
}

#[test]
fn switches() {
    let mount = bind("bind copy-symlink src-nofollow dest-nofollow remount");
    assert!(mount.copy_symlink && mount.src_nofollow && mount.dest_nofollow && mount.remount);
    assert!(tmpfs("tmpcopyup").tmpcopyup);
    let remount = json!({"destination": "/x", "options": ["remount", "bind", "ro"]});
    assert!(plan(|c| c["mounts"] = json!([remount])).0.mounts[0].remount);
}

/// The id map of a bind mount in a container with a user namespace of two ranges.
fn idmap(options: &Value, uids: &Value, gids: &Value) -> Result<String, String> {
    let mut config = common::config();
    config["linux"] = json!({
        "namespaces": [{"type": "mount"}, {"type": "user"}],
        "uidMappings": [
            {"containerID": 0, "hostID": 0, "size": 1}, {"containerID": 1, "hostID": 2, "size": 1000}
        ],
        "gidMappings": [{"containerID": 0, "hostID": 500, "size": 50}]
    });
    config["mounts"] = json!([{
        "destination": "/x", "source": "/s", "options": options, "uidMappings": uids, "gidMappings": gids
    }]);
    let (plan, _) = plan_of(&config).map_err(|e| e.to_string())?;
    let Some(idmap) = &plan.mounts[0].idmap else {
        return Ok("none".to_owned());
    };
    let line = |m: &spec::oci::IdMapping| format!("{}-{}-{}", m.container_id, m.host_id, m.size);
    let list = |list: &[_]| list.iter().map(line).collect::<Vec<_>>().join("#");
    let maps = idmap.maps.as_ref().map_or_else(
        || "own".to_owned(),
        |maps| format!("{};{}", list(&maps.uids), list(&maps.gids)),
    );
    let letter = if idmap.recursive { "r" } else { "" };
    Ok(format!("{letter}{maps}"))
}

#[test]
fn id_maps_come_from_the_fields_the_option_or_the_container() {
    let none = Value::Null;
    let map = json!([{"containerID": 7, "hostID": 8, "size": 9}]);
    for (options, uids, gids, want) in [
        (json!(["bind"]), &none, &none, "none"),
        (json!(["bind", "idmap"]), &none, &none, "own"),
        (json!(["rbind", "ridmap"]), &none, &none, "rown"),
        (json!(["bind"]), &map, &map, "7-8-9;7-8-9"),
        (json!(["rbind", "ridmap"]), &map, &map, "r7-8-9;7-8-9"),
        (
            json!(["bind", "idmap=uids=0-1-10#10-11-10;gids=0-100-10"]),
            &none,
            &none,
            "0-1-10#10-11-10;0-100-10",
        ),
        // crun's manual: container 1 is host 2, so 3 is 4.
        (
            json!(["bind", "ridmap=uids=@1-3-10;gids=@0-0-50"]),
            &none,
            &none,
            "r1-4-10;0-500-50",
        ),
    ] {
        assert_eq!(
            idmap(&options, uids, gids).as_deref(),
            Ok(want),
            "{options}"
        );
    }
    for (word, want) in [
        (
            "idmap=uids=@0-0-2;gids=0-0-1",
            "mounts[0].options[1] \"@0-0-2\": not within one line",
        ),
        (
            "idmap=uids=@0-1001-2;gids=0-0-1",
            "mounts[0].options[1] \"@0-1001-2\": not within",
        ),
        (
            "idmap=uids=@0-4294967295-2;gids=0-0-1",
            "mounts[0].options[1] \"@0-4294967295-2\": not within",
        ),
        (
            "idmap=uids=0-0-1",
            "mounts[0].gidMappings: required with uidMappings",
        ),
        (
            "idmap=uids=1-2-3-4;gids=0-0-1",
            "mounts[0].options[1] \"1-2-3-4\": not of the form",
        ),
    ] {
        let got = idmap(&json!(["bind", word]), &none, &none).unwrap_err();
        assert!(got.starts_with(want), "{got}");
    }
    let twice = idmap(&json!(["bind", "idmap=uids=0-0-1;gids=0-0-1"]), &map, &map);
    assert!(
        twice
            .unwrap_err()
            .contains("a map in the options and in uidMappings")
    );
}

//! `mounts[].options` that need mount_setattr(2): the recursive ones, and id maps.

use std::os::unix::fs::{MetadataExt, chown};

use runtime_suite::mountinfo::Mount;
use runtime_suite::prelude::*;
use rustix::mount::MountPropagationFlags;

/// What is recursive, and id maps, cannot be had without.
fn needs_mount_setattr(t: &Case) {
    t.needs(
        !ground().lacks("mount_setattr"),
        "mount_setattr(2) (Linux 5.12)",
    );
}

/// Binds a tree of two mounts recursively, with these options: the upper and the lower mount.
fn tree(t: &Case, options: &[&str]) -> (Mount, Mount) {
    needs_mount_setattr(t);
    let source = t.tmpfs("source", MountPropagationFlags::PRIVATE);
    std::fs::create_dir_all(source.join("sub")).expect("mkdir");
    let _sub = t.tmpfs("source/sub", MountPropagationFlags::PRIVATE);
    let mut all = vec!["rbind"];
    all.extend(options);
    let from = source.to_str().expect("UTF-8").to_owned();
    let r = t.report(|c| mount(c, "none", &from, "/mnt", &all));
    (r.mount("/mnt"), r.mount("/mnt/sub"))
}

/// The option reaches both mounts with its recursive form, the upper one with the plain form.
fn reaches(t: &Case, recursive: &str, shown: &str) {
    let (upper, lower) = tree(t, &[recursive]);
    assert!(
        upper.has(shown) && lower.has(shown),
        "{recursive}: {upper:?} {lower:?}"
    );
    let plain = &recursive[1..];
    let (upper, lower) = tree(t, &[plain]);
    assert!(
        upper.has(shown) && !lower.has(shown),
        "{plain}: {upper:?} {lower:?}"
    );
}

#[test]
fn rro() {
    case(|t| reaches(t, "rro", "ro"));
}

#[test]
fn rnosuid() {
    case(|t| reaches(t, "rnosuid", "nosuid"));
}

#[test]
fn rnodev() {
    case(|t| reaches(t, "rnodev", "nodev"));
}

#[test]
fn rnoexec() {
    case(|t| reaches(t, "rnoexec", "noexec"));
}

#[test]
fn rnoatime() {
    case(|t| reaches(t, "rnoatime", "noatime"));
}

#[test]
fn rnodiratime() {
    case(|t| reaches(t, "rnodiratime", "nodiratime"));
}

#[test]
fn rnosymfollow() {
    case(|t| reaches(t, "rnosymfollow", "nosymfollow"));
}

#[test]
fn rstrictatime_and_rrelatime() {
    case(|t| {
        let (upper, lower) = tree(t, &["rstrictatime"]);
        assert!(
            !upper.has("relatime") && !lower.has("relatime"),
            "{upper:?} {lower:?}"
        );
        let (upper, lower) = tree(t, &["rrelatime"]);
        assert!(
            upper.has("relatime") && lower.has("relatime"),
            "{upper:?} {lower:?}"
        );
    });
}

#[test]
fn the_clearing_words_are_understood() {
    case(|t| {
        let words = [
            "rrw",
            "rsuid",
            "rdev",
            "rexec",
            "rdiratime",
            "rsymfollow",
            "ratime",
            "rnostrictatime",
            "rnorelatime",
        ];
        for word in words {
            let (upper, lower) = tree(t, &[word]);
            for option in [
                "ro",
                "nosuid",
                "nodev",
                "noexec",
                "nodiratime",
                "nosymfollow",
            ] {
                assert!(
                    !upper.has(option) && !lower.has(option),
                    "{word}: {upper:?} {lower:?}"
                );
            }
        }
    });
}

#[test]
fn a_later_recursive_word_wins() {
    case(|t| {
        let (upper, lower) = tree(t, &["rro", "rrw"]);
        assert!(!upper.has("ro") && !lower.has("ro"), "{upper:?} {lower:?}");
    });
}

#[test]
fn a_recursively_read_only_tree_cannot_be_written() {
    case(|t| {
        needs_mount_setattr(t);
        let source = t.tmpfs("source", MountPropagationFlags::PRIVATE);
        std::fs::create_dir(source.join("sub")).expect("mkdir");
        let sub = t.tmpfs("source/sub", MountPropagationFlags::PRIVATE);
        let from = source.to_str().expect("UTF-8");
        let out = t.run(|c| {
            mount(c, "none", from, "/mnt", &["rbind", "rro"]);
            script(c, "touch /mnt/a; touch /mnt/sub/b; true");
        });
        assert_eq!(out.stderr.matches("Read-only").count(), 2, "{out}");
        std::fs::write(sub.join("outside"), "").expect("writable outside");
    });
}

fn id_map(c: &mut Value, host: u32) {
    let map = json!([{"containerID": 0, "hostID": host, "size": 1000}]);
    let last = c["mounts"].as_array_mut().and_then(|m| m.last_mut());
    let last = last.expect("a mount");
    last["uidMappings"] = map.clone();
    last["gidMappings"] = map;
}

/// A volume on tmpfs with one file of user 5.
fn volume(t: &Case) -> PathBuf {
    needs_mount_setattr(t);
    t.needs(
        host::kernel_is(6, 3),
        "id-mapped mounts of tmpfs (Linux 6.3)",
    );
    let source = t.tmpfs("source", MountPropagationFlags::PRIVATE);
    let everyone = rustix::fs::Mode::from_raw_mode(0o777);
    rustix::fs::chmod(&source, everyone).expect("chmod");
    std::fs::write(source.join("file"), "").expect("write");
    chown(source.join("file"), Some(5), Some(6)).expect("chown");
    source
}

#[test]
fn an_id_mapped_mount_shifts_owners() {
    case(|t| {
        let source = volume(t);
        let out = t.sh("stat -c %u:%g /mnt/file; touch /mnt/made || true", |c| {
            bind(c, &source, "/mnt", &["idmap"]);
            id_map(c, 10_000);
        });
        assert_eq!(out, "10005:10006");
        let made = std::fs::metadata(source.join("made"));
        // Inside, root is no id of the map's right side: it cannot own files there.
        assert!(made.is_err() || made.is_ok_and(|m| m.uid() != 0));
    });
}

#[test]
fn an_id_mapped_mount_without_maps_takes_those_of_the_user_namespace() {
    case(|t| {
        let source = volume(t);
        let out = t.sh("stat -c %u:%g /mnt/file; touch /mnt/made", |c| {
            user_ns(c, 200_000, 65536);
            bind(c, &source, "/mnt", &["idmap"]);
        });
        assert_eq!(out, "5:6", "as on the host");
        assert_eq!(
            std::fs::metadata(source.join("made")).expect("stat").uid(),
            0
        );
    });
}

#[test]
fn ridmap_reaches_the_mounts_below() {
    case(|t| {
        let source = volume(t);
        std::fs::create_dir(source.join("sub")).expect("mkdir");
        let sub = t.tmpfs("source/sub", MountPropagationFlags::PRIVATE);
        std::fs::write(sub.join("file"), "").expect("write");
        let from = source.to_str().expect("UTF-8").to_owned();
        let out = t.sh("stat -c %u /mnt/file /mnt/sub/file", |c| {
            mount(c, "none", &from, "/mnt", &["rbind", "ridmap"]);
            id_map(c, 10_000);
        });
        assert_eq!(out, "10005\n10000");
        let out = t.sh("stat -c %u /mnt/file /mnt/sub/file", |c| {
            mount(c, "none", &from, "/mnt", &["rbind", "idmap"]);
            id_map(c, 10_000);
        });
        assert_eq!(out, "10005\n0");
    });
}

#[test]
fn an_id_map_without_a_user_namespace_and_maps_is_refused() {
    case(|t| {
        let source = volume(t);
        let _ = t.create(|c| bind(c, &source, "/mnt", &["idmap"])).refused();
    });
}

#[test]
fn one_kind_of_map_alone_is_refused() {
    case(|t| {
        let source = volume(t);
        let _ = t
            .create(|c| {
                bind(c, &source, "/mnt", &["idmap"]);
                id_map(c, 10_000);
                let mounts = c["mounts"].as_array_mut().expect("mounts");
                let last = mounts.last_mut().and_then(Value::as_object_mut);
                last.expect("a mount").remove("gidMappings");
            })
            .refused();
    });
}

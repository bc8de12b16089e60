//! Mount propagation: of single mounts, and `linux.rootfsPropagation`, with mounts that travel.

use runtime_suite::mountinfo;
use runtime_suite::prelude::*;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

/// Mounts a tmpfs with a file named `seen` on a directory, until the case ends.
fn mount_seen(t: &Case, dir: &Path) {
    rustix::mount::mount("late", dir, "tmpfs", MountFlags::empty(), None).expect("mount");
    std::fs::write(dir.join("seen"), "").expect("write");
    let dir = dir.to_owned();
    t.at_end(move || {
        // The test may have unmounted it.
        let _ = rustix::mount::unmount(&dir, UnmountFlags::DETACH);
    });
}

/// A shared volume with a directory to mount on, bound to /mnt with these options in a running
/// container.
fn shared_volume(t: &Case, options: &[&str]) -> PathBuf {
    let source = t.tmpfs("source", MountPropagationFlags::SHARED);
    std::fs::create_dir(source.join("late")).expect("mkdir");
    std::fs::create_dir(source.join("inner")).expect("mkdir");
    t.up(|c| {
        all_devices(c);
        caps(c, &["CAP_SYS_ADMIN"]);
        let mut all = vec!["rbind"];
        all.extend(options);
        mount(c, "none", source.to_str().expect("UTF-8"), "/mnt", &all);
    });
    source
}

fn comes_in(t: &Case, source: &Path) -> bool {
    mount_seen(t, &source.join("late"));
    let out = t.exec(&[], &["/bin/ls", "/mnt/late"]).ok();
    out.text() == "seen"
}

fn goes_out(t: &Case, source: &Path) -> bool {
    let inner = ["/bin/mount", "-t", "tmpfs", "inner", "/mnt/inner"];
    let _ = t.exec(&[], &inner).ok();
    let point = source.join("inner");
    let out = mountinfo::own().iter().any(|m| m.point == point);
    let _ = t.exec(&[], &["/bin/umount", "/mnt/inner"]).ok();
    out
}

#[test]
fn private_keeps_mounts_apart() {
    case(|t| {
        let source = shared_volume(t, &["private"]);
        assert!(!comes_in(t, &source), "a mount of the host came in");
        assert!(!goes_out(t, &source), "a mount of the container went out");
    });
}

#[test]
fn rprivate_keeps_mounts_apart() {
    case(|t| {
        let source = shared_volume(t, &["rprivate"]);
        assert!(!comes_in(t, &source) && !goes_out(t, &source));
    });
}

#[test]
fn rslave_lets_mounts_in_but_not_out() {
    case(|t| {
        let source = shared_volume(t, &["rslave"]);
        assert!(comes_in(t, &source), "a mount of the host did not come in");
        assert!(!goes_out(t, &source), "a mount of the container went out");
    });
}

#[test]
fn slave_lets_mounts_in_but_not_out() {
    case(|t| {
        let source = shared_volume(t, &["slave"]);
        assert!(comes_in(t, &source) && !goes_out(t, &source));
    });
}

#[test]
fn rshared_lets_mounts_in_and_out() {
    case(|t| {
        // On a root that is not shared, the runtime must not cut the volume off first.
        let source = t.tmpfs("source", MountPropagationFlags::SHARED);
        std::fs::create_dir(source.join("late")).expect("mkdir");
        std::fs::create_dir(source.join("inner")).expect("mkdir");
        t.up(|c| {
            caps(c, &["CAP_SYS_ADMIN"]);
            c["linux"]["rootfsPropagation"] = json!("shared");
            let from = source.to_str().expect("UTF-8");
            mount(c, "none", from, "/mnt", &["rbind", "rshared"]);
        });
        assert!(comes_in(t, &source), "a mount of the host did not come in");
        assert!(
            goes_out(t, &source),
            "a mount of the container did not go out"
        );
    });
}

#[test]
fn unbindable_is_set() {
    case(|t| {
        let source = t.new_dir("source");
        for word in ["unbindable", "runbindable"] {
            let r = t.report(|c| bind(c, &source, "/mnt", &[word]));
            assert!(r.mount("/mnt").propagates("unbindable"), "{word}");
        }
    });
}

#[test]
fn a_new_mount_takes_its_propagation() {
    case(|t| {
        let r = t.report(|c| mount(c, "tmpfs", "tmpfs", "/mnt", &["shared"]));
        assert!(r.mount("/mnt").propagates("shared:"));
        let r = t.report(|c| mount(c, "tmpfs", "tmpfs", "/mnt", &["shared", "private"]));
        assert!(r.mount("/mnt").propagation.is_empty());
    });
}

#[test]
fn recursive_propagation_reaches_the_mounts_below() {
    case(|t| {
        let source = t.tmpfs("source", MountPropagationFlags::PRIVATE);
        std::fs::create_dir(source.join("sub")).expect("mkdir");
        let _sub = t.tmpfs("source/sub", MountPropagationFlags::PRIVATE);
        let from = source.to_str().expect("UTF-8");
        let r = t.report(|c| mount(c, "none", from, "/mnt", &["rbind", "rshared"]));
        assert!(r.mount("/mnt").propagates("shared:"));
        assert!(r.mount("/mnt/sub").propagates("shared:"));
        let r = t.report(|c| mount(c, "none", from, "/mnt", &["rbind", "shared"]));
        assert!(r.mount("/mnt").propagates("shared:"));
        assert!(!r.mount("/mnt/sub").propagates("shared:"));
    });
}

/// Bundles of this container lie on a shared mount.
fn on_a_shared_mount(t: &Case) -> Container {
    let _ = t.tmpfs("volume", MountPropagationFlags::SHARED);
    t.container_in("volume/a")
}

#[test]
fn a_root_is_not_shared_by_default() {
    case(|t| {
        let a = on_a_shared_mount(t);
        a.up(|_| {});
        let info = std::fs::read_to_string(format!("/proc/{}/mountinfo", a.pid())).expect("read");
        let mounts = mountinfo::parse(&info);
        let root = mountinfo::at(&mounts, "/").expect("a root");
        assert!(!root.propagates("shared:"), "{root:?}");
        // Nor do mounts of the container appear outside.
        let points = mountinfo::own().into_iter().map(|m| m.point);
        assert!(!points.into_iter().any(|p| p.starts_with(a.bundle())));
    });
}

#[test]
fn a_slave_root_lets_mounts_in() {
    case(|t| {
        let a = on_a_shared_mount(t);
        a.up(|c| c["linux"]["rootfsPropagation"] = json!("slave"));
        mount_seen(t, &a.rootfs().join("data"));
        assert_eq!(a.exec(&[], &["/bin/ls", "/data"]).ok().text(), "seen");
    });
}

#[test]
fn a_recursive_slave_root_lets_mounts_in() {
    case(|t| {
        let a = on_a_shared_mount(t);
        a.up(|c| c["linux"]["rootfsPropagation"] = json!("rslave"));
        mount_seen(t, &a.rootfs().join("data"));
        assert_eq!(a.exec(&[], &["/bin/ls", "/data"]).ok().text(), "seen");
    });
}

#[test]
fn a_private_root_keeps_mounts_out() {
    case(|t| {
        let a = on_a_shared_mount(t);
        a.up(|c| c["linux"]["rootfsPropagation"] = json!("private"));
        mount_seen(t, &a.rootfs().join("data"));
        assert_eq!(a.exec(&[], &["/bin/ls", "/data"]).ok().text(), "");
    });
}

#[test]
fn a_shared_root_has_a_peer_group() {
    case(|t| {
        let r = t.report(|c| c["linux"]["rootfsPropagation"] = json!("shared"));
        assert!(r.mount("/").propagates("shared:"), "{:?}", r.mount("/"));
    });
}

#[test]
fn an_unbindable_root() {
    case(|t| {
        let r = t.report(|c| c["linux"]["rootfsPropagation"] = json!("unbindable"));
        assert!(r.mount("/").propagates("unbindable"), "{:?}", r.mount("/"));
    });
}

#[test]
fn an_unknown_propagation_is_refused() {
    case(|t| {
        let _ = t
            .create(|c| c["linux"]["rootfsPropagation"] = json!("sideways"))
            .refused();
    });
}

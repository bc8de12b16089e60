//! Ways out by what the host shows: control groups, the root, /proc and /sys
//! (CVE-2022-0492, CVE-2023-25809, GHSA-7ww5-4wqc-m92c).

use std::process::Command;

use runtime_suite::prelude::*;

#[test]
fn the_release_agent_cannot_be_set() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        let text = "for f in $(find /sys/fs/cgroup -name release_agent); do echo x >$f && echo WROTE; done; \
            mkdir -p /tmp/cg && mount -t cgroup -o memory cg /tmp/cg && echo MOUNTED; true";
        let out = t.run(|c| script(c, text));
        assert!(
            !out.stdout.contains("WROTE") && !out.stdout.contains("MOUNTED"),
            "{out}"
        );
        // Nor with a user namespace in which it is root with all rights.
        let out = t.run(|c| {
            user_ns(c, 200_000, 65536);
            ns(c, "cgroup");
            caps(c, &["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
            let text = text.replace("/tmp/cg", "/data/cg");
            script(c, &format!("{text}; cat /data/cg/release_agent && echo x >/data/cg/release_agent && echo WROTE; true"));
        });
        assert!(!out.stdout.contains("WROTE"), "{out}");
    });
}

#[test]
fn groups_cannot_be_written() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        let text = "for f in $(find /sys/fs/cgroup -name cgroup.procs); do echo 0 2>/dev/null >$f && echo WROTE $f; done; true";
        let out = t.run(|c| {
            caps(c, &["CAP_DAC_OVERRIDE", "CAP_SYS_RESOURCE"]);
            script(c, text);
        });
        assert!(!out.stdout.contains("WROTE"), "{out}");
    });
}

#[test]
fn the_root_cannot_be_climbed_out_of() {
    case(|t| {
        let mark = t.dir().join("state");
        let mark = mark.to_str().expect("UTF-8");
        for flags in [&[][..], &["--no-pivot"]] {
            t.write(|c| {
                caps(c, &["CAP_SYS_CHROOT"]);
                args(c, &["/bin/probe", "escape", mark]);
            });
            let out = t.with_bundle("run", flags).run().ok();
            assert_eq!(out.text(), "inside", "{flags:?}");
        }
    });
}

/// Control: out of a plain chroot(2) the same program climbs.
#[test]
fn control_a_chroot_can_be_climbed_out_of() {
    case(|t| {
        t.needs_root("chroot(2)");
        let mark = t.dir().join("state");
        let out = Command::new("chroot")
            .arg(t.rootfs())
            .args(["/bin/probe", "escape"])
            .arg(&mark)
            .output()
            .expect("run chroot");
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "escaped");
    });
}

#[test]
fn processes_of_the_host_are_not_seen() {
    case(|t| {
        let out = t.sh("ls -d /proc/[0-9]* | wc -l", |_| {});
        let count: u32 = out.parse().expect("a number");
        assert!(count <= 3, "{count} processes");
    });
}

#[test]
fn no_mount_of_the_host_is_left_below() {
    case(|t| {
        // pivot_root(2) leaves the old root mounted until it is detached.
        let r = t.report(|c| ns(c, "cgroup"));
        let host: Vec<_> = runtime_suite::mountinfo::own();
        for m in r.mounts() {
            let of_host = host.iter().any(|h| {
                h.device == m.device && h.root == m.root && h.kind == m.kind && h.kind == "ext4"
            });
            assert!(!of_host, "{m:?}");
        }
        let top = r
            .mounts()
            .into_iter()
            .filter(|m| m.point == Path::new("/"))
            .count();
        assert_eq!(top, 1);
    });
}

#[test]
fn powercap_is_masked_by_default() {
    case(|t| {
        // GHSA-7ww5-4wqc-m92c: energy counters tell of the neighbours' computations.
        let dir = t.new_dir("bundle");
        let _ = t.runtime(&["spec"]).dir(&dir).run().ok();
        let text = std::fs::read_to_string(dir.join("config.json")).expect("read");
        assert!(text.contains("/sys/devices/virtual/powercap"), "{text}");
    });
}

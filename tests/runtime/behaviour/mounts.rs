//! `mounts[]`: order, places, sources, and the options of mount(8).

use std::os::unix::fs::symlink;

use runtime_suite::prelude::*;

/// One tmpfs mounted with these options: its own and its file system's.
fn tmpfs_with(t: &Case, options: &[&str]) -> runtime_suite::mountinfo::Mount {
    let r = t.report(|c| mount(c, "tmpfs", "tmpfs", "/mnt/x", options));
    r.mount("/mnt/x")
}

/// A bind mount of a directory with these options.
fn bind_with(t: &Case, options: &[&str]) -> runtime_suite::mountinfo::Mount {
    let source = t.new_dir("source");
    let r = t.report(|c| bind(c, &source, "/mnt/x", options));
    r.mount("/mnt/x")
}

#[test]
fn options_of_a_mount_that_are_set() {
    case(|t| {
        for option in ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"] {
            let m = tmpfs_with(t, &[option]);
            assert!(m.has(option), "{option}: {m:?}");
        }
    });
}

#[test]
fn options_of_a_bind_that_are_set() {
    case(|t| {
        t.needs_root("times of access of a mount of the host");
        for option in ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"] {
            let m = bind_with(t, &[option]);
            assert!(m.has(option), "{option}: {m:?}");
        }
    });
}

#[test]
fn options_of_a_mount_that_are_cleared_by_a_later_one() {
    case(|t| {
        let pairs = [
            ("ro", "rw"),
            ("nosuid", "suid"),
            ("nodev", "dev"),
            ("noexec", "exec"),
            ("noatime", "atime"),
            ("nodiratime", "diratime"),
        ];
        for (set, clear) in pairs {
            let m = tmpfs_with(t, &[set, clear]);
            assert!(!m.has(set), "{set},{clear}: {m:?}");
        }
    });
}

#[test]
fn words_without_effect_are_understood() {
    case(|t| {
        let words = [
            "defaults",
            "rw",
            "async",
            "suid",
            "dev",
            "exec",
            "atime",
            "diratime",
            "norelatime",
            "nostrictatime",
            "loud",
        ];
        let m = tmpfs_with(t, &words);
        assert!(
            m.has("rw") && !m.has("nosuid") && !m.has("nodev") && !m.has("noexec"),
            "{m:?}"
        );
    });
}

#[test]
fn relatime_and_strictatime() {
    case(|t| {
        assert!(tmpfs_with(t, &["relatime"]).has("relatime"));
        let strict = tmpfs_with(t, &["strictatime"]);
        assert!(
            !strict.has("relatime") && !strict.has("noatime"),
            "{strict:?}"
        );
    });
}

#[test]
fn options_of_the_file_system() {
    case(|t| {
        assert!(tmpfs_with(t, &["sync"]).super_has("sync"));
        assert!(tmpfs_with(t, &["dirsync"]).super_has("dirsync"));
        let silent = tmpfs_with(t, &["silent", "lazytime"]);
        assert!(
            silent.has("lazytime") || silent.super_has("lazytime"),
            "{silent:?}"
        );
        let _ = tmpfs_with(t, &["nolazytime", "noiversion"]);
        // Not every kernel shows this one; it must be taken.
        let _ = tmpfs_with(t, &["iversion"]);
    });
}

#[test]
fn unknown_options_go_to_the_file_system() {
    case(|t| {
        let m = tmpfs_with(
            t,
            &["nosuid", "size=4096k", "mode=1770", "nr_inodes=77", "uid=5"],
        );
        let owner = format!("uid={}", host::outside(5));
        for option in ["size=4096k", "mode=1770", "nr_inodes=77", &owner] {
            assert!(m.super_has(option), "{option}: {m:?}");
        }
        assert!(m.has("nosuid"));
    });
}

#[test]
fn an_option_that_nobody_knows_is_refused() {
    case(|t| {
        let out = t.run(|c| mount(c, "tmpfs", "tmpfs", "/mnt/x", &["frobnicate=7"]));
        let message = out.refused();
        assert!(message.contains("mnt/x"), "{message}");
    });
}

#[test]
fn nosymfollow() {
    case(|t| {
        let source = t.new_dir("source");
        symlink("target", source.join("link")).expect("symlink");
        std::fs::write(source.join("target"), "text").expect("write");
        let out = t.sh("cat /mnt/x/link || echo blocked; cat /mnt/y/link", |c| {
            bind(c, &source, "/mnt/x", &["nosymfollow"]);
            bind(c, &source, "/mnt/y", &["nosymfollow", "symfollow"]);
        });
        assert_eq!(out, "blocked\ntext");
    });
}

#[test]
fn mounts_are_made_in_order() {
    case(|t| {
        let (one, two) = (t.new_dir("one"), t.new_dir("two"));
        std::fs::write(one.join("name"), "one").expect("write");
        std::fs::write(two.join("name"), "two").expect("write");
        let out = t.sh("cat /mnt/name /mnt/sub/name; ls /mnt", |c| {
            bind(c, &two, "/mnt", &[]);
            bind(c, &one, "/mnt", &[]);
            bind(c, &two, "/mnt/sub", &[]);
        });
        assert_eq!(out, "onetwoname\nsub");
        assert!(
            one.join("sub").is_dir(),
            "the mount point lies in the first volume"
        );
    });
}

#[test]
fn missing_mount_points_are_made() {
    case(|t| {
        let file = t.new_file("file", "content");
        let out = t.sh("cat /a/b/c/file; stat -c %F /a/b/dir", |c| {
            bind(c, &file, "/a/b/c/file", &[]);
            mount(c, "tmpfs", "tmpfs", "/a/b/dir", &[]);
        });
        assert_eq!(out, "contentdirectory");
        assert!(t.rootfs().join("a/b/c/file").is_file());
    });
}

#[test]
fn a_file_is_bound_on_a_file() {
    case(|t| {
        let file = t.new_file("passwd", "hidden:x:0:0::/:/bin/sh\n");
        let out = t.sh("cat /etc/passwd", |c| {
            bind(c, &file, "/etc/passwd", &["ro"])
        });
        assert!(out.starts_with("hidden"), "{out}");
        let inside = std::fs::read_to_string(t.rootfs().join("etc/passwd")).expect("read");
        assert!(inside.starts_with("root"), "the file below is untouched");
    });
}

#[test]
fn a_relative_source_is_in_the_bundle() {
    case(|t| {
        t.write(|_| {});
        std::fs::create_dir(t.bundle().join("volume")).expect("mkdir");
        std::fs::write(t.bundle().join("volume/name"), "here").expect("write");
        let out = t.sh("cat /mnt/x/name", |c| bind(c, "volume", "/mnt/x", &[]));
        assert_eq!(out, "here");
    });
}

#[test]
fn a_relative_destination_is_below_the_root() {
    case(|t| {
        let r = t.report(|c| mount(c, "tmpfs", "tmpfs", "mnt/x", &[]));
        assert_eq!(r.mount("/mnt/x").kind, "tmpfs");
    });
}

#[test]
fn a_bind_is_one_by_its_options_not_its_type() {
    case(|t| {
        let source = t.new_dir("source");
        std::fs::write(source.join("name"), "bound").expect("write");
        let from = source.to_str().expect("UTF-8");
        let out = t.sh("cat /mnt/x/name /mnt/y/name", |c| {
            mount(c, "tmpfs", from, "/mnt/x", &["bind"]);
            mount(c, "", from, "/mnt/y", &["rbind"]);
        });
        assert_eq!(out, "boundbound");
    });
}

#[test]
fn a_bind_takes_one_mount_and_an_rbind_all() {
    case(|t| {
        let source = t.tmpfs("source", rustix::mount::MountPropagationFlags::PRIVATE);
        std::fs::create_dir(source.join("sub")).expect("mkdir");
        let sub = t.tmpfs("source/sub", rustix::mount::MountPropagationFlags::PRIVATE);
        std::fs::write(sub.join("deep"), "").expect("write");
        let out = t.sh("ls /mnt/one/sub; echo --; ls /mnt/all/sub", |c| {
            bind(c, &source, "/mnt/one", &[]);
            mount(
                c,
                "none",
                source.to_str().expect("UTF-8"),
                "/mnt/all",
                &["rbind"],
            );
        });
        assert_eq!(out, "--\ndeep");
    });
}

#[test]
fn a_read_only_bind_cannot_be_written() {
    case(|t| {
        let source = t.new_dir("source");
        let out = t.run(|c| {
            bind(c, &source, "/mnt/x", &["ro"]);
            script(c, "touch /mnt/x/file");
        });
        assert!(out.code() != 0 && out.stderr.contains("Read-only"), "{out}");
        assert!(!source.join("file").exists());
        // The mount is read-only, not the file system below it.
        std::fs::write(source.join("file"), "").expect("still writable outside");
    });
}

#[test]
fn a_bind_in_a_user_namespace_keeps_locked_options() {
    case(|t| {
        let source = t.tmpfs("source", rustix::mount::MountPropagationFlags::PRIVATE);
        let flags = rustix::mount::MountFlags::NODEV | rustix::mount::MountFlags::NOEXEC;
        rustix::mount::mount_remount(&source, flags, c"").expect("remount");
        let r = t.report(|c| {
            user_ns(c, 200_000, 65536);
            bind(c, &source, "/mnt", &["ro"]);
        });
        let m = r.mount("/mnt");
        assert!(m.has("ro") && m.has("nodev") && m.has("noexec"), "{m:?}");
    });
}

#[test]
fn remount_changes_an_earlier_mount() {
    case(|t| {
        let r = t.report(|c| {
            mount(c, "tmpfs", "tmpfs", "/mnt/x", &["rw"]);
            mount(c, "tmpfs", "tmpfs", "/mnt/x", &["remount", "ro", "nosuid"]);
        });
        let count = r
            .mounts()
            .iter()
            .filter(|m| m.point == Path::new("/mnt/x"))
            .count();
        assert_eq!(count, 1);
        let m = r.mount("/mnt/x");
        assert!(
            (m.has("ro") || m.super_has("ro")) && m.has("nosuid"),
            "{m:?}"
        );
    });
}

#[test]
fn a_missing_source_is_refused() {
    case(|t| {
        let out = t.create(|c| bind(c, "/nonexistent/source", "/mnt/x", &[]));
        let message = out.refused().to_lowercase();
        assert!(message.contains("no such file or directory"), "{message}");
        assert!(message.contains("/nonexistent/source"), "{message}");
    });
}

#[test]
fn an_unknown_file_system_is_refused() {
    case(|t| {
        let message = t.create(|c| mount(c, "nofs", "x", "/mnt/x", &[])).refused();
        assert!(
            message.contains("nofs") || message.contains("mnt/x"),
            "{message}"
        );
    });
}

#[test]
fn a_directory_on_a_file_is_refused() {
    case(|t| {
        let source = t.new_dir("source");
        let _ = t.create(|c| bind(c, &source, "/etc/passwd", &[])).refused();
    });
}

#[test]
fn tmpcopyup_takes_what_was_there() {
    case(|t| {
        let data = t.rootfs().join("data");
        std::fs::create_dir_all(data.join("deep/er")).expect("mkdir");
        std::fs::write(data.join("deep/er/file"), "kept").expect("write");
        symlink("deep/er/file", data.join("link")).expect("symlink");
        let mode = rustix::fs::Mode::from_raw_mode(0o640);
        rustix::fs::chmod(data.join("deep/er/file"), mode).expect("chmod");
        let out = t.sh(
            "cat /data/link; stat -c %a /data/deep/er/file; echo new >/data/new",
            |c| {
                mount(c, "tmpfs", "tmpfs", "/data", &["tmpcopyup"]);
            },
        );
        assert_eq!(out, "kept640");
        assert!(!data.join("new").exists(), "writes go to the tmpfs");
    });
}

#[test]
fn an_overlay_is_mounted() {
    case(|t| {
        let dirs = ["lower", "upper", "work"].map(|d| t.new_dir(d));
        std::fs::write(dirs[0].join("below"), "below").expect("write");
        let options: Vec<String> = ["lowerdir", "upperdir", "workdir"]
            .iter()
            .zip(&dirs)
            .map(|(key, dir)| format!("{key}={}", dir.display()))
            .collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let out = t.sh("cat /mnt/below; echo new >/mnt/new", |c| {
            mount(c, "overlay", "overlay", "/mnt", &options);
        });
        assert_eq!(out, "below");
        assert!(dirs[1].join("new").exists());
        // The kernel leaves its own directory there, without read permission for others.
        let _ = std::fs::remove_dir_all(&dirs[2]);
    });
}

#[test]
fn the_container_sees_no_mounts_of_the_host() {
    case(|t| {
        let r = t.report(|_| {});
        let dir = t.dir().to_str().expect("UTF-8");
        for m in r.mounts() {
            let point = m.point.to_str().expect("UTF-8");
            assert!(!point.starts_with(dir), "{m:?}");
            let own = ["/", "/proc", "/dev", "/sys"];
            let known = own
                .iter()
                .any(|p| point == *p || point.starts_with(&format!("{p}/")));
            assert!(known, "{m:?}");
        }
        assert_eq!(
            r.mounts()
                .iter()
                .filter(|m| m.point == Path::new("/"))
                .count(),
            1
        );
    });
}

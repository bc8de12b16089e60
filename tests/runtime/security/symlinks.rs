//! Images whose mount points are symbolic links to the host (CVE-2019-19921, CVE-2023-27561,
//! CVE-2023-28642, CVE-2026-41579, CVE-2026-47766 and their kin).

use std::os::unix::fs::symlink;

use runtime_suite::mountinfo;
use runtime_suite::prelude::*;

/// A directory of the host that must stay as it is, outside of every bundle.
fn victim(t: &Case) -> PathBuf {
    let dir = t.new_dir("victim");
    std::fs::write(dir.join("untouched"), "untouched").expect("write");
    dir
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("read a directory").flatten();
    let mut names: Vec<_> = entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn is_untouched(dir: &Path, what: &str) {
    assert_eq!(
        names(dir),
        ["untouched"],
        "{what}: something was made on the host"
    );
    let text = std::fs::read_to_string(dir.join("untouched")).expect("read");
    assert_eq!(text, "untouched", "{what}: a file of the host was written");
    let mounts = mountinfo::own();
    assert!(
        !mounts.iter().any(|m| m.point.starts_with(dir)),
        "{what}: mounted on the host"
    );
}

/// Replaces a place in the root by a link.
fn replace(t: &Case, place: &str, target: &Path) {
    let path = t.rootfs().join(place);
    let _ = std::fs::remove_dir_all(&path);
    let _ = std::fs::remove_file(&path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
    symlink(target, &path).expect("symlink");
}

/// Targets as an attacker writes them: absolute, and climbing out of wherever it is.
fn targets(victim: &Path) -> [PathBuf; 2] {
    let climbing = "../".repeat(20) + victim.to_str().expect("UTF-8").trim_start_matches('/');
    [victim.to_owned(), climbing.into()]
}

/// The place is a link: refused, or mounted inside of the root, with the host untouched.
fn stays_inside(t: &Case, place: &str, change: impl Fn(&mut Value)) {
    let victim = victim(t);
    for target in targets(&victim) {
        replace(t, place, &target);
        let out = t.run(|c| {
            args(c, &["/bin/probe", "report"]);
            change(c);
        });
        println!("{place} -> {}: {}", target.display(), out.stderr);
        is_untouched(&victim, place);
        if out.code() == 0 {
            let r = Report::new(&out.stdout);
            let link = Path::new("/").join(place);
            let inside = |m: &mountinfo::Mount| !m.point.starts_with(&link);
            assert!(
                r.mounts().iter().all(inside),
                "a mount on the link itself: {out}"
            );
        }
    }
}

#[test]
fn proc() {
    case(|t| stays_inside(t, "proc", |_| {}));
}

#[test]
fn sys() {
    case(|t| stays_inside(t, "sys", |_| {}));
}

#[test]
fn dev() {
    case(|t| stays_inside(t, "dev", |_| {}));
}

/// Without a mount on it, the runtime itself makes devices and links below /dev.
#[test]
fn dev_without_a_mount() {
    case(|t| {
        stays_inside(t, "dev", |c| {
            for place in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
                no_mount(c, place);
            }
        });
    });
}

/// A link of the image's own /dev, where nothing is mounted over it.
fn in_plain_dev(t: &Case, place: &str) {
    stays_inside(t, place, |c| {
        for place in ["/dev", "/dev/shm", "/dev/mqueue"] {
            no_mount(c, place);
        }
    });
}

#[test]
fn dev_null() {
    case(|t| in_plain_dev(t, "dev/null"));
}

#[test]
fn dev_pts() {
    case(|t| in_plain_dev(t, "dev/pts"));
}

#[test]
fn dev_ptmx() {
    case(|t| in_plain_dev(t, "dev/ptmx"));
}

#[test]
fn dev_fd() {
    case(|t| in_plain_dev(t, "dev/fd"));
}

#[test]
fn dev_shm() {
    case(|t| {
        stays_inside(t, "dev/shm", |c| {
            no_mount(c, "/dev");
            no_mount(c, "/dev/mqueue");
        });
    });
}

/// With a link to a file, too: a device node or a terminal would be put on it.
#[test]
fn dev_console() {
    case(|t| {
        let victim = victim(t);
        for (n, target) in targets(&victim.join("untouched")).into_iter().enumerate() {
            replace(t, "dev/console", &target);
            t.write(|c| {
                c["process"]["terminal"] = json!(true);
                for place in ["/dev", "/dev/shm", "/dev/mqueue"] {
                    no_mount(c, place);
                }
                script(c, "echo scribble >/dev/console; sleep 1000");
            });
            let listener = socket::listen(&t.dir().join(format!("console{n}")));
            let out = t
                .with_bundle("create", &["--console-socket", listener.arg()])
                .run();
            println!("{out}");
            let master = (out.code() == 0).then(|| listener.descriptor());
            if out.code() == 0 {
                let _ = t.start();
                std::thread::sleep(Duration::from_millis(100));
            }
            is_untouched(&victim, "dev/console");
            let _ = t.delete_force();
            drop(master);
        }
    });
}

#[test]
fn the_mount_point_of_a_bind() {
    case(|t| {
        let source = t.new_dir("source");
        stays_inside(t, "data", |c| bind(c, &source, "/data", &[]));
    });
}

#[test]
fn a_directory_above_the_mount_point() {
    case(|t| {
        let source = t.new_dir("source");
        stays_inside(t, "data", |c| bind(c, &source, "/data/deep/er", &[]));
    });
}

#[test]
fn the_mount_point_of_a_file() {
    case(|t| {
        let source = t.new_file("source", "from outside");
        stays_inside(t, "etc/config", |c| bind(c, &source, "/etc/config", &[]));
        stays_inside(t, "etc/dir", |c| bind(c, &source, "/etc/dir/new-file", &[]));
    });
}

#[test]
fn the_place_of_a_device() {
    case(|t| {
        stays_inside(t, "data", |c| {
            c["linux"]["devices"] =
                json!([{"path": "/data/node", "type": "c", "major": 1, "minor": 3}]);
        });
    });
}

#[test]
fn the_working_directory_that_is_made() {
    case(|t| stays_inside(t, "data", |c| c["process"]["cwd"] = json!("/data/made")));
}

#[test]
fn masked_and_read_only_paths() {
    case(|t| {
        stays_inside(t, "data", |c| {
            c["linux"]["maskedPaths"] = json!(["/data", "/data/untouched"]);
            c["linux"]["readonlyPaths"] = json!(["/data"]);
        });
    });
}

#[test]
fn the_root_itself() {
    case(|t| {
        // The link is the bundle's own: whoever writes bundles may point them anywhere.
        let _ = t.rootfs();
        let real = t.dir().join("real-root");
        std::fs::rename(t.rootfs(), &real).expect("rename");
        symlink(&real, t.bundle().join("rootfs")).expect("symlink");
        let out = t.run(|c| script(c, "echo inside"));
        assert!(out.code() != 0 || out.text() == "inside", "{out}");
    });
}

/// Control: what a runtime would do that joins strings.
#[test]
fn control_a_joined_path_leaves_the_root() {
    case(|t| {
        let victim = victim(t);
        let [absolute, climbing] = targets(&victim);
        for target in [absolute, climbing] {
            replace(t, "data", &target);
            std::fs::create_dir(t.rootfs().join("data/made")).expect("mkdir");
            assert_eq!(names(&victim), ["made", "untouched"]);
            std::fs::remove_dir(victim.join("made")).expect("rmdir");
        }
    });
}

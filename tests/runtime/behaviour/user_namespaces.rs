//! `linux.uidMappings`, `linux.gidMappings` and what they do to the rest.

use std::os::unix::fs::{MetadataExt, chown};

use runtime_suite::prelude::*;

const HOST: u32 = 200_000;

#[test]
fn ids_are_mapped() {
    case(|t| {
        let r = t.report(|c| user_ns(c, HOST, 65536));
        assert_ne!(r.link("ns/user"), host::namespace("self", "user"));
        let words = |f: &str| {
            r.file(f)
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words("uid_map"), ["0", "200000", "65536"]);
        assert_eq!(words("gid_map"), ["0", "200000", "65536"]);
        assert_eq!(r.ids("Uid"), [0; 4]);
    });
}

#[test]
fn the_host_sees_the_mapped_id() {
    case(|t| {
        t.up(|c| {
            user_ns(c, HOST, 65536);
            c["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [7]});
        });
        let pid = t.pid().to_string();
        let field = |key: &str| host::status_field(&pid, key).expect("status");
        assert!(field("Uid").starts_with("201000"), "{}", field("Uid"));
        assert!(field("Gid").starts_with("201001"), "{}", field("Gid"));
        assert_eq!(field("Groups"), "200007");
    });
}

#[test]
fn several_mapping_lines_are_written() {
    case(|t| {
        t.needs_root("ids that are not the user's");
        let r = t.report(|c| {
            ns(c, "user");
            c["linux"]["uidMappings"] = json!([
                {"containerID": 0, "hostID": 300_000, "size": 10},
                {"containerID": 1000, "hostID": 400_000, "size": 5}
            ]);
            c["linux"]["gidMappings"] = json!([
                {"containerID": 0, "hostID": 500_000, "size": 3000}
            ]);
        });
        assert_eq!(r.file("uid_map").lines().count(), 2);
        let words: Vec<_> = r.file("gid_map").split_whitespace().collect();
        assert_eq!(words, ["0", "500000", "3000"]);
    });
}

#[test]
fn ownership_of_the_root_is_not_changed() {
    case(|t| {
        let file = t.rootfs().join("etc/passwd");
        let before = std::fs::metadata(&file).expect("stat").uid();
        let out = t.sh("stat -c %u /etc/passwd", |c| user_ns(c, HOST, 65536));
        assert_eq!(out, "65534", "an unmapped owner shows as nobody");
        assert_eq!(std::fs::metadata(&file).expect("stat").uid(), before);
    });
}

#[test]
fn files_made_inside_belong_to_the_mapped_id() {
    case(|t| {
        t.needs_root("files of others");
        let data = t.new_dir("volume");
        chown(&data, Some(HOST + 33), Some(HOST + 33)).expect("chown");
        let _ = t.sh("touch /data/file", |c| {
            user_ns(c, HOST, 65536);
            bind(c, &data, "/data", &["rw"]);
            c["process"]["user"] = json!({"uid": 33, "gid": 33});
        });
        let made = std::fs::metadata(data.join("file")).expect("stat");
        assert_eq!((made.uid(), made.gid()), (HOST + 33, HOST + 33));
    });
}

#[test]
fn default_devices_work_inside() {
    case(|t| {
        let r = t.report(|c| user_ns(c, HOST, 65536));
        for (dev, rdev) in [
            ("null", "1:3"),
            ("zero", "1:5"),
            ("full", "1:7"),
            ("random", "1:8"),
        ] {
            assert_eq!(r.dev(&format!("/dev/{dev}"))["rdev"], rdev, "{dev}");
        }
        let out = t.sh(
            "echo x >/dev/null && head -c 4 /dev/zero | od -An -tx1",
            |c| {
                user_ns(c, HOST, 65536);
            },
        );
        assert_eq!(out.trim(), "00 00 00 00");
    });
}

#[test]
fn the_root_user_of_the_namespace_has_its_capabilities() {
    case(|t| {
        let r = t.report(|c| {
            user_ns(c, HOST, 65536);
            caps(c, &["CAP_CHOWN", "CAP_SYS_ADMIN"]);
        });
        let want = ["CAP_CHOWN", "CAP_SYS_ADMIN"].into();
        assert_eq!(r.caps("CapEff"), want);
        assert_eq!(r.caps("CapBnd"), want);
    });
}

#[test]
fn a_user_namespace_without_mappings_is_refused() {
    case(|t| {
        let _ = t
            .create(|c| {
                ns(c, "user");
                let linux = c["linux"].as_object_mut().expect("linux");
                linux.remove("uidMappings");
                linux.remove("gidMappings");
            })
            .refused();
    });
}

#[test]
fn mappings_without_a_user_namespace_are_refused() {
    case(|t| {
        let _ = t
            .create(|c| {
                user_ns(c, HOST, 10);
                no_ns(c, "user");
            })
            .refused();
    });
}

#[test]
fn an_id_outside_the_map_is_refused() {
    case(|t| {
        let out = t.run(|c| {
            user_ns(c, HOST, 100);
            c["process"]["user"] = json!({"uid": 500, "gid": 0});
        });
        let _ = out.refused();
    });
}

#[test]
fn overlapping_mappings_are_refused() {
    case(|t| {
        let _ = t
            .create(|c| {
                user_ns(c, HOST, 100);
                let again = json!({"containerID": 50, "hostID": 900_000, "size": 100});
                push(&mut c["linux"]["uidMappings"], again);
            })
            .refused();
    });
}

#[test]
fn a_user_namespace_is_joined_with_the_namespaces_it_owns() {
    case(|t| {
        let holder = t.container("holder");
        holder.up(|c| user_ns(c, HOST, 65536));
        let pid = holder.pid();
        let r = t.report(|c| {
            join(c, "user", format!("/proc/{pid}/ns/user"));
            join(c, "network", format!("/proc/{pid}/ns/net"));
        });
        let pid = pid.to_string();
        assert_eq!(r.link("ns/user"), host::namespace(&pid, "user"));
        assert_eq!(r.link("ns/net"), host::namespace(&pid, "net"));
        assert_eq!(r.ids("Uid"), [0; 4]);
    });
}

#[test]
fn an_exec_runs_as_root_of_the_namespace() {
    case(|t| {
        t.up(|c| user_ns(c, HOST, 65536));
        let r = t.exec_report(&["--user", "5:6"]);
        assert_eq!(r.ids("Uid"), [5; 4]);
        assert_eq!(
            r.link("ns/user"),
            host::namespace(&t.pid().to_string(), "user")
        );
        let mut exec = t.exec_cmd(&["--user", "5:6"], &["/bin/sleep", "5"]).spawn();
        wait_until("the exec is there", || {
            runtime_suite::leaks::processes(t.token()).iter().any(|p| {
                host::status_field(&p.to_string(), "Uid").is_some_and(|u| u.starts_with("200005"))
            }) || !exec.is_running()
        });
        assert!(exec.is_running());
    });
}

#[test]
fn setgroups_stays_allowed_for_a_privileged_map() {
    case(|t| {
        let r = t.report(|c| {
            user_ns(c, HOST, 65536);
            c["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [10, 20]});
        });
        assert_eq!(r.file("setgroups").trim(), "allow");
        assert_eq!(r.ids("Groups"), [10, 20]);
    });
}

#[test]
fn sysfs_and_mqueue_can_be_mounted_with_own_namespaces() {
    case(|t| {
        let r = t.report(|c| user_ns(c, HOST, 65536));
        assert_eq!(r.mount("/sys").kind, "sysfs");
        assert_eq!(r.mount("/dev/mqueue").kind, "mqueue");
        assert_eq!(r.mount("/proc").kind, "proc");
        assert_eq!(r.mount("/dev/pts").kind, "devpts");
    });
}

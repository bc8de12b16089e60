//! `linux.devices` and `linux.resources.devices`.

use runtime_suite::prelude::*;

fn device(path: &str, kind: &str, major: u32, minor: u32) -> Value {
    json!({"path": path, "type": kind, "major": major, "minor": minor})
}

#[test]
fn devices_are_made_with_mode_and_owner() {
    case(|t| {
        t.needs_root("a device that mknod(2) makes");
        let r = t.report(|c| {
            all_devices(c);
            c["linux"]["devices"] = json!([
                {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229,
                 "fileMode": 0o640, "uid": 7, "gid": 8},
                device("/dev/deep/er/disk", "b", 254, 0),
            ]);
        });
        let fuse = r.dev("/dev/fuse");
        assert_eq!(
            *fuse,
            json!({"kind": "c", "rdev": "10:229", "mode": "640", "uid": 7, "gid": 8, "target": null})
        );
        let disk = r.dev("/dev/deep/er/disk");
        assert_eq!(
            (&disk["kind"], &disk["rdev"]),
            (&json!("b"), &json!("254:0"))
        );
    });
}

#[test]
fn a_fifo_needs_no_numbers() {
    case(|t| {
        let r = t.report(|c| {
            c["linux"]["devices"] = json!([{"path": "/dev/pipe", "type": "p", "fileMode": 0o600}]);
        });
        assert_eq!(r.dev("/dev/pipe")["kind"], "p");
        assert_eq!(r.dev("/dev/pipe")["mode"], "600");
    });
}

#[test]
fn type_u_is_a_character_device() {
    case(|t| {
        t.needs_root("a device that mknod(2) makes");
        let devices = json!([device("/dev/unbuffered", "u", 1, 3)]);
        let r = t.report(|c| c["linux"]["devices"] = devices);
        assert_eq!(r.dev("/dev/unbuffered")["kind"], "c");
    });
}

#[test]
fn a_device_outside_of_dev() {
    case(|t| {
        t.needs_root("a device that mknod(2) makes");
        let out = t.sh("stat -c '%F %t:%T' /data/node", |c| {
            c["linux"]["devices"] = json!([device("/data/node", "c", 1, 5)]);
        });
        assert_eq!(out, "character special file 1:5");
    });
}

#[test]
fn the_umask_does_not_matter() {
    case(|t| {
        t.needs_root("a device that mknod(2) makes");
        t.write(|c| {
            c["linux"]["devices"] = json!([
                {"path": "/dev/open", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}
            ]);
            args(c, &["/bin/stat", "-c", "%a", "/dev/open", "/dev/null"]);
        });
        let mut caller = std::process::Command::new("sh");
        caller.args(["-c", "umask 077; exec \"$0\" \"$@\""]);
        let out = t.with_bundle("run", &[]).under(&caller).run().ok();
        assert_eq!(out.text(), "666\n666");
    });
}

#[test]
fn an_existing_file_that_is_another_device_is_refused() {
    case(|t| {
        std::fs::write(t.rootfs().join("data/node"), "a file").expect("write");
        let devices = json!([device("/data/node", "c", 1, 5)]);
        let _ = t.create(|c| c["linux"]["devices"] = devices).refused();
        let text = std::fs::read_to_string(t.rootfs().join("data/node")).expect("read");
        assert_eq!(text, "a file");
    });
}

#[test]
fn an_unknown_type_is_refused() {
    case(|t| {
        let devices = json!([device("/dev/x", "z", 1, 5)]);
        let _ = t.create(|c| c["linux"]["devices"] = devices).refused();
    });
}

#[test]
fn a_device_that_is_not_allowed_cannot_be_opened() {
    case(|t| {
        t.needs_root("a device that mknod(2) makes");
        let devices = json!([device("/dev/vd", "b", 254, 0)]);
        let out = t.run(|c| {
            c["linux"]["devices"] = devices;
            script(c, "head -c 1 /dev/vd >/dev/null");
        });
        assert!(
            out.code() != 0 && out.stderr.contains("not permitted"),
            "{out}"
        );
    });
}

#[test]
fn a_rule_allows_one_device() {
    case(|t| {
        t.needs_root("rules for devices");
        let rule = json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"});
        let out = t.run(|c| {
            push(&mut c["linux"]["resources"]["devices"], rule);
            c["linux"]["devices"] = json!([device("/dev/fuse", "c", 10, 229)]);
            script(
                c,
                "exec 3</dev/fuse && echo read; (exec 3>/dev/fuse) || echo not written",
            );
        });
        assert_eq!(out.text(), "read\nnot written", "{out}");
    });
}

#[test]
fn rules_are_applied_in_order() {
    case(|t| {
        t.needs_root("rules for devices");
        let out = t.run(|c| {
            c["linux"]["resources"]["devices"] = json!([
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
                {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "w"}
            ]);
            c["linux"]["devices"] = json!([device("/dev/fuse", "c", 10, 229)]);
            script(
                c,
                "exec 3</dev/fuse && echo read; (exec 3>/dev/fuse) || echo not written",
            );
        });
        assert_eq!(out.text(), "read\nnot written", "{out}");
    });
}

#[test]
fn a_wildcard_rule() {
    case(|t| {
        t.needs_root("rules for devices");
        let rule = json!({"allow": true, "type": "c", "major": 10, "access": "rw"});
        let out = t.sh("exec 3</dev/fuse && echo read", |c| {
            push(&mut c["linux"]["resources"]["devices"], rule);
            c["linux"]["devices"] = json!([device("/dev/fuse", "c", 10, 229)]);
        });
        assert_eq!(out, "read");
    });
}

#[test]
fn mknod_needs_no_rule_but_a_capability() {
    case(|t| {
        let out = t.run(|c| {
            caps(c, &["CAP_MKNOD"]);
            script(
                c,
                "mknod /data/fuse c 10 229 && echo made; head -c1 /data/fuse",
            );
        });
        // Making a node is harmless; opening it is what the controller forbids.
        assert!(
            out.code() != 0 && out.stderr.contains("not permitted"),
            "{out}"
        );
    });
}

#[test]
fn devices_in_a_user_namespace_come_from_the_host() {
    case(|t| {
        let r = t.report(|c| {
            user_ns(c, 200_000, 65536);
            all_devices(c);
            c["linux"]["devices"] = json!([device("/dev/fuse", "c", 10, 229)]);
        });
        let fuse = r.dev("/dev/fuse");
        assert_eq!(
            (&fuse["kind"], &fuse["rdev"]),
            (&json!("c"), &json!("10:229"))
        );
    });
}

//! Configurations that are malformed or contradict themselves: one line, nonzero, nothing left.

use runtime_suite::prelude::*;

fn refuses(t: &Case, what: &str, text: &str) {
    t.write_raw(text);
    let out = t.with_bundle("create", &[]).run();
    println!("{what}: {}", out.stderr.trim_end());
    assert_ne!(out.code(), 0, "{what} was taken: {out}");
    let _ = out.refused();
    assert!(!t.exists(), "{what}: a container is left");
    let left = runtime_suite::leaks::find(t.token(), t.dir());
    assert!(left.is_empty(), "{what}: {left:?}");
}

#[test]
fn text_that_is_no_configuration() {
    case(|t| {
        for (what, text) in [
            ("nothing", ""),
            ("a word", "hello"),
            (
                "half a document",
                "{\"ociVersion\": \"1.0.2\", \"process\": {",
            ),
            ("an array", "[]"),
            ("null", "null"),
            ("a number", "7"),
            ("an empty object", "{}"),
            ("a NUL byte", "\0"),
            ("deep nesting", &"[".repeat(100_000)),
        ] {
            refuses(t, what, text);
        }
    });
}

#[test]
fn bytes_that_are_no_text() {
    case(|t| {
        t.write(|_| {});
        let file = t.bundle().join("config.json");
        std::fs::write(&file, b"{\"ociVersion\": \"\xff\xfe\"}").expect("write");
        let _ = t.with_bundle("create", &[]).run().refused();
    });
}

/// One change that makes the plain configuration wrong.
type Change = (&'static str, fn(&mut Value));

fn refuses_all(t: &Case, changes: &[Change]) {
    for (what, change) in changes {
        refuses(t, what, &t.config(change).to_string());
    }
}

fn remove(c: &mut Value, path: &[&str], key: &str) {
    let mut place = c;
    for part in path {
        place = &mut place[*part];
    }
    place.as_object_mut().expect("an object").remove(key);
}

#[test]
fn required_properties_that_are_missing() {
    case(|t| {
        refuses_all(
            t,
            &[
                ("no ociVersion", |c| remove(c, &[], "ociVersion")),
                ("no root", |c| remove(c, &[], "root")),
                ("no root path", |c| remove(c, &["root"], "path")),
                ("no cwd", |c| remove(c, &["process"], "cwd")),
                ("no args", |c| remove(c, &["process"], "args")),
                ("a mount without destination", |c| {
                    push(&mut c["mounts"], json!({"type": "tmpfs"}))
                }),
                ("a namespace without type", |c| {
                    push(&mut c["linux"]["namespaces"], json!({}))
                }),
                ("a device without path", |c| {
                    c["linux"]["devices"] = json!([{"type": "c", "major": 1, "minor": 3}]);
                }),
                ("a device without type", |c| {
                    c["linux"]["devices"] = json!([{"path": "/dev/x", "major": 1, "minor": 3}]);
                }),
                ("seccomp without default", |c| {
                    c["linux"]["seccomp"] = json!({"syscalls": []})
                }),
                ("a hook without path", |c| {
                    c["hooks"] = json!({"prestart": [{"args": ["x"]}]})
                }),
            ],
        );
    });
}

#[test]
fn values_of_the_wrong_type() {
    case(|t| {
        refuses_all(
            t,
            &[
                ("a number as version", |c| c["ociVersion"] = json!(1)),
                ("a string as process", |c| c["process"] = json!("sh")),
                ("a string as args", |c| c["process"]["args"] = json!("sh")),
                ("a number in args", |c| c["process"]["args"] = json!([1])),
                ("a string as uid", |c| {
                    c["process"]["user"]["uid"] = json!("root")
                }),
                ("an object as mounts", |c| c["mounts"] = json!({})),
                ("a string as readonly", |c| {
                    c["root"]["readonly"] = json!("yes")
                }),
                ("a number as hostname", |c| c["hostname"] = json!(5)),
                ("a list as annotations", |c| c["annotations"] = json!(["a"])),
                ("a number in annotations", |c| {
                    c["annotations"] = json!({"a": 1})
                }),
                ("a string as limit", |c| {
                    c["linux"]["resources"]["memory"] = json!({"limit": "64M"});
                }),
            ],
        );
    });
}

#[test]
fn numbers_out_of_range() {
    case(|t| {
        refuses_all(
            t,
            &[
                ("a negative uid", |c| {
                    c["process"]["user"]["uid"] = json!(-1)
                }),
                ("a uid of 2^32", |c| {
                    c["process"]["user"]["uid"] = json!(4_294_967_296_u64)
                }),
                ("a gid of 2^40", |c| {
                    c["process"]["user"]["gid"] = json!(1_u64 << 40)
                }),
                ("an additional gid of 2^32", |c| {
                    c["process"]["user"]["additionalGids"] = json!([4_294_967_296_u64]);
                }),
                ("a fraction as uid", |c| {
                    c["process"]["user"]["uid"] = json!(0.5)
                }),
                ("a limit beyond 64 bits", |c| {
                    let text = "99999999999999999999999";
                    let number: Value = serde_json::from_str(text).expect("a number");
                    c["process"]["rlimits"] =
                        json!([{"type": "RLIMIT_NOFILE", "soft": number, "hard": number}]);
                }),
                ("an oom score of 2000", |c| {
                    c["process"]["oomScoreAdj"] = json!(2000)
                }),
            ],
        );
    });
}

#[test]
fn versions_that_are_not_ours() {
    case(|t| {
        refuses_all(
            t,
            &[
                ("version 2", |c| c["ociVersion"] = json!("2.0.0")),
                ("version 0.5", |c| c["ociVersion"] = json!("0.5.0")),
                ("a word", |c| c["ociVersion"] = json!("newest")),
                ("an empty version", |c| c["ociVersion"] = json!("")),
            ],
        );
    });
}

#[test]
fn versions_that_are() {
    case(|t| {
        for version in ["1.0.0", "1.0.2-dev", "1.1.0", "1.0.2"] {
            let _ = t.run(|c| c["ociVersion"] = json!(version)).ok();
        }
    });
}

#[test]
fn contradictions() {
    case(|t| {
        refuses_all(
            t,
            &[
                ("no mount namespace", |c| no_ns(c, "mount")),
                ("a path with a NUL", |c| {
                    c["root"]["path"] = json!("root\0fs")
                }),
                ("an argument with a NUL", |c| {
                    c["process"]["args"] = json!(["a\0b"])
                }),
                ("an empty root path", |c| c["root"]["path"] = json!("")),
                ("an environment without a name", |c| env(c, "\0=x")),
                ("a user without map", |c| {
                    user_ns(c, 200_000, 10);
                    c["process"]["user"] = json!({"uid": 11, "gid": 0});
                }),
                ("an empty map", |c| {
                    user_ns(c, 200_000, 10);
                    c["linux"]["uidMappings"][0]["size"] = json!(0);
                }),
                ("a virtual machine", |c| {
                    c["vm"] = json!({"kernel": {"path": "/vmlinuz"}});
                }),
                ("a relative masked path", |c| {
                    c["linux"]["maskedPaths"] = json!(["proc/kcore"])
                }),
                ("a relative read-only path", |c| {
                    c["linux"]["readonlyPaths"] = json!(["proc/sys"])
                }),
            ],
        );
    });
}

#[test]
fn unknown_properties_are_ignored() {
    case(|t| {
        let out = t.run(|c| {
            c["surprise"] = json!({"a": [1, 2, 3]});
            c["process"]["surprise"] = json!(true);
            c["linux"]["surprise"] = json!("x");
            c["linux"]["namespaces"][0]["surprise"] = json!(null);
            c["mounts"][0]["surprise"] = json!(7);
        });
        let _ = out.ok();
    });
}

#[test]
fn empty_lists_and_objects_are_fine() {
    case(|t| {
        t.needs_root("a container without mappings");
        let out = t.run(|c| {
            for key in ["annotations", "hooks"] {
                c[key] = json!({});
            }
            for key in ["devices", "uidMappings", "gidMappings"] {
                c["linux"][key] = json!([]);
            }
            for key in ["sysctl", "resources"] {
                c["linux"][key] = json!({});
            }
            c["process"]["rlimits"] = json!([]);
            c["process"]["env"] = json!([]);
        });
        let _ = out.ok();
    });
}

#[test]
fn null_is_as_absent() {
    case(|t| {
        let out = t.run(|c| {
            for key in ["annotations", "hooks"] {
                c[key] = json!(null);
            }
            for key in ["devices", "sysctl", "seccomp", "intelRdt"] {
                c["linux"][key] = json!(null);
            }
            c["process"]["rlimits"] = json!(null);
        });
        let _ = out.ok();
    });
}

#[test]
fn a_big_configuration() {
    case(|t| {
        let out = t.run(|c| {
            for n in 0..2000 {
                env(c, &format!("VARIABLE_{n}={}", "x".repeat(100)));
            }
            c["annotations"] = (0..500)
                .map(|n| (format!("key.{n}"), json!("y".repeat(200))))
                .collect();
            script(c, "env | grep -c ^VARIABLE_");
        });
        assert_eq!(out.ok().text(), "2000");
    });
}

#[test]
fn a_configuration_that_is_a_directory_or_a_fifo() {
    case(|t| {
        let _ = t.rootfs();
        let file = t.bundle().join("config.json");
        std::fs::create_dir(&file).expect("mkdir");
        let _ = t.with_bundle("create", &[]).run().refused();
        std::fs::remove_dir(&file).expect("rmdir");
        std::os::unix::fs::symlink("nowhere", &file).expect("symlink");
        let _ = t.with_bundle("create", &[]).run().refused();
    });
}

#[test]
fn a_mount_destination_that_leads_out_stays_inside() {
    case(|t| {
        let r = t.report(|c| mount(c, "tmpfs", "tmpfs", "/../../../mnt/../mnt", &[]));
        assert_eq!(r.mount("/mnt").kind, "tmpfs");
    });
}

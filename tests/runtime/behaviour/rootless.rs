//! A user without privileges runs containers: ids, control groups, devices.

use runtime_suite::prelude::*;

const MB: u64 = 1 << 20;

fn needs_user(t: &Case) {
    t.needs(
        ground() == Ground::Rootless,
        "a user with subordinate ids, in a session",
    );
}

fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// A bundle as `spec --rootless` writes it, running a script.
fn default_bundle(t: &Case, text: &str) {
    let _ = t.rootfs();
    let _ = t
        .runtime(&["spec", "--rootless"])
        .dir(t.bundle())
        .run()
        .ok();
    let path = t.bundle().join("config.json");
    let mut config: Value =
        serde_json::from_str(&std::fs::read_to_string(&path).expect("read")).expect("JSON");
    script(&mut config, text);
    config["process"]["terminal"] = json!(false);
    config["process"]
        .as_object_mut()
        .expect("process")
        .remove("rlimits");
    env(&mut config, &format!("{MARK}={}", t.token()));
    config["linux"]["cgroupsPath"] = json!(ground().cgroups_path(t.id()));
    std::fs::write(&path, config.to_string()).expect("write");
}

#[test]
fn the_default_bundle_for_users_runs() {
    case(|t| {
        needs_user(t);
        default_bundle(
            t,
            "id -u; cat /proc/self/uid_map; echo x >/dev/null && echo wrote",
        );
        let out = t.with_bundle("run", &[]).run().ok();
        let words: Vec<&str> = out.stdout.split_whitespace().collect();
        let own = uid().to_string();
        assert_eq!(words, ["0", "0", &own, "1", "wrote"]);
    });
}

#[test]
fn subordinate_ids_are_mapped() {
    case(|t| {
        needs_user(t);
        let out = t.sh("cat /proc/self/uid_map /proc/self/gid_map", |_| {});
        let (first, count) = runtime_suite::ground::SUBORDINATE;
        let words: Vec<&str> = out.split_whitespace().collect();
        let (own, first, count) = (uid().to_string(), first.to_string(), count.to_string());
        let once = ["0", &own, "1", "1", &first, &count];
        assert_eq!(words, [once, once].concat());
    });
}

#[test]
fn root_inside_is_the_user_outside() {
    case(|t| {
        needs_user(t);
        t.up(|_| {});
        let status = host::status_field(&t.pid().to_string(), "Uid").expect("a status");
        assert_eq!(
            status.split_whitespace().next(),
            Some(uid().to_string().as_str())
        );
        // A user inside is one of the subordinate ones outside.
        let out = t.exec(
            &["--user", "7:8"],
            &["/bin/sh", "-c", "id -u; id -g; touch /tmp/file"],
        );
        assert_eq!(out.ok().text(), "7\n8");
        let made = std::fs::metadata(t.rootfs().join("tmp/file")).expect("stat");
        let (first, _) = runtime_suite::ground::SUBORDINATE;
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), first + 6);
        // Ours is not that one's to remove; the container's root can.
        let _ = t.exec(&[], &["/bin/rm", "/tmp/file"]).ok();
    });
}

#[test]
fn without_the_helpers_more_ids_are_an_error_that_names_them() {
    case(|t| {
        needs_user(t);
        t.write(|_| {});
        let out = t.with_bundle("run", &[]).env("PATH", "/nowhere").run();
        let said = out.refused();
        assert!(said.contains("newuidmap"), "{said}");
    });
}

#[test]
fn without_the_helpers_one_id_is_enough() {
    case(|t| {
        needs_user(t);
        default_bundle(t, "id -u");
        let out = t.with_bundle("run", &[]).env("PATH", "/nowhere").run().ok();
        assert_eq!(out.text(), "0");
    });
}

#[test]
fn ids_of_others_are_refused() {
    case(|t| {
        needs_user(t);
        let out = t.create(|c| user_ns(c, 0, 10));
        let said = out.refused();
        assert!(said.contains("newuidmap"), "{said}");
    });
}

#[test]
fn devices_are_those_of_the_host() {
    case(|t| {
        needs_user(t);
        let r = t.report(|_| {});
        for name in ["null", "zero", "full", "random", "urandom", "tty"] {
            let mount = r.mount(&format!("/dev/{name}"));
            assert_eq!(mount.kind, "devtmpfs", "{mount:?}");
        }
    });
}

#[test]
fn limits_hold_in_what_was_delegated() {
    case(|t| {
        needs_user(t);
        t.needs_v2("memory");
        t.up(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 64 * MB});
            c["linux"]["resources"]["pids"] = json!({"limit": 30});
        });
        let own = host::cgroup_of(t.pid(), "");
        let read = |file: &str| std::fs::read_to_string(own.join(file)).expect("read");
        assert_eq!(read("memory.max").trim(), (64 * MB).to_string());
        assert_eq!(read("pids.max").trim(), "30");
    });
}

#[test]
fn a_group_that_is_not_ours_is_an_error_that_says_why() {
    case(|t| {
        needs_user(t);
        let path = format!("/system.slice/{}", t.id());
        let said = t
            .create(|c| c["linux"]["cgroupsPath"] = json!(path))
            .refused();
        assert!(said.contains("permission denied"), "{said}");
    });
}

/// No place was named, and where the runtime would put the container nothing was delegated.
#[test]
fn without_delegation_there_is_a_warning_and_a_container() {
    case(|t| {
        needs_user(t);
        let path = ground().cgroups_path(&format!("{}-closed", t.token()));
        let closed = Path::new("/sys/fs/cgroup").join(&path[1..]);
        let inner = closed.join("inner");
        std::fs::create_dir_all(&inner).expect("make cgroups");
        let mode = |bits| {
            let mode = rustix::fs::Mode::from_raw_mode(bits);
            rustix::fs::chmod(&closed, mode).expect("chmod a cgroup");
        };
        mode(0o555);
        let mut inside = std::process::Command::new("sh");
        inside
            .args(["-c", "echo 0 >\"$0/cgroup.procs\"; exec \"$@\""])
            .arg(&inner);
        let run = |limits: Value| {
            t.write(|c| {
                c["linux"]
                    .as_object_mut()
                    .expect("linux")
                    .remove("cgroupsPath");
                c["linux"]["resources"] = limits;
                script(c, "echo fine");
            });
            t.with_bundle("run", &[]).under(&inside).run().ok()
        };
        let silent = run(json!({}));
        let warned = run(json!({"pids": {"limit": 30}}));
        mode(0o755);
        for dir in [&inner, &closed] {
            std::fs::remove_dir(dir).expect("remove a cgroup");
        }
        assert_eq!((silent.text(), silent.stderr.as_str()), ("fine", ""));
        assert_eq!(warned.text(), "fine");
        assert!(warned.stderr.contains("ignored: pids.limit"), "{warned}");
    });
}

#[test]
fn a_scope_of_the_users_own_systemd() {
    case(|t| {
        needs_user(t);
        t.write(|c| {
            c["linux"]["cgroupsPath"] = json!(format!("user.slice:suite:{}", t.id()));
            c["linux"]["resources"]["pids"] = json!({"limit": 30});
            args(c, &["/bin/sleep", "1000"]);
        });
        let bundle = t.bundle().to_str().expect("UTF-8").to_owned();
        let systemd = |args: &[&str]| {
            let global = ["--systemd-cgroup"];
            t.runtime(&[&global[..], args].concat()).run()
        };
        let _ = systemd(&["run", "--detach", "--bundle", &bundle, t.id()]).ok();
        let own = host::cgroup_of(t.pid(), "");
        let place = format!("user@{}.service/user.slice/suite-{}.scope", uid(), t.id());
        assert!(
            own.display().to_string().contains(&place),
            "{}",
            own.display()
        );
        let pids = std::fs::read_to_string(own.join("pids.max")).expect("read");
        assert_eq!(pids.trim(), "30");
        let unit = format!("suite-{}.scope", t.id());
        let show = ["--user", "show", "--value", "-p", "Delegate", &unit];
        let out = std::process::Command::new("systemctl").args(show).output();
        assert_eq!(out.expect("run systemctl").stdout, b"yes\n");
        let _ = systemd(&["exec", t.id(), "/bin/true"]).ok();
        let _ = systemd(&["update", "--pids-limit", "40", t.id()]).ok();
        let _ = systemd(&["kill", t.id(), "KILL"]).ok();
        t.wait_for("stopped");
        let _ = systemd(&["delete", t.id()]).ok();
    });
}

#[test]
fn a_network_of_ones_own_has_loopback() {
    case(|t| {
        needs_user(t);
        let out = t.sh("ip -o addr show lo; ip -o link | wc -l", |_| {});
        assert!(out.contains("127.0.0.1/8"), "{out}");
    });
}

//! `spec`, `features`, `--version`, `--help`.

use runtime_suite::prelude::*;

#[test]
fn spec_writes_a_bundle_that_runs() {
    case(|t| {
        t.needs_root("the configuration of root");
        let _ = t.rootfs();
        let _ = t.runtime(&["spec"]).dir(t.bundle()).run().ok();
        let file = t.bundle().join("config.json");
        let text = std::fs::read_to_string(&file).expect("read config.json");
        let mut config: Value = serde_json::from_str(&text).expect("JSON");
        assert!(config["ociVersion"].is_string());
        assert_eq!(config["process"]["args"], json!(["sh"]));
        assert_eq!(config["process"]["terminal"], true);
        assert_eq!(config["process"]["cwd"], "/");
        assert_eq!(config["root"]["path"], "rootfs");
        let masked = config["linux"]["maskedPaths"]
            .as_array()
            .expect("masked paths");
        for path in ["/proc/acpi", "/proc/kcore", "/proc/keys", "/sys/firmware"] {
            assert!(masked.contains(&json!(path)), "{path}");
        }
        let kinds: Vec<&str> = config["linux"]["namespaces"]
            .as_array()
            .map(|a| a.iter().filter_map(|n| n["type"].as_str()).collect())
            .unwrap_or_default();
        for kind in ["pid", "network", "ipc", "uts", "mount"] {
            assert!(kinds.contains(&kind), "{kind}");
        }
        // As a person does it: no terminal, another command. This machine lets nobody raise limits.
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["echo", "works"]);
        config["process"]["rlimits"] = json!([]);
        std::fs::write(&file, config.to_string()).expect("write config.json");
        assert_eq!(t.with_bundle("run", &[]).run().ok().text(), "works");
    });
}

#[test]
fn spec_takes_a_directory() {
    case(|t| {
        let dir = t.new_dir("other");
        let _ = t
            .runtime(&["spec", "--bundle", dir.to_str().expect("UTF-8")])
            .run()
            .ok();
        assert!(dir.join("config.json").exists());
    });
}

#[test]
fn spec_does_not_overwrite() {
    case(|t| {
        t.write_raw("mine");
        let message = t.runtime(&["spec"]).dir(t.bundle()).run().refused();
        assert!(message.contains("exist"), "{message}");
        let text = std::fs::read_to_string(t.bundle().join("config.json")).expect("read");
        assert_eq!(text, "mine");
    });
}

#[test]
fn spec_for_users_without_privileges() {
    case(|t| {
        let dir = t.new_dir("other");
        let _ = t.runtime(&["spec", "--rootless"]).dir(&dir).run().ok();
        let text = std::fs::read_to_string(dir.join("config.json")).expect("read");
        let config: Value = serde_json::from_str(&text).expect("JSON");
        let namespaces = config["linux"]["namespaces"].to_string();
        assert!(namespaces.contains("user"), "{namespaces}");
        let map = &config["linux"]["uidMappings"][0];
        assert_eq!(
            (&map["containerID"], &map["hostID"], &map["size"]),
            (
                &json!(0),
                &json!(rustix::process::geteuid().as_raw()),
                &json!(1)
            )
        );
        assert!(config["linux"]["resources"].is_null());
    });
}

#[test]
fn features_tell_what_there_is() {
    case(|t| {
        let f = t.runtime(&["features"]).run().ok().json();
        assert!(f["ociVersionMin"].is_string() && f["ociVersionMax"].is_string());
        let has = |path: &str, word: &str| {
            let list = f.pointer(path).and_then(Value::as_array);
            let list = list.unwrap_or_else(|| panic!("no {path}"));
            assert!(list.contains(&json!(word)), "{word} in {path}");
        };
        for hook in [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ] {
            has("/hooks", hook);
        }
        for option in ["ro", "rbind", "rro", "rslave", "nosuid", "tmpcopyup"] {
            has("/mountOptions", option);
        }
        for kind in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
            has("/linux/namespaces", kind);
        }
        has("/linux/capabilities", "CAP_SYS_ADMIN");
        assert_eq!(f["linux"]["cgroup"]["v1"], true);
        assert_eq!(f["linux"]["cgroup"]["v2"], true);
        assert_eq!(f["linux"]["seccomp"]["enabled"], true);
        has("/linux/seccomp/actions", "SCMP_ACT_NOTIFY");
        has("/linux/seccomp/operators", "SCMP_CMP_MASKED_EQ");
        has("/linux/seccomp/archs", "SCMP_ARCH_X86_64");
    });
}

#[test]
fn features_of_the_newest_specification() {
    case(|t| {
        let f = t.runtime(&["features"]).run().ok().json();
        for path in [
            "/linux/mountExtensions/idmap/enabled",
            "/linux/netDevices/enabled",
            "/linux/intelRdt/enabled",
            "/linux/apparmor/enabled",
            "/linux/selinux/enabled",
        ] {
            assert!(f.pointer(path).is_some_and(Value::is_boolean), "{path}");
        }
        assert!(f["linux"]["memoryPolicy"]["modes"].is_array());
        assert!(f["linux"]["seccomp"]["knownFlags"].is_array());
        assert!(f["linux"]["seccomp"]["supportedFlags"].is_array());
        assert!(f["potentiallyUnsafeConfigAnnotations"].is_array());
        let namespaces = f["linux"]["namespaces"].as_array().expect("namespaces");
        assert!(namespaces.contains(&json!("time")));
    });
}

#[test]
fn features_are_true() {
    case(|t| {
        // Every namespace kind that is listed can be made, where the kernel has it: the list is
        // of what the runtime knows (features.md, namespaces).
        let f = t.runtime(&["features"]).run().ok().json();
        let kinds = f["linux"]["namespaces"]
            .as_array()
            .expect("namespaces")
            .clone();
        for kind in kinds.iter().filter_map(Value::as_str) {
            let name = match kind {
                "network" => "net",
                "mount" => "mnt",
                other => other,
            };
            // clone(2) has no flag for a time namespace; clone3(2) has.
            let unknown = name == "time" && ground().lacks("clone3");
            if unknown || !host::has_namespace(name) {
                continue;
            }
            let out = t.run(|c| match kind {
                "user" => user_ns(c, 200_000, 65536),
                kind => ns(c, kind),
            });
            assert_eq!(out.code(), 0, "{kind}: {out}");
        }
    });
}

#[test]
fn the_version_has_lines_that_go_runc_parses() {
    case(|t| {
        let out = t.runtime(&["--version"]).run().ok();
        let mut lines = out.stdout.lines();
        assert!(lines.next().unwrap_or("").contains(" version "), "{out}");
        assert!(
            out.stdout.lines().any(|l| l.starts_with("commit: ")),
            "{out}"
        );
        assert!(out.stdout.lines().any(|l| l.starts_with("spec: ")), "{out}");
        assert_eq!(t.runtime(&["-v"]).run().ok().stdout, out.stdout);
    });
}

#[test]
fn help_names_the_commands() {
    case(|t| {
        for flag in ["--help", "-h"] {
            let out = t.runtime(&[flag]).run().ok();
            for command in [
                "create",
                "start",
                "run",
                "exec",
                "ps",
                "list",
                "state",
                "pause",
                "resume",
                "kill",
                "delete",
                "update",
                "events",
                "spec",
                "features",
                "checkpoint",
                "restore",
            ] {
                assert!(out.stdout.contains(command), "{command}: {out}");
            }
        }
    });
}

#[test]
fn every_command_has_help_with_its_flags() {
    case(|t| {
        for (command, flags) in [
            (
                "create",
                "bundle console-socket pidfd-socket pid-file no-pivot no-new-keyring preserve-fds",
            ),
            (
                "run",
                "bundle console-socket pidfd-socket pid-file no-pivot no-new-keyring preserve-fds detach no-subreaper keep",
            ),
            (
                "exec",
                "console-socket pidfd-socket cwd env tty user additional-gids process detach pid-file process-label apparmor no-new-privs cap preserve-fds ignore-paused cgroup",
            ),
            ("kill", "all"),
            ("delete", "force"),
            ("list", "format quiet"),
            ("ps", "format"),
            ("spec", "bundle rootless"),
            (
                "update",
                "resources blkio-weight cpu-period cpu-quota cpu-burst cpu-share cpu-rt-period cpu-rt-runtime cpuset-cpus cpuset-mems memory memory-reservation memory-swap pids-limit l3-cache-schema mem-bw-schema cpu-idle",
            ),
            ("events", "stats interval"),
            (
                "checkpoint",
                "image-path work-path parent-path leave-running tcp-established ext-unix-sk shell-job lazy-pages status-fd page-server file-locks pre-dump manage-cgroups-mode empty-ns auto-dedup",
            ),
            (
                "restore",
                "console-socket image-path work-path tcp-established ext-unix-sk shell-job file-locks manage-cgroups-mode bundle detach pid-file no-subreaper no-pivot empty-ns auto-dedup lazy-pages lsm-profile lsm-mount-context",
            ),
        ] {
            let out = t.runtime(&[command, "--help"]).run().ok();
            for flag in flags.split(' ') {
                assert!(
                    out.stdout.contains(&format!("--{flag}")),
                    "{command} --{flag}: {out}"
                );
            }
        }
    });
}

//! `process.user`, capabilities, noNewPrivileges, limits, OOM score, security labels.

use std::collections::BTreeSet;

use runtime_suite::prelude::*;

#[test]
fn uid_gid_and_groups() {
    case(|t| {
        let r = t.report(|c| {
            c["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 2000]});
        });
        assert_eq!(r.ids("Uid"), [1000; 4]);
        assert_eq!(r.ids("Gid"), [1001; 4]);
        assert_eq!(r.ids("Groups"), [5, 2000]);
    });
}

#[test]
fn no_group_comes_from_the_caller() {
    case(|t| {
        t.needs_root("groups to come from");
        t.write(|c| args(c, &["/bin/probe", "report"]));
        let mut caller = std::process::Command::new("setpriv");
        caller.args(["--groups", "4,24"]);
        let out = t.with_bundle("run", &[]).under(&caller).run().ok();
        assert!(Report::new(&out.stdout).ids("Groups").is_empty());
    });
}

#[test]
fn the_umask_is_set() {
    case(|t| {
        let r = t.report(|c| c["process"]["user"] = json!({"uid": 0, "gid": 0, "umask": 0o027}));
        assert_eq!(r.status("Umask"), "0027");
    });
}

#[test]
fn without_an_umask_the_callers_stays() {
    case(|t| {
        t.write(|c| args(c, &["/bin/probe", "report"]));
        let mut caller = std::process::Command::new("sh");
        caller.args(["-c", "umask 0035; exec \"$0\" \"$@\""]);
        let out = t.with_bundle("run", &[]).under(&caller).run().ok();
        assert_eq!(Report::new(&out.stdout).status("Umask"), "0035");
    });
}

fn set(names: &[&'static str]) -> BTreeSet<&'static str> {
    names.iter().copied().collect()
}

#[test]
fn all_five_capability_sets() {
    case(|t| {
        let r = t.report(|c| {
            c["process"]["capabilities"] = json!({
                "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW", "CAP_SETUID"],
                "permitted": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"],
                "effective": ["CAP_KILL", "CAP_CHOWN"],
                "inheritable": ["CAP_NET_RAW", "CAP_CHOWN"],
                "ambient": ["CAP_CHOWN"]
            });
            c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        });
        // At execve(2) of a program without file capabilities, a user who is not root keeps the
        // ambient set, and the effective one follows it (capabilities(7)).
        assert_eq!(
            r.caps("CapBnd"),
            set(&["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW", "CAP_SETUID"])
        );
        assert_eq!(r.caps("CapInh"), set(&["CAP_NET_RAW", "CAP_CHOWN"]));
        assert_eq!(r.caps("CapAmb"), set(&["CAP_CHOWN"]));
        assert_eq!(r.caps("CapPrm"), set(&["CAP_CHOWN"]));
        assert_eq!(r.caps("CapEff"), set(&["CAP_CHOWN"]));
    });
}

#[test]
fn root_has_its_bounding_set() {
    case(|t| {
        let r = t.report(|c| caps(c, &["CAP_KILL", "CAP_CHOWN"]));
        for which in ["CapBnd", "CapPrm", "CapEff"] {
            assert_eq!(r.caps(which), set(&["CAP_KILL", "CAP_CHOWN"]), "{which}");
        }
        assert_eq!(r.caps("CapInh"), set(&[]));
        assert_eq!(r.caps("CapAmb"), set(&[]));
    });
}

#[test]
fn no_capabilities_at_all() {
    case(|t| {
        let r = t.report(|c| c["process"]["capabilities"] = json!({}));
        for which in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(r.caps(which), set(&[]), "{which}");
        }
    });
}

#[test]
fn an_unknown_capability_is_a_warning() {
    case(|t| {
        let r = t.report(|c| caps(c, &["CAP_KILL", "CAP_TELEPATHY"]));
        assert_eq!(r.caps("CapEff"), set(&["CAP_KILL"]));
    });
}

#[test]
fn a_capability_that_cannot_be_granted_is_a_warning() {
    case(|t| {
        t.needs(
            host::bounding() & (1 << 24) == 0,
            "a machine without CAP_SYS_RESOURCE",
        );
        let r = t.report(|c| caps(c, &["CAP_KILL", "CAP_SYS_RESOURCE"]));
        assert_eq!(r.caps("CapEff"), set(&["CAP_KILL"]));
        assert_eq!(r.caps("CapBnd"), set(&["CAP_KILL"]));
    });
}

#[test]
fn no_new_privileges() {
    case(|t| {
        let r = t.report(|c| c["process"]["noNewPrivileges"] = json!(true));
        assert_eq!(r.status("NoNewPrivs"), "1");
        let r = t.report(|c| c["process"]["noNewPrivileges"] = json!(false));
        assert_eq!(r.status("NoNewPrivs"), "0");
    });
}

#[test]
fn limits_are_set() {
    case(|t| {
        let r = t.report(|c| {
            c["process"]["rlimits"] = json!([
                {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096},
                {"type": "RLIMIT_NICE", "soft": 0, "hard": 0},
                {"type": "RLIMIT_STACK", "soft": 4_194_304, "hard": 8_388_608}
            ]);
        });
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(r.limit("Max open files"), pair("100", "200"));
        assert_eq!(r.limit("Max core file size"), pair("0", "4096"));
        assert_eq!(r.limit("Max nice priority"), pair("0", "0"));
        assert_eq!(r.limit("Max stack size"), pair("4194304", "8388608"));
    });
}

#[test]
fn every_kind_of_limit_is_known() {
    case(|t| {
        let kinds = [
            "AS",
            "CORE",
            "CPU",
            "DATA",
            "FSIZE",
            "LOCKS",
            "MEMLOCK",
            "MSGQUEUE",
            "NICE",
            "NOFILE",
            "NPROC",
            "RSS",
            "RTPRIO",
            "RTTIME",
            "SIGPENDING",
            "STACK",
        ];
        for kind in kinds {
            // Within what this process has, so that no privilege is needed.
            let out = t.run(|c| {
                let (soft, hard) = own_limit(kind);
                let limit = json!({"type": format!("RLIMIT_{kind}"), "soft": soft, "hard": hard});
                c["process"]["rlimits"] = json!([limit]);
            });
            assert_eq!(out.code(), 0, "{kind}: {out}");
        }
    });
}

/// Soft and hard limit of this process; the specification writes `unlimited` as the maximum.
fn own_limit(kind: &str) -> (u64, u64) {
    let name = match kind {
        "AS" => "Max address space",
        "CORE" => "Max core file size",
        "CPU" => "Max cpu time",
        "DATA" => "Max data size",
        "FSIZE" => "Max file size",
        "LOCKS" => "Max file locks",
        "MEMLOCK" => "Max locked memory",
        "MSGQUEUE" => "Max msgqueue size",
        "NICE" => "Max nice priority",
        "NOFILE" => "Max open files",
        "NPROC" => "Max processes",
        "RSS" => "Max resident set",
        "RTPRIO" => "Max realtime priority",
        "RTTIME" => "Max realtime timeout",
        "SIGPENDING" => "Max pending signals",
        _ => "Max stack size",
    };
    let text = std::fs::read_to_string("/proc/self/limits").expect("read limits");
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name))
        .expect("the limit");
    let mut words = line.split_whitespace();
    let mut next = || {
        words
            .next()
            .and_then(|w| w.parse().ok())
            .unwrap_or(u64::MAX)
    };
    (next(), next())
}

#[test]
fn a_limit_given_twice_is_refused() {
    case(|t| {
        let one = json!({"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200});
        let _ = t
            .create(|c| c["process"]["rlimits"] = json!([one, one]))
            .refused();
    });
}

#[test]
fn an_unknown_limit_is_refused() {
    case(|t| {
        let one = json!({"type": "RLIMIT_PATIENCE", "soft": 1, "hard": 2});
        let _ = t
            .create(|c| c["process"]["rlimits"] = json!([one]))
            .refused();
    });
}

#[test]
fn a_soft_limit_above_the_hard_one_is_refused() {
    case(|t| {
        let one = json!({"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100});
        let _ = t
            .create(|c| c["process"]["rlimits"] = json!([one]))
            .refused();
    });
}

#[test]
fn the_oom_score_is_set() {
    case(|t| {
        let r = t.report(|c| c["process"]["oomScoreAdj"] = json!(321));
        assert_eq!(r.file("oom_score_adj").trim(), "321");
    });
}

#[test]
fn without_an_oom_score_the_callers_stays() {
    case(|t| {
        t.write(|c| args(c, &["/bin/probe", "report"]));
        let mut caller = std::process::Command::new("sh");
        caller.args([
            "-c",
            "echo 123 >/proc/self/oom_score_adj; exec \"$0\" \"$@\"",
        ]);
        let out = t.with_bundle("run", &[]).under(&caller).run().ok();
        assert_eq!(Report::new(&out.stdout).file("oom_score_adj").trim(), "123");
    });
}

#[test]
fn an_apparmor_profile_is_applied_or_refused() {
    case(|t| {
        let out = t.run(|c| {
            c["process"]["apparmorProfile"] = json!("unconfined-suite");
        });
        if !host::has_lsm("apparmor") {
            let message = out.refused().to_lowercase();
            assert!(message.contains("apparmor"), "{message}");
        }
    });
}

/// A profile under a name of the case's own, until the case ends.
fn load_profile(t: &Case, rules: &str) -> String {
    t.needs(host::has_lsm("apparmor"), "AppArmor");
    t.needs_root("loading a profile of AppArmor");
    let parser = host::succeeds("apparmor_parser", &["--version"]);
    t.needs(parser, "apparmor_parser(8)");
    let name = format!("suite-{}", t.token());
    let text = format!("profile {name} flags=(attach_disconnected) {{\n{rules}\n}}\n");
    let file = t.new_file("profile", &text);
    let file = file.to_str().expect("UTF-8").to_owned();
    let parser = |flag: &str| host::succeeds("apparmor_parser", &["--skip-cache", flag, &file]);
    assert!(parser("--add"), "cannot load the profile");
    t.at_end(move || {
        let args = ["--skip-cache", "--remove", &file];
        assert!(
            host::succeeds("apparmor_parser", &args),
            "cannot remove the profile"
        );
    });
    name
}

#[test]
fn an_apparmor_profile_confines_the_program_and_execs() {
    case(|t| {
        let name = load_profile(t, "file,\ncapability,\nsignal,\ndeny /data/secret rw,");
        std::fs::write(t.rootfs().join("data/secret"), "secret").expect("write");
        t.up(|c| c["process"]["apparmorProfile"] = json!(name));
        let attribute = std::fs::read_to_string(format!("/proc/{}/attr/current", t.pid()));
        assert_eq!(attribute.expect("read").trim(), format!("{name} (enforce)"));
        let out = t.exec(&[], &["/bin/cat", "/data/secret"]);
        assert!(out.stderr.contains("Permission denied"), "{out}");
        let out = t.exec(&["--apparmor", "unconfined"], &["/bin/cat", "/data/secret"]);
        // An exec names its own, unless it may gain no privileges.
        assert!(out.text() == "secret" || out.code() != 0, "{out}");
    });
}

#[test]
fn an_selinux_label_is_applied_or_refused() {
    case(|t| {
        t.needs(!host::has_lsm("selinux"), "a machine without SELinux");
        let label = "system_u:system_r:container_t:s0:c1,c2";
        let message = t
            .create(|c| c["process"]["selinuxLabel"] = json!(label))
            .refused();
        assert!(message.to_lowercase().contains("selinux"), "{message}");
        let _ = t
            .create(|c| c["linux"]["mountLabel"] = json!(label))
            .refused();
    });
}

#[test]
fn the_session_keyring_is_new() {
    case(|t| {
        t.needs(Path::new("/proc/keys").exists(), "keyrings");
        // Not the caller's: a new one, with the container's id in its name.
        let keys = t.sh("cat /proc/keys", |c| c["linux"]["maskedPaths"] = json!([]));
        assert!(keys.contains(t.id()), "{keys}");
    });
}

//! Users, groups and capabilities (CVE-2016-3697, CVE-2022-29162, CVE-2022-27650, CVE-2022-2995,
//! CVE-2024-40635, CVE-2024-9676, CVE-2026-30892).

use std::os::unix::fs::symlink;
use std::process::Command;

use runtime_suite::prelude::*;

#[test]
fn no_capability_is_inheritable_unless_asked_for() {
    case(|t| {
        let both = |r: &Report| (r.caps("CapInh").len(), r.caps("CapAmb").len());
        assert_eq!(
            both(&t.report(|c| caps(c, &["CAP_KILL", "CAP_CHOWN"]))),
            (0, 0)
        );
        t.up(|c| caps(c, &["CAP_KILL", "CAP_CHOWN"]));
        assert_eq!(both(&t.exec_report(&[])), (0, 0));
        assert_eq!(both(&t.exec_report(&["--user", "1000"])), (0, 0));
    });
}

#[test]
fn an_added_capability_is_not_inheritable() {
    case(|t| {
        t.up(|c| caps(c, &["CAP_KILL"]));
        let r = t.exec_report(&["--cap", "CAP_NET_RAW"]);
        assert!(r.caps("CapEff").contains("CAP_NET_RAW"));
        assert!(r.caps("CapInh").is_empty(), "{:?}", r.caps("CapInh"));
    });
}

#[test]
fn a_user_has_no_capability_of_root() {
    case(|t| {
        let r = t.report(|c| {
            caps(c, &["CAP_KILL", "CAP_CHOWN", "CAP_DAC_OVERRIDE"]);
            c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        });
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert!(r.caps(set).is_empty(), "{set}: {:?}", r.caps(set));
        }
        t.up(|c| caps(c, &["CAP_KILL", "CAP_CHOWN"]));
        let r = t.exec_report(&["--user", "1000:1000"]);
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert!(r.caps(set).is_empty(), "{set}: {:?}", r.caps(set));
        }
    });
}

/// Words that are no number below 2^32 - 1. One of them read as 0, or cut to 32 bits, or passed
/// to setuid(2) as -1, runs as root.
const NO_IDS: [&str; 13] = [
    ":",
    "user",
    "1000x",
    "x1000",
    "0x3e8",
    "1e3",
    "1000.0",
    " 1000",
    "1000 ",
    "-1",
    "4294967295",
    "4294967296",
    "18446744073709552616",
];

#[test]
fn users_that_are_no_numbers_are_refused() {
    case(|t| {
        t.up(|_| {});
        for user in NO_IDS {
            let out = t.exec(&["--user", user], &["/bin/id", "-u"]);
            assert_ne!(out.code(), 0, "{user:?} was taken: {out}");
        }
    });
}

#[test]
fn groups_that_are_no_numbers_are_refused() {
    case(|t| {
        t.up(|_| {});
        for group in NO_IDS {
            let user = format!("1000:{group}");
            let out = t.exec(&["--user", &user], &["/bin/id", "-g"]);
            assert_ne!(out.code(), 0, "{user:?} was taken: {out}");
        }
        let out = t.exec(&["--user", "1000:1000:1000"], &["/bin/id", "-g"]);
        assert_ne!(out.code(), 0, "{out}");
    });
}

/// Control: with numbers, the same command succeeds, as that user.
#[test]
fn control_users_that_are_numbers_are_taken() {
    case(|t| {
        t.up(|_| {});
        let out = t.exec(&["--user", "1000:1001"], &["/bin/id", "-u"]).ok();
        assert_eq!(out.text(), "1000");
    });
}

#[test]
fn ids_that_mean_no_change_are_refused() {
    case(|t| {
        // setresuid(2) takes -1 as "leave it as it is", which is root.
        for user in [
            json!({"uid": 4_294_967_295_u32, "gid": 1000}),
            json!({"uid": 1000, "gid": 4_294_967_295_u32}),
        ] {
            let out = t.run(|c| {
                c["process"]["user"] = user.clone();
                script(c, "id -u; id -g");
            });
            assert!(!out.stdout.lines().any(|l| l == "0"), "{user}: {out}");
        }
        t.up(|_| {});
        let mut process = t.config(|_| {})["process"].clone();
        process["args"] = json!(["/bin/id", "-u"]);
        process["user"]["uid"] = json!(4_294_967_295_u32);
        let out = t.exec_process(&[], &process);
        assert_ne!(out.text(), "0", "{out}");
    });
}

#[test]
fn a_numeric_name_in_passwd_is_no_user() {
    case(|t| {
        // CVE-2016-3697: a user named 1000 who is root.
        let passwd = t.rootfs().join("etc/passwd");
        std::fs::write(&passwd, "1000:x:0:0:root:/root:/bin/sh\n").expect("write");
        t.up(|_| {});
        assert_eq!(
            t.exec(&["--user", "1000"], &["/bin/id", "-u"]).ok().text(),
            "1000"
        );
    });
}

#[test]
fn groups_of_the_caller_do_not_get_in() {
    case(|t| {
        t.needs_root("groups to come from");
        let mut caller = Command::new("setpriv");
        caller.args(["--groups", "4,24,27"]);
        t.write(|c| args(c, &["/bin/probe", "report"]));
        let out = t.with_bundle("run", &[]).under(&caller).run().ok();
        assert!(Report::new(&out.stdout).ids("Groups").is_empty(), "{out}");
        t.up(|_| {});
        let exec = t.exec_cmd(&["--user", "1000"], &["/bin/probe", "report"]);
        let out = exec.under(&caller).run().ok();
        assert!(Report::new(&out.stdout).ids("Groups").is_empty(), "{out}");
    });
}

/// The effective user of a program with the set-user-ID bit of root, run by another user.
fn effective_uid(t: &Case, no_new_privileges: bool) -> u32 {
    let file = t.rootfs().join("data/probe");
    let source = t.rootfs().join("bin/probe");
    let copied = Command::new("cp").arg(source).arg(&file).status();
    assert!(copied.expect("run cp").success());
    rustix::fs::chmod(&file, rustix::fs::Mode::from_raw_mode(0o4755)).expect("chmod");
    let r = t.report(|c| {
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        c["process"]["noNewPrivileges"] = json!(no_new_privileges);
        args(c, &["/data/probe", "report"]);
    });
    r.ids("Uid")[1]
}

#[test]
fn without_new_privileges_a_set_user_id_program_is_an_ordinary_one() {
    case(|t| assert_eq!(effective_uid(t, true), 1000));
}

/// Control: where new privileges are allowed, the program gets them.
#[test]
fn control_with_new_privileges_it_is_root() {
    case(|t| assert_eq!(effective_uid(t, false), 0));
}

/// CVE-2024-9676: the file of users is a trap.
#[test]
fn a_passwd_that_is_a_fifo_does_not_hang_the_runtime() {
    case(|t| {
        for name in ["etc/passwd", "etc/group"] {
            let path = t.rootfs().join(name);
            std::fs::remove_file(&path).expect("remove");
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).expect("mkfifo");
        }
        t.write(|c| args(c, &["/bin/true"]));
        let run = t.with_bundle("run", &[]).patience(Duration::from_secs(5));
        println!("{}", run.run());
    });
}

#[test]
fn a_passwd_that_leads_to_the_host_is_not_read() {
    case(|t| {
        let outside = t.new_file("passwd", "root:x:0:0:root:/home-of-the-host:/bin/sh\n");
        let path = t.rootfs().join("etc/passwd");
        std::fs::remove_file(&path).expect("remove");
        symlink(&outside, &path).expect("symlink");
        let home = t.sh("echo $HOME", |_| {});
        assert_ne!(home, "/home-of-the-host");
    });
}

#[test]
fn a_home_with_odd_characters_is_one_variable() {
    case(|t| {
        // CVE-2022-4318 was about a line's end; passwd(5) cannot hold one, an environment can.
        let r = t.report(|c| env(c, "HOME=/x\nevil:x:0:0::/:/bin/sh"));
        assert_eq!(r.var("HOME"), Some("/x\nevil:x:0:0::/:/bin/sh"));
        let passwd = std::fs::read_to_string(t.rootfs().join("etc/passwd")).expect("read");
        assert!(!passwd.contains("evil"));
    });
}

#[test]
fn a_huge_passwd_is_no_burden() {
    case(|t| {
        let line = "u:x:5:5::/:/bin/sh\n";
        std::fs::write(t.rootfs().join("etc/passwd"), line.repeat(2_000_000)).expect("write");
        let begin = Instant::now();
        let _ = t.run(|_| {});
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{:?}",
            begin.elapsed()
        );
    });
}

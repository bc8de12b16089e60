//! `exec`: flags, process documents, exit codes.

use std::collections::BTreeSet;

use runtime_suite::prelude::*;

#[test]
fn exit_codes() {
    case(|t| {
        t.up(|_| {});
        for code in [0, 1, 42, 255] {
            let _ = t
                .exec(&[], &["/bin/sh", "-c", &format!("exit {code}")])
                .exits(code);
        }
        let _ = t.exec(&[], &["/bin/sh", "-c", "kill -9 $$"]).exits(137);
        let _ = t.exec(&[], &["/bin/sh", "-c", "kill -15 $$"]).exits(143);
    });
}

#[test]
fn an_error_of_the_runtime_is_255() {
    case(|t| {
        t.up(|_| {});
        let out = t.exec(&["--cwd", "relative"], &["/bin/true"]);
        assert_eq!(out.code(), 255, "{out}");
        let out = t.runtime(&["exec", "unknown-container", "/bin/true"]).run();
        assert_ne!(out.code(), 0, "{out}");
    });
}

#[test]
fn a_program_that_cannot_run() {
    case(|t| {
        t.up(|_| {});
        for (program, words) in [
            ("/bin/missing", "no such file or directory"),
            ("missing", "not found in"),
            ("/etc/passwd", "permission denied"),
        ] {
            let out = t.exec(&[], &[program]);
            assert_ne!(out.code(), 0, "{out}");
            assert!(out.refused().to_lowercase().contains(words), "{program}");
        }
        assert_eq!(t.status(), "running");
    });
}

#[test]
fn output_errors_and_input() {
    case(|t| {
        t.up(|_| {});
        let out = t
            .exec_cmd(&[], &["/bin/sh", "-c", "cat; echo err >&2"])
            .run_with_input("in\n")
            .ok();
        assert_eq!(
            (out.stdout.as_str(), out.stderr.as_str()),
            ("in\n", "err\n")
        );
    });
}

#[test]
fn flags_of_the_command_are_not_the_runtimes() {
    case(|t| {
        t.up(|_| {});
        let out = t.exec(&[], &["/bin/echo", "-e", "--tty", "-u", "x"]);
        assert_eq!(out.ok().text(), "--tty -u x");
    });
}

#[test]
fn the_defaults_are_the_containers() {
    case(|t| {
        t.up(|c| {
            c["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [7]});
            c["process"]["cwd"] = json!("/usr");
            env(c, "FROM_CONFIG=yes");
            c["process"]["oomScoreAdj"] = json!(300);
            c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}]);
        });
        let r = t.exec_report(&[]);
        assert_eq!(r.ids("Uid"), [1000; 4]);
        assert_eq!(r.ids("Gid"), [1001; 4]);
        assert_eq!(r.cwd(), "/usr");
        assert_eq!(r.var("FROM_CONFIG"), Some("yes"));
        assert_eq!(r.status("NoNewPrivs"), "1");
        assert_eq!(r.limit("Max open files"), ("99".into(), "99".into()));
        assert_eq!(r.file("oom_score_adj").trim(), "300");
    });
}

#[test]
fn it_joins_the_cgroups() {
    case(|t| {
        t.up(|_| {});
        let init = std::fs::read_to_string(format!("/proc/{}/cgroup", t.pid())).expect("read");
        let mut exec = t.exec_cmd(&[], &["/bin/sleep", "88"]).spawn();
        let mut found = None;
        wait_until("the process is there", || {
            found = runtime_suite::leaks::processes(t.token())
                .into_iter()
                .find(|p| {
                    std::fs::read_to_string(format!("/proc/{p}/cmdline"))
                        .is_ok_and(|c| c == "/bin/sleep\u{0}88\u{0}")
                });
            found.is_some() || !exec.is_running()
        });
        let pid = found.expect("the executed process");
        let theirs = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read");
        for (a, b) in init.lines().zip(theirs.lines()) {
            // On the unified tree an exec may have a leaf of its own below the container's.
            assert!(b.starts_with(a), "{a} {b}");
        }
    });
}

#[test]
fn user_by_number() {
    case(|t| {
        t.up(|_| {});
        let ids = |user: &str| {
            let r = t.exec_report(&["--user", user]);
            (r.ids("Uid")[0], r.ids("Gid")[0])
        };
        assert_eq!(ids("1000"), (1000, 0));
        assert_eq!(ids("1000:2000"), (1000, 2000));
        assert_eq!(ids("0:5"), (0, 5));
        let r = t.exec_report(&["-u", "33:44"]);
        assert_eq!((r.ids("Uid"), r.ids("Gid")), (vec![33; 4], vec![44; 4]));
    });
}

#[test]
fn additional_groups() {
    case(|t| {
        t.up(|_| {});
        let r = t.exec_report(&["--additional-gids", "5", "--additional-gids", "6"]);
        assert_eq!(r.ids("Groups"), [5, 6]);
        let r = t.exec_report(&["-g", "9", "-u", "1:1"]);
        assert_eq!(r.ids("Groups"), [9]);
    });
}

#[test]
fn working_directory_and_environment() {
    case(|t| {
        t.up(|c| env(c, "OLD=old"));
        let r = t.exec_report(&["--cwd", "/usr/bin", "-e", "ONE=1", "-e", "TWO=a=b c"]);
        assert_eq!(r.cwd(), "/usr/bin");
        assert_eq!(
            (r.var("ONE"), r.var("TWO"), r.var("OLD")),
            (Some("1"), Some("a=b c"), Some("old"))
        );
        let r = t.exec_report(&["--env", "OLD=new"]);
        assert_eq!(r.var("OLD"), Some("new"));
        let count = r.env().iter().filter(|v| v.starts_with("OLD=")).count();
        assert_eq!(count, 1);
    });
}

#[test]
fn capabilities_are_added() {
    case(|t| {
        t.up(|c| caps(c, &["CAP_KILL"]));
        let r = t.exec_report(&["--cap", "CAP_CHOWN", "--cap", "CAP_NET_RAW"]);
        let want: BTreeSet<_> = ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"].into();
        assert_eq!(r.caps("CapEff"), want);
        assert_eq!(r.caps("CapBnd"), want);
        assert_eq!(t.exec_report(&[]).caps("CapEff"), ["CAP_KILL"].into());
    });
}

#[test]
fn no_new_privileges_is_added() {
    case(|t| {
        t.up(|c| c["process"]["noNewPrivileges"] = json!(false));
        assert_eq!(t.exec_report(&[]).status("NoNewPrivs"), "0");
        assert_eq!(t.exec_report(&["--no-new-privs"]).status("NoNewPrivs"), "1");
    });
}

#[test]
fn labels_without_their_module_are_refused() {
    case(|t| {
        t.up(|_| {});
        if !host::has_lsm("apparmor") {
            let out = t.exec(&["--apparmor", "some-profile"], &["/bin/true"]);
            assert!(out.refused().to_lowercase().contains("apparmor"));
        }
        if !host::has_lsm("selinux") {
            let label = "system_u:system_r:container_t:s0";
            let out = t.exec(&["--process-label", label], &["/bin/true"]);
            assert!(out.refused().to_lowercase().contains("selinux"));
        }
    });
}

#[test]
fn detached_it_returns_at_once() {
    case(|t| {
        t.up(|_| {});
        let file = t.dir().join("pid");
        let flags = ["--detach", "--pid-file", file.to_str().expect("UTF-8")];
        let begin = Instant::now();
        let _ = t.exec(&flags, &["/bin/sleep", "1000"]).ok();
        assert!(begin.elapsed() < Duration::from_secs(10));
        let pid: i32 = std::fs::read_to_string(&file)
            .expect("read the pid file")
            .parse()
            .expect("a pid alone");
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("read comm");
        assert_eq!(name.trim(), "sleep");
        assert_eq!(
            host::namespace(&pid.to_string(), "pid"),
            host::namespace(&t.pid().to_string(), "pid")
        );
    });
}

#[test]
fn a_detached_program_that_is_missing_is_an_error() {
    case(|t| {
        t.up(|_| {});
        let _ = t.exec(&["--detach"], &["/bin/missing"]).refused();
    });
}

fn document(t: &Case) -> Value {
    let mut process = t.config(|_| {})["process"].clone();
    process["args"] = json!(["/bin/probe", "report"]);
    process
}

#[test]
fn a_process_document() {
    case(|t| {
        t.up(|c| env(c, "FROM_CONFIG=yes"));
        let mut process = document(t);
        process["user"] = json!({"uid": 5, "gid": 6, "additionalGids": [7], "umask": 0o077});
        process["cwd"] = json!("/usr");
        process["env"] = json!(["PATH=/bin", "ONLY=this"]);
        process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}]);
        process["capabilities"] = json!({
            "bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"],
            "inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]
        });
        process["noNewPrivileges"] = json!(false);
        process["oomScoreAdj"] = json!(577);
        let out = t.exec_process(&[], &process).ok();
        let r = Report::new(&out.stdout);
        assert_eq!(
            (r.ids("Uid"), r.ids("Gid"), r.ids("Groups")),
            (vec![5; 4], vec![6; 4], vec![7])
        );
        assert_eq!(r.status("Umask"), "0077");
        assert_eq!(r.cwd(), "/usr");
        assert_eq!((r.var("ONLY"), r.var("FROM_CONFIG")), (Some("this"), None));
        assert_eq!(r.limit("Max open files"), ("50".into(), "60".into()));
        assert_eq!(r.caps("CapEff"), ["CAP_CHOWN"].into());
        assert_eq!(r.caps("CapAmb"), ["CAP_CHOWN"].into());
        assert_eq!(r.status("NoNewPrivs"), "0");
        assert_eq!(r.file("oom_score_adj").trim(), "577");
    });
}

#[test]
fn a_bad_process_document_is_refused() {
    case(|t| {
        t.up(|_| {});
        let mut relative = document(t);
        relative["cwd"] = json!("usr");
        let mut empty = document(t);
        empty["args"] = json!([]);
        for process in [relative, empty, json!("text"), json!({})] {
            let _ = t.exec_process(&[], &process).refused();
        }
        let _ = t
            .runtime(&["exec", "--process", "/nonexistent.json", t.id()])
            .run()
            .refused();
    });
}

#[test]
fn it_needs_a_running_container() {
    case(|t| {
        let _ = t.create(|c| args(c, &["/bin/sleep", "1000"])).ok();
        // Into a created container it is allowed: its environment is there.
        println!("{}", t.exec(&[], &["/bin/true"]));
        let _ = t.start().ok();
        t.stop();
        let out = t.exec(&[], &["/bin/true"]);
        assert_ne!(out.code(), 0, "{out}");
        let message = out.refused().to_lowercase();
        assert!(
            message.contains("stopped") || message.contains("not running"),
            "{message}"
        );
    });
}

#[test]
fn a_paused_container_is_refused() {
    case(|t| {
        t.up(|_| {});
        let _ = t.runtime(&["pause", t.id()]).run().ok();
        let message = t.exec(&[], &["/bin/true"]).refused();
        assert!(message.to_lowercase().contains("paused"), "{message}");
        let _ = t.runtime(&["resume", t.id()]).run().ok();
        let _ = t.exec(&[], &["/bin/true"]).ok();
    });
}

#[test]
fn a_paused_container_can_be_entered_when_asked() {
    case(|t| {
        t.up(|_| {});
        let _ = t.runtime(&["pause", t.id()]).run().ok();
        let exec = t
            .exec_cmd(&["--ignore-paused"], &["/bin/echo", "thawed"])
            .spawn();
        std::thread::sleep(Duration::from_millis(200));
        let _ = t.runtime(&["resume", t.id()]).run().ok();
        assert_eq!(exec.wait().ok().text(), "thawed");
    });
}

#[test]
fn signals_are_passed_on() {
    case(|t| {
        t.up(|_| {});
        let text = "trap 'echo got; exit 3' TERM; echo ready; while :; do usleep 20000; done";
        let exec = t.exec_cmd(&[], &["/bin/sh", "-c", text]).spawn();
        wait_until("it is ready", || exec.stdout().contains("ready"));
        exec.signal(rustix::process::Signal::TERM);
        let out = exec.wait();
        assert_eq!((out.code(), out.text()), (3, "ready\ngot"), "{out}");
    });
}

#[test]
fn a_container_that_stops_takes_it_along() {
    case(|t| {
        t.up(|_| {});
        let mut exec = t.exec_cmd(&[], &["/bin/sleep", "1357"]).spawn();
        let is_command = |pid: i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line == b"/bin/sleep\x001357\0"
        };
        wait_until("the command", || {
            let all = runtime_suite::leaks::processes(t.token());
            all.into_iter().any(is_command) || !exec.is_running()
        });
        t.stop();
        let _ = exec.wait().exits(137);
    });
}

#[test]
fn many_at_once() {
    case(|t| {
        t.up(|_| {});
        let all: Vec<Running> = (0..10)
            .map(|n| t.exec_cmd(&[], &["/bin/echo", &n.to_string()]).spawn())
            .collect();
        for (n, exec) in all.into_iter().enumerate() {
            assert_eq!(exec.wait().ok().text(), n.to_string());
        }
    });
}

#[test]
fn into_a_cgroup_below() {
    case(|t| {
        t.needs(host::cgroup_v1("pids"), "cgroup v1");
        t.up(|_| {});
        let below = host::cgroup_of(t.pid(), "pids").join("below");
        std::fs::create_dir(&below).expect("make a cgroup");
        let r = t.exec_report(&["--cgroup", "pids:below"]);
        let line = r
            .file("cgroup")
            .lines()
            .find(|l| l.contains(":pids:"))
            .expect("pids");
        assert!(line.ends_with("/below"), "{line}");
        let out = t.exec(&["--cgroup", "pids:missing"], &["/bin/true"]);
        let _ = out.refused();
        let out = t.exec(&["--cgroup", "pids:../.."], &["/bin/true"]);
        let _ = out.refused();
        std::fs::remove_dir(&below).expect("remove the cgroup");
    });
}

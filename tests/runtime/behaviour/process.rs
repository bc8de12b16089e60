//! `process`: arguments, environment, working directory, how the program is found, and what
//! happens when it is not.

use runtime_suite::prelude::*;

#[test]
fn arguments_are_passed_as_they_are() {
    case(|t| {
        let out = t.run(|c| args(c, &["printf", "[%s]", "a b", "", "\"'$x", "ü\n"]));
        assert_eq!(out.ok().stdout, "[a b][][\"'$x][ü\n]");
    });
}

#[test]
fn the_environment_is_the_configured_one() {
    case(|t| {
        let r = t.report(|c| {
            c["process"]["env"] = json!(["PATH=/bin", "EMPTY=", "X=a=b c", "HOME=/data"]);
        });
        let mut env = r.env();
        env.sort_unstable();
        assert_eq!(env, ["EMPTY=", "HOME=/data", "PATH=/bin", "X=a=b c"]);
    });
}

#[test]
fn without_home_it_is_the_users() {
    case(|t| {
        let home = |uid: u32| {
            let r = t.report(|c| c["process"]["user"] = json!({"uid": uid, "gid": uid}));
            r.var("HOME").map(str::to_owned)
        };
        assert_eq!(home(0).as_deref(), Some("/root"));
        assert_eq!(home(1000).as_deref(), Some("/home/user"));
        assert_eq!(home(4321).as_deref(), Some("/"));
    });
}

#[test]
fn the_program_is_looked_up_in_the_containers_path() {
    case(|t| {
        let out = t.run(|c| {
            c["process"]["env"] = json!(["PATH=/nowhere:/usr/bin:/bin"]);
            args(c, &["echo", "found"]);
        });
        assert_eq!(out.ok().text(), "found");
    });
}

#[test]
fn a_path_is_relative_to_the_working_directory() {
    case(|t| {
        let out = t.run(|c| {
            c["process"]["cwd"] = json!("/usr");
            args(c, &["../bin/echo", "found"]);
        });
        assert_eq!(out.ok().text(), "found");
    });
}

#[test]
fn the_working_directory_is_set() {
    case(|t| {
        let r = t.report(|c| c["process"]["cwd"] = json!("/usr/bin"));
        assert_eq!(r.cwd(), "/usr/bin");
        let r = t.report(|c| c["process"]["cwd"] = json!("/usr/../usr/bin"));
        assert_eq!(r.cwd(), "/usr/bin");
    });
}

#[test]
fn a_missing_working_directory_is_made() {
    case(|t| {
        let r = t.report(|c| c["process"]["cwd"] = json!("/data/not/there"));
        assert_eq!(r.cwd(), "/data/not/there");
    });
}

#[test]
fn the_working_directory_of_a_user_who_may_enter_it() {
    case(|t| {
        t.needs_root("files of others");
        // root without CAP_DAC_OVERRIDE may not, the user may.
        let data = t.rootfs().join("data");
        std::os::unix::fs::chown(&data, Some(1000), Some(1000)).expect("chown");
        rustix::fs::chmod(&data, rustix::fs::Mode::from_raw_mode(0o700)).expect("chmod");
        let r = t.report(|c| {
            c["process"]["cwd"] = json!("/data");
            c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        });
        assert_eq!(r.cwd(), "/data");
    });
}

#[test]
fn a_relative_working_directory_is_refused() {
    case(|t| {
        let _ = t
            .create(|c| c["process"]["cwd"] = json!("usr/bin"))
            .refused();
        let _ = t.create(|c| c["process"]["cwd"] = json!("")).refused();
    });
}

#[test]
fn no_arguments_are_refused() {
    case(|t| {
        let _ = t.create(|c| c["process"]["args"] = json!([])).refused();
        let _ = t
            .create(|c| {
                c["process"]
                    .as_object_mut()
                    .expect("a process")
                    .remove("args");
            })
            .refused();
    });
}

/// The error of a program that cannot be executed: callers tell them apart by these words.
fn fails_with(t: &Case, program: &str, words: &[&str]) {
    let out = t.run(|c| args(c, &[program]));
    let message = out.refused();
    let low = message.to_lowercase();
    assert!(
        words.iter().any(|w| low.contains(w)),
        "{program}: {message}"
    );
    assert!(
        message.contains(program),
        "{program} is not named: {message}"
    );
}

#[test]
fn a_program_that_is_missing() {
    case(|t| {
        fails_with(t, "/bin/missing", &["no such file or directory"]);
        let words = [
            "executable file not found in",
            "executable file `missing` not found in",
        ];
        fails_with(t, "missing", &words);
    });
}

#[test]
fn a_program_that_is_not_executable() {
    case(|t| {
        fails_with(t, "/etc/passwd", &["permission denied", "not executable"]);
        fails_with(
            t,
            "/etc",
            &["permission denied", "is a directory", "not a regular file"],
        );
    });
}

#[test]
fn a_script_without_its_interpreter() {
    case(|t| {
        let file = t.rootfs().join("bin/script");
        std::fs::write(&file, "#!/bin/nowhere\n").expect("write");
        rustix::fs::chmod(&file, rustix::fs::Mode::from_raw_mode(0o755)).expect("chmod");
        fails_with(t, "/bin/script", &["no such file or directory"]);
    });
}

#[test]
fn a_file_of_no_known_format() {
    case(|t| {
        let file = t.rootfs().join("bin/noise");
        std::fs::write(&file, "\u{1}\u{2}\u{3}").expect("write");
        rustix::fs::chmod(&file, rustix::fs::Mode::from_raw_mode(0o755)).expect("chmod");
        fails_with(t, "/bin/noise", &["exec format error"]);
    });
}

#[test]
fn a_program_on_a_noexec_mount() {
    case(|t| {
        let out = t.run(|c| {
            mount(c, "tmpfs", "tmpfs", "/data", &["noexec", "tmpcopyup"]);
            args(c, &["/data/program"]);
            bind(
                c,
                t.rootfs().join("bin/busybox"),
                "/data/program",
                &["noexec"],
            );
        });
        assert!(out.refused().to_lowercase().contains("permission denied"));
    });
}

#[test]
fn a_script_is_run_by_its_interpreter() {
    case(|t| {
        let file = t.rootfs().join("bin/script");
        std::fs::write(&file, "#!/bin/sh -e\necho \"$0 $1\"\n").expect("write");
        rustix::fs::chmod(&file, rustix::fs::Mode::from_raw_mode(0o755)).expect("chmod");
        let out = t.run(|c| args(c, &["script", "one"]));
        assert_eq!(out.ok().text(), "/bin/script one");
    });
}

#[test]
fn only_three_descriptors_are_open() {
    case(|t| {
        let numbers = |r: &Report| r.fds().iter().map(|f| f.0).collect::<Vec<_>>();
        let r = t.report(|_| {});
        assert_eq!(numbers(&r), [0, 1, 2], "{:?}", r.fds());
        t.up(|_| {});
        let r = t.exec_report(&[]);
        assert_eq!(numbers(&r), [0, 1, 2], "{:?}", r.fds());
    });
}

#[test]
fn descriptors_of_the_caller_do_not_get_in() {
    case(|t| {
        t.write(|c| args(c, &["/bin/probe", "report"]));
        let secret = t.new_file("secret", "secret");
        let fds: [(u32, &Path); 3] = [(3, &secret), (9, &secret), (7, Path::new("/etc"))];
        let out = t.with_bundle("run", &[]).with_fds(&fds).run().ok();
        let fds = Report::new(&out.stdout).fds();
        assert_eq!(fds.len(), 3, "{fds:?}");
    });
}

/// Blocked and ignored signals, without 32 and 33, which the C library does not let be changed, and
/// without SIGPIPE: Rust programs ignore it.
fn signals(r: &Report) -> (u64, u64) {
    let bits = |key| u64::from_str_radix(r.status(key), 16).expect("a mask");
    let all = !(1 << 31 | 1 << 32 | 1 << 12);
    (bits("SigBlk") & all, bits("SigIgn") & all)
}

#[test]
fn signals_are_at_their_defaults() {
    case(|t| {
        assert_eq!(signals(&t.report(|_| {})), (0, 0));
        t.up(|_| {});
        assert_eq!(signals(&t.exec_report(&[])), (0, 0));
    });
}

#[test]
fn the_first_process_leads_a_session() {
    case(|t| {
        let r = t.report(|_| {});
        // Process group and session: fields 5 and 6.
        assert_eq!((r.stat(5), r.stat(6)), (1, 1));
    });
}

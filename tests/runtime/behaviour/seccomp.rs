//! `linux.seccomp`: actions, operators, architectures, flags, and the notify listener.

use runtime_suite::prelude::*;

/// mkdir(1) fails with this text when its system call is filtered.
const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

fn mkdir_with(t: &Case, rule: &Value) -> Output {
    t.run(|c| {
        script(c, "mkdir /tmp/made && echo made");
        seccomp(c, &MKDIR, "SCMP_ACT_ERRNO");
        c["linux"]["seccomp"]["syscalls"][0] = rule.clone();
    })
}

#[test]
fn the_filter_is_on() {
    case(|t| {
        let r = t.report(|c| seccomp(c, &["mkdir"], "SCMP_ACT_ERRNO"));
        assert_eq!(r.status("Seccomp"), "2");
        assert_eq!(r.status("Seccomp_filters"), "1");
        let r = t.report(|_| {});
        assert_eq!(r.status("Seccomp"), "0");
    });
}

#[test]
fn errno_is_eperm_unless_said_otherwise() {
    case(|t| {
        let out = mkdir_with(t, &json!({"names": MKDIR, "action": "SCMP_ACT_ERRNO"}));
        assert!(out.stderr.contains("Operation not permitted"), "{out}");
        let rule = json!({"names": MKDIR, "action": "SCMP_ACT_ERRNO", "errnoRet": 28});
        let out = mkdir_with(t, &rule);
        assert!(out.stderr.contains("No space left"), "{out}");
        let rule = json!({"names": MKDIR, "action": "SCMP_ACT_ERRNO", "errnoRet": 0});
        let out = mkdir_with(t, &rule);
        assert_eq!(
            out.text(),
            "made",
            "errno 0 is success without effect: {out}"
        );
        assert!(!t.rootfs().join("tmp/made").exists());
    });
}

#[test]
fn the_killing_actions() {
    case(|t| {
        for action in ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"] {
            let action = format!("SCMP_ACT_{action}");
            let out = t.run(|c| {
                // In a child: the first process of a pid namespace ignores what it does not catch.
                script(c, "(mkdir /tmp/made); echo $?");
                seccomp(c, &MKDIR, &action);
            });
            assert_eq!(out.text(), "159", "{action}: 128 + SIGSYS: {out}");
        }
    });
}

#[test]
fn the_container_dies_of_its_own_forbidden_call() {
    case(|t| {
        let out = t.run(|c| {
            args(c, &["/bin/mkdir", "/tmp/made"]);
            seccomp(c, &MKDIR, "SCMP_ACT_KILL_PROCESS");
        });
        assert_eq!(out.code(), 159, "{out}");
    });
}

#[test]
fn log_and_allow_let_it_pass() {
    case(|t| {
        for action in ["SCMP_ACT_LOG", "SCMP_ACT_ALLOW"] {
            let out = mkdir_with(t, &json!({"names": MKDIR, "action": action}));
            assert_eq!(out.text(), "made", "{action}: {out}");
            std::fs::remove_dir(t.rootfs().join("tmp/made")).expect("rmdir");
        }
    });
}

#[test]
fn trace_without_a_tracer_is_enosys() {
    case(|t| {
        let out = mkdir_with(t, &json!({"names": MKDIR, "action": "SCMP_ACT_TRACE"}));
        assert!(out.stderr.contains("not implemented"), "{out}");
    });
}

#[test]
fn the_default_action_takes_all_that_is_not_listed() {
    case(|t| {
        // What the shell and mkdir need is allowed by a profile of everything but mkdir.
        let out = t.run(|c| {
            script(c, "mkdir /tmp/made");
            c["linux"]["seccomp"] = default_deny();
        });
        assert!(out.stderr.contains("No space left"), "{out}");
    });
}

/// What small programs need.
const NEEDED: &str = "\
    access arch_prctl brk chdir clone clone3 close dup dup2 dup3 execve exit exit_group \
    faccessat fcntl fork fstat fstatfs futex getcwd getdents64 getegid geteuid getgid \
    getpgrp getpid getppid getrandom gettid getuid ioctl lseek lstat mmap mprotect mremap \
    munmap newfstatat open openat pipe pipe2 poll ppoll prctl prlimit64 read readlink \
    readlinkat rseq rt_sigaction rt_sigprocmask rt_sigreturn set_robust_list set_tid_address \
    setgid setgroups setresgid setresuid setuid sigaltstack stat statfs statx sysinfo tgkill \
    uname umask vfork wait4 waitid write writev close_range capset capget fchdir recvfrom \
    sendto recvmsg sendmsg epoll_pwait nanosleep clock_nanosleep pread64 eventfd2 accept4 \
    restart_syscall keyctl epoll_ctl fchown fchownat chown shutdown openat2 seccomp \
    sched_getaffinity madvise getpeername connect socket clock_gettime";

/// Denies with ENOSPC all but what small programs need.
fn default_deny() -> Value {
    let names: Vec<&str> = NEEDED.split_whitespace().collect();
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 28,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]
    })
}

#[test]
fn unknown_system_calls_are_passed_over() {
    case(|t| {
        let rule =
            json!({"names": ["no_such_call", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"});
        let out = mkdir_with(t, &rule);
        assert!(out.stderr.contains("not permitted"), "{out}");
    });
}

/// chmod(1) with this mode, under a rule that compares the mode.
fn chmod_with(t: &Case, mode: &str, compare: &Value) -> bool {
    let out = t.run(|c| {
        args(c, &["/bin/chmod", mode, "/data"]);
        seccomp(c, &[], "SCMP_ACT_ERRNO");
        c["linux"]["seccomp"]["syscalls"] = ["chmod", "fchmodat", "fchmodat2"]
            .iter()
            .zip([1, 2, 2])
            .map(|(name, index)| {
                let mut compare = compare.clone();
                compare["index"] = json!(index);
                json!({"names": [name], "action": "SCMP_ACT_ERRNO", "args": [compare]})
            })
            .collect();
    });
    assert!(
        out.code() == 0 || out.stderr.contains("not permitted"),
        "{out}"
    );
    out.code() == 0
}

#[test]
fn operators_compare_arguments() {
    case(|t| {
        for (op, value, below, same, above) in [
            ("NE", 0o500, false, true, false),
            ("LT", 0o500, false, true, true),
            ("LE", 0o500, false, false, true),
            ("EQ", 0o500, true, false, true),
            ("GE", 0o500, true, false, false),
            ("GT", 0o500, true, true, false),
        ] {
            let compare = json!({"op": format!("SCMP_CMP_{op}"), "value": value});
            assert_eq!(chmod_with(t, "0400", &compare), below, "{op} 0400");
            assert_eq!(chmod_with(t, "0500", &compare), same, "{op} 0500");
            assert_eq!(chmod_with(t, "0700", &compare), above, "{op} 0700");
        }
    });
}

#[test]
fn a_masked_comparison() {
    case(|t| {
        // Deny when the set-user-id bit, and not the set-group-id bit, is set.
        let compare = json!({"op": "SCMP_CMP_MASKED_EQ", "value": 0o6000, "valueTwo": 0o4000});
        assert!(chmod_with(t, "0755", &compare));
        assert!(chmod_with(t, "6755", &compare));
        assert!(!chmod_with(t, "4755", &compare));
    });
}

#[test]
fn values_of_64_bits_are_compared_whole() {
    case(|t| {
        let high = 1_u64 << 32;
        let compare = json!({"op": "SCMP_CMP_EQ", "value": high | 0o500});
        assert!(
            chmod_with(t, "0500", &compare),
            "only the low half is equal"
        );
        let compare = json!({"op": "SCMP_CMP_LT", "value": high});
        assert!(!chmod_with(t, "0500", &compare));
    });
}

#[test]
fn several_comparisons_must_all_hold() {
    case(|t| {
        let out = t.run(|c| {
            let text = "kill -0 1 || echo denied; kill -18 1 && echo other signal; \
                sleep 9 & kill -0 $! && echo other process; kill -9 $!";
            script(c, text);
            seccomp(c, &[], "SCMP_ACT_ERRNO");
            c["linux"]["seccomp"]["syscalls"] = json!([{
                "names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [
                    {"index": 0, "op": "SCMP_CMP_EQ", "value": 1},
                    {"index": 1, "op": "SCMP_CMP_EQ", "value": 0}
                ]
            }]);
        });
        assert_eq!(out.ok().text(), "denied\nother signal\nother process");
    });
}

#[test]
fn the_flags_are_taken() {
    case(|t| {
        for flag in ["LOG", "SPEC_ALLOW", "TSYNC"] {
            let flag = format!("SECCOMP_FILTER_FLAG_{flag}");
            let out = t.run(|c| {
                script(c, "mkdir /tmp/made");
                seccomp(c, &MKDIR, "SCMP_ACT_ERRNO");
                c["linux"]["seccomp"]["flags"] = json!([flag]);
            });
            assert!(out.stderr.contains("mkdir"), "{flag}: {out}");
        }
    });
}

#[test]
fn what_cannot_be_is_refused() {
    case(|t| {
        for (what, change) in [
            (
                "an unknown action",
                json!({"names": MKDIR, "action": "SCMP_ACT_SHRUG"}),
            ),
            (
                "an unknown operator",
                json!({"names": MKDIR, "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_LIKE"}]}),
            ),
            (
                "a seventh argument",
                json!({"names": MKDIR, "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}),
            ),
            (
                "an errno for ALLOW",
                json!({"names": MKDIR, "action": "SCMP_ACT_ALLOW", "errnoRet": 1}),
            ),
        ] {
            println!("{what}");
            let _ = mkdir_with(t, &change).refused();
        }
    });
}

#[test]
fn an_errno_for_a_default_action_without_one_is_refused() {
    case(|t| {
        let _ = t
            .create(|c| {
                seccomp(c, &MKDIR, "SCMP_ACT_ERRNO");
                c["linux"]["seccomp"]["defaultErrnoRet"] = json!(5);
            })
            .refused();
    });
}

#[test]
fn an_unknown_architecture_is_refused() {
    case(|t| {
        let _ = t
            .create(|c| {
                seccomp(c, &MKDIR, "SCMP_ACT_ERRNO");
                c["linux"]["seccomp"]["architectures"] = json!(["SCMP_ARCH_VAX"]);
            })
            .refused();
    });
}

#[test]
fn an_unknown_flag_is_refused() {
    case(|t| {
        let _ = t
            .create(|c| {
                seccomp(c, &MKDIR, "SCMP_ACT_ERRNO");
                c["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_NICE"]);
            })
            .refused();
    });
}

#[test]
fn an_exec_has_the_filter() {
    case(|t| {
        t.up(|c| seccomp(c, &MKDIR, "SCMP_ACT_ERRNO"));
        let out = t.exec(&[], &["/bin/mkdir", "/tmp/made"]);
        assert!(
            out.code() == 1 && out.stderr.contains("not permitted"),
            "{out}"
        );
        assert_eq!(t.exec_report(&[]).status("Seccomp"), "2");
    });
}

#[test]
fn the_filter_does_not_need_no_new_privileges() {
    case(|t| {
        let r = t.report(|c| {
            seccomp(c, &MKDIR, "SCMP_ACT_ERRNO");
            c["process"]["noNewPrivileges"] = json!(false);
            c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            caps(c, &[]);
        });
        assert_eq!((r.status("Seccomp"), r.status("NoNewPrivs")), ("2", "0"));
    });
}

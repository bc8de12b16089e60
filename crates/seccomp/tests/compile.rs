//! What compiled profiles do, run by an interpreter.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod machine;

use machine::{Data, check, run};
use proptest::prelude::*;
use seccomp::profile::Template;
use seccomp::{Arch, ErrorKind, Filter, Options, action, compile_with, flag};
use spec::oci::{Seccomp, SyscallArg, SyscallRule};

const EPERM: u32 = action::ERRNO | 1;
const ENOSYS: u32 = action::ERRNO | 38;

fn x86_64() -> Options {
    Options {
        native: Arch::X86_64,
        strict: false,
        enosys: false,
    }
}

fn profile(default: &str, rules: &[(&[&str], &str)]) -> Seccomp {
    let rules = rules.iter().map(|(names, action)| SyscallRule {
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        action: (*action).to_owned(),
        ..SyscallRule::default()
    });
    Seccomp {
        default_action: default.to_owned(),
        syscalls: rules.collect(),
        ..Seccomp::default()
    }
}

fn call(filter: &Filter, arch: Arch, nr: u32, args: [u64; 6]) -> u32 {
    let arch = arch.audit();
    run(&filter.program, &Data { nr, arch, args })
}

fn named(filter: &Filter, arch: Arch, name: &str, args: [u64; 6]) -> u32 {
    call(filter, arch, arch.table().number(name).unwrap(), args)
}

#[test]
fn the_default_profile_for_every_architecture() {
    let mut profile = Template::default_profile().unwrap().resolve(&[]);
    // Those of other kernels cost nothing.
    profile.architectures = Arch::all().map(|a| a.word().to_owned()).collect();
    for native in Arch::all() {
        let options = Options {
            native,
            enosys: true,
            ..x86_64()
        };
        let filter = compile_with(&profile, &options).unwrap();
        check(&filter.program);
        assert!(filter.warnings.is_empty(), "{:?}", filter.warnings);
        assert_eq!(named(&filter, native, "read", [0; 6]), action::ALLOW);
        assert_eq!(named(&filter, native, "chroot", [0; 6]), EPERM);
        let newer = native.table().number("rseq_slice_yield").unwrap() + 1;
        assert_eq!(call(&filter, native, newer, [0; 6]), ENOSYS);
    }
}

#[test]
fn a_deny_list() {
    let rules: [(&[&str], &str); 2] = [
        (&["mkdir", "no_such_call"], "SCMP_ACT_ERRNO"),
        (&["chdir"], "SCMP_ACT_NOTIFY"),
    ];
    let filter = compile_with(&profile("SCMP_ACT_ALLOW", &rules), &x86_64()).unwrap();
    check(&filter.program);
    assert_eq!(named(&filter, Arch::X86_64, "mkdir", [0; 6]), EPERM);
    assert_eq!(
        named(&filter, Arch::X86_64, "chdir", [0; 6]),
        action::NOTIFY
    );
    assert_eq!(named(&filter, Arch::X86_64, "rmdir", [0; 6]), action::ALLOW);
    // x32 and i386 are not listed.
    assert_eq!(named(&filter, Arch::X32, "rmdir", [0; 6]), 0);
    assert_eq!(named(&filter, Arch::X86, "rmdir", [0; 6]), 0);
    assert_eq!(filter.flags, flag::SPEC_ALLOW | flag::NEW_LISTENER);
    assert!(filter.notify);
    assert_eq!(
        filter.warnings,
        ["seccomp: unknown system calls are passed over: no_such_call"]
    );
}

#[test]
fn what_contradicts_the_specification_is_refused() {
    let rule =
        |rest: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{{rest}}}]}}"#);
    let cases = [
        (r#"{}"#.to_owned(), r#"unknown action """#),
        (
            r#"{"defaultAction": "SCMP_ACT_NO"}"#.to_owned(),
            r#"unknown action "SCMP_ACT_NO""#,
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#.to_owned(),
            "SCMP_ACT_NOTIFY cannot be used as the default action",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1}"#.to_owned(),
            "errnoRet 1 given for SCMP_ACT_KILL, which takes none",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_KILL", "architectures": ["x86"]}"#.to_owned(),
            r#"unknown architecture "x86""#,
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_KILL", "flags": ["TSYNC"]}"#.to_owned(),
            r#"unknown flag "TSYNC""#,
        ),
        (
            rule(r#""names": ["write"], "action": "SCMP_ACT_NOTIFY""#),
            "SCMP_ACT_NOTIFY cannot be used for write",
        ),
        (
            rule(r#""names": [""], "action": "SCMP_ACT_KILL""#),
            "a system call's name is empty",
        ),
        (
            rule(
                r#""names": ["read"], "action": "SCMP_ACT_KILL", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]"#,
            ),
            "read: argument index 6 is above 5",
        ),
        (
            rule(
                r#""names": ["read"], "action": "SCMP_ACT_KILL", "args": [{"index": 5, "op": "EQ"}]"#,
            ),
            r#"unknown operator "EQ""#,
        ),
    ];
    for (json, reason) in cases {
        let profile: Seccomp = serde_json::from_str(&json).unwrap();
        let error = compile_with(&profile, &x86_64()).unwrap_err();
        assert_eq!(error.to_string(), format!("seccomp: {reason}"), "{json}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn unknown_names_can_be_refused() {
    let profile = profile("SCMP_ACT_ALLOW", &[(&["no_such_call"], "SCMP_ACT_KILL")]);
    let options = Options {
        strict: true,
        ..x86_64()
    };
    let error = compile_with(&profile, &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"seccomp: unknown system call "no_such_call""#
    );
}

#[test]
fn a_profile_beyond_the_kernels_limit_is_refused() {
    let arg = |index| SyscallArg {
        index,
        value: 1 << 40,
        value_two: 0,
        op: "SCMP_CMP_LT".to_owned(),
    };
    let names: Vec<&str> = seccomp::syscalls::names().collect();
    let mut profile = profile("SCMP_ACT_ALLOW", &[(&names, "SCMP_ACT_ERRNO")]);
    profile.syscalls[0].args = (0..6).map(arg).collect();
    // Neighbours with one outcome are one range: this fits.
    compile_with(&profile, &x86_64()).unwrap();
    let rule = profile.syscalls.remove(0);
    let each = names.iter().zip(1..).map(|(name, errno)| SyscallRule {
        names: vec![(*name).to_owned()],
        errno_ret: Some(errno),
        ..rule.clone()
    });
    profile.syscalls = each.collect();
    let error = compile_with(&profile, &x86_64()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLong);
    assert!(
        error
            .to_string()
            .ends_with("instructions, the kernel takes 4096")
    );
}

#[test]
fn flags_follow_the_profile() {
    let mut profile = profile("SCMP_ACT_ALLOW", &[(&["mkdir"], "SCMP_ACT_NOTIFY")]);
    let mut flags = |words: Option<&[&str]>| {
        profile.flags = words.map(|w| {
            w.iter()
                .map(|w| format!("SECCOMP_FILTER_FLAG_{w}"))
                .collect()
        });
        compile_with(&profile, &x86_64()).unwrap().flags
    };
    let listener = flag::NEW_LISTENER;
    assert_eq!(flags(None), listener | flag::SPEC_ALLOW);
    assert_eq!(flags(Some(&[])), listener);
    assert_eq!(
        flags(Some(&["LOG", "WAIT_KILLABLE_RECV"])),
        listener | flag::LOG | flag::WAIT_KILLABLE_RECV
    );
    assert_eq!(
        flags(Some(&["TSYNC"])),
        listener | flag::TSYNC | flag::TSYNC_ESRCH
    );
    profile.syscalls.clear();
    profile.flags = Some(vec!["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".to_owned()]);
    let filter = compile_with(&profile, &x86_64()).unwrap();
    assert_eq!(
        (filter.flags, filter.warnings.len(), filter.notify),
        (0, 1, false)
    );
}

/// A rule for a call is kept on the way through its multiplexer too, whatever else the first
/// argument holds.
#[test]
fn a_multiplexer_is_no_way_around() {
    let mut profile = profile(
        "SCMP_ACT_ALLOW",
        &[(&["socket", "shmat"], "SCMP_ACT_ERRNO")],
    );
    profile.architectures = vec!["SCMP_ARCH_X86".to_owned()];
    let filter = compile_with(&profile, &x86_64()).unwrap();
    let x86 = |name, arg| named(&filter, Arch::X86, name, [arg, 0, 0, 0, 0, 0]);
    assert_eq!(x86("socket", 0), EPERM);
    assert_eq!(x86("socketcall", 1), EPERM);
    assert_eq!(x86("socketcall", 2), action::ALLOW);
    for version in [0, 1 << 16, 7 << 16] {
        assert_eq!(x86("ipc", 21 | version), EPERM);
        assert_eq!(x86("ipc", 22 | version), action::ALLOW);
    }
    let options = Options {
        native: Arch::S390x,
        ..x86_64()
    };
    let filter = compile_with(&profile, &options).unwrap();
    for high in [0, 1 << 32, 1 << 63] {
        let args = [high | 1, 0, 0, 0, 0, 0];
        assert_eq!(named(&filter, Arch::S390x, "socketcall", args), EPERM);
    }
}

#[test]
fn private_calls_of_arm_are_not_new_calls() {
    let mut profile = profile(
        "SCMP_ACT_ERRNO",
        &[(&["read", "set_tls", "openat2"], "SCMP_ACT_ALLOW")],
    );
    profile.architectures = vec!["SCMP_ARCH_ARM".to_owned()];
    let options = Options {
        native: Arch::Aarch64,
        enosys: true,
        strict: false,
    };
    let filter = compile_with(&profile, &options).unwrap();
    let arm = |nr| call(&filter, Arch::Arm, nr, [0; 6]);
    assert_eq!([arm(4), arm(438), arm(0xe_ffff)], [EPERM, ENOSYS, ENOSYS]);
    assert_eq!(
        [arm(0xf_0001), arm(0xf_0005), arm(0xf_0006)],
        [EPERM, action::ALLOW, EPERM]
    );
}

/// The specification's words, and others.
fn word(known: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        20 => prop::sample::select(known).prop_map(str::to_owned),
        1 => ".{0,12}",
    ]
}

fn any_rule() -> impl Strategy<Value = SyscallRule> {
    let op = word(&[
        "SCMP_CMP_EQ",
        "SCMP_CMP_NE",
        "SCMP_CMP_GE",
        "SCMP_CMP_MASKED_EQ",
    ]);
    let arg = (0_u32..7, any::<u64>(), any::<u64>(), op);
    let arg = arg.prop_map(|(index, value, value_two, op)| SyscallArg {
        index,
        value,
        value_two,
        op,
    });
    let name = word(&[
        "read", "write", "socket", "ipc", "clone3", "set_tls", "nothing",
    ]);
    let action = word(&[
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_LOG",
    ]);
    let names = prop::collection::vec(name, 0..5);
    let args = prop::collection::vec(arg, 0..8);
    (
        names,
        action,
        prop::option::weighted(0.1, any::<u32>()),
        args,
    )
        .prop_map(|(names, action, errno_ret, args)| SyscallRule {
            names,
            action,
            errno_ret,
            args,
        })
}

proptest! {
    /// Whatever is in a profile, there is an error or a program that the kernel takes.
    #[test]
    fn nothing_panics(
        default_action in word(&["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL"]),
        architectures in prop::collection::vec(word(&["SCMP_ARCH_X86", "SCMP_ARCH_X32"]), 0..4),
        flags in prop::option::of(prop::collection::vec(word(&["SECCOMP_FILTER_FLAG_LOG"]), 0..3)),
        syscalls in prop::collection::vec(any_rule(), 0..20),
    ) {
        let profile = Seccomp {
            default_action,
            architectures,
            flags,
            syscalls,
            ..Seccomp::default()
        };
        if let Ok(filter) = compile_with(&profile, &x86_64()) {
            check(&filter.program);
        }
    }
}

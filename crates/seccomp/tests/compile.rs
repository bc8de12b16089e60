//! What compiled profiles do, run by an interpreter.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod machine;

use machine::{Data, check, run};
use seccomp::profile::Template;
use seccomp::{Arch, Filter, Options, action, compile_with, flag};
use spec::oci::{Seccomp, SyscallRule};

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

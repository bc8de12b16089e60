//! Our programs against those of libseccomp, for the same profiles, run side by side.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod machine;
mod model;
mod reference;

use machine::{Data, check, run};
use proptest::prelude::*;
use reference::Reference;
use seccomp::profile::Template;
use seccomp::{Arch, Filter, Options, X32_BIT, compile_with, syscalls};
use spec::oci::{Seccomp, SyscallArg, SyscallRule};

/// Machines to compile for, with all architectures their kernels report.
const FAMILIES: [&[Arch]; 9] = [
    &[Arch::X86_64, Arch::X86, Arch::X32],
    &[Arch::Aarch64, Arch::Arm],
    &[Arch::Mips64, Arch::Mips, Arch::Mips64n32],
    &[Arch::Mipsel64, Arch::Mipsel, Arch::Mipsel64n32],
    &[Arch::Parisc64, Arch::Parisc],
    &[Arch::Ppc64, Arch::Ppc],
    &[Arch::Ppc64le],
    &[Arch::Riscv64],
    &[Arch::S390x, Arch::S390],
];

const ACTIONS: [&str; 8] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

/// Few, so that rules meet: plain ones, multiplexed ones, multiplexers, ones of few architectures.
const NAMES: [&str; 20] = [
    "read",
    "openat",
    "clone",
    "personality",
    "socket",
    "connect",
    "accept",
    "sendmsg",
    "semop",
    "shmat",
    "socketcall",
    "ipc",
    "ptrace",
    "mmap2",
    "set_tls",
    "arch_prctl",
    "rt_sigaction",
    "fcntl64",
    "execve",
    "no_such_call",
];

/// Values at which comparisons turn.
const VALUES: [u64; 14] = [
    0,
    1,
    2,
    5,
    0x7f,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0005,
    0x7fff_ffff_0000_0005,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => prop::sample::select(&VALUES[..]),
        1 => any::<u64>(),
        1 => any::<u32>().prop_map(u64::from),
    ]
}

fn arg() -> impl Strategy<Value = SyscallArg> {
    let op = prop::sample::select(&OPERATORS[..]);
    (0_u32..6, value(), value(), op).prop_map(|(index, value, value_two, op)| SyscallArg {
        index,
        value,
        value_two,
        op: op.to_owned(),
    })
}

/// One of the first `last` action words, with its errno.
fn action(last: usize) -> impl Strategy<Value = (String, Option<u32>)> {
    let errno = prop::option::of(1_u32..40);
    (prop::sample::select(&ACTIONS[..last]), errno).prop_map(|(word, errno)| {
        let takes_errno = word == "SCMP_ACT_ERRNO" || word == "SCMP_ACT_TRACE";
        (word.to_owned(), errno.filter(|_| takes_errno))
    })
}

fn names() -> impl Strategy<Value = Vec<String>> {
    let name = prop::sample::select(&NAMES[..]).prop_map(str::to_owned);
    prop::collection::vec(name, 1..4)
}

/// A rule without conditions, or one with.
fn rule() -> impl Strategy<Value = SyscallRule> {
    let args = prop_oneof![
        1 => Just(Vec::new()),
        3 => prop::collection::vec(arg(), 1..5),
    ];
    (names(), action(8), args).prop_map(|(names, (action, errno_ret), args)| SyscallRule {
        names,
        action,
        errno_ret,
        args,
    })
}

/// A rule that keeps clear of a fault in libseccomp 2.5.4: where the first rule in its order
/// names a call that an architecture lacks, that architecture's code forgets to load the number.
fn anchor(default_action: &str) -> SyscallRule {
    let action = if default_action == "SCMP_ACT_ALLOW" {
        "SCMP_ACT_TRAP"
    } else {
        "SCMP_ACT_ALLOW"
    };
    SyscallRule {
        names: vec!["getpid".to_owned()],
        action: action.to_owned(),
        ..SyscallRule::default()
    }
}

/// A profile for one machine: of its architectures the first `listed`.
#[derive(Clone, Debug)]
struct Case {
    family: &'static [Arch],
    listed: usize,
    profile: Seccomp,
}

impl Case {
    fn archs(&self) -> &'static [Arch] {
        &self.family[..self.listed]
    }

    fn compile(&self, enosys: bool) -> Filter {
        let options = Options {
            native: self.family[0],
            strict: false,
            enosys,
        };
        let filter = compile_with(&self.profile, &options).unwrap();
        check(&filter.program);
        filter
    }
}

fn case() -> impl Strategy<Value = Case> {
    let family = prop::sample::select(&FAMILIES[..]);
    let rules = prop::collection::vec(rule(), 0..10);
    (family, 1_usize..4, action(7), rules).prop_map(|(family, listed, default, mut syscalls)| {
        syscalls.push(anchor(&default.0));
        let listed = listed.min(family.len());
        let words = family[..listed].iter().map(|a| a.word().to_owned());
        let profile = Seccomp {
            default_action: default.0,
            default_errno_ret: default.1,
            architectures: words.collect(),
            syscalls,
            ..Seccomp::default()
        };
        Case {
            family,
            listed,
            profile,
        }
    })
}

/// Leaves what libseccomp does right: every argument once in a rule, no conditional rules for a
/// multiplexer itself, one conditional rule for a call.
fn one_conditional_rule(mut case: Case) -> Case {
    let mut seen: Vec<String> = Vec::new();
    for rule in case
        .profile
        .syscalls
        .iter_mut()
        .filter(|r| !r.args.is_empty())
    {
        each_argument_once(rule);
        rule.names.retain(|n| {
            let first = !seen.contains(n);
            seen.push(n.clone());
            first
        });
    }
    case
}

/// The other thing that it does right: many conditional rules for a call, but all of them with
/// one action and none with an inequality.
fn equalities((mut case, one): (Case, (String, Option<u32>))) -> Case {
    for rule in case
        .profile
        .syscalls
        .iter_mut()
        .filter(|r| !r.args.is_empty())
    {
        each_argument_once(rule);
        (rule.action, rule.errno_ret) = one.clone();
        for arg in &mut rule.args {
            if arg.op != "SCMP_CMP_MASKED_EQ" {
                arg.op = "SCMP_CMP_EQ".to_owned();
            }
        }
    }
    case
}

fn each_argument_once(rule: &mut SyscallRule) {
    rule.args.sort_by_key(|a| a.index);
    rule.args.dedup_by_key(|a| a.index);
    rule.names.retain(|n| n != "ipc" && n != "socketcall");
}

/// A small generator of numbers: the calls to try need no shrinking.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A call near what the profile's rules ask for.
fn near(case: &Case, random: &mut Random) -> Data {
    let arch = random.pick(case.family);
    let names = case.profile.syscalls.iter().flat_map(|r| &r.names);
    let known = names.filter_map(|n| arch.table().number(n));
    let muxers = ["socketcall", "ipc"].into_iter();
    let muxers = muxers.filter_map(|n| arch.table().number(n));
    let numbers: Vec<u32> = known.chain(muxers).chain([0, u32::MAX]).collect();
    let nr = match random.below(8) {
        0 => random.pick(&numbers).wrapping_add(1),
        1 => random.pick(&numbers).wrapping_sub(1),
        2 => u32::try_from(random.below(600)).unwrap(),
        3 => random.pick(&numbers) ^ X32_BIT,
        _ => random.pick(&numbers),
    };
    let conditions = case.profile.syscalls.iter().flat_map(|r| &r.args);
    let values: Vec<u64> = conditions
        .flat_map(|a| [a.value, a.value_two, a.value & a.value_two])
        .chain(VALUES)
        .collect();
    let mut args = [0; 6].map(|_| match random.below(8) {
        0 => random.pick(&values).wrapping_add(1),
        1 => random.pick(&values).wrapping_sub(1),
        2 => random.pick(&values) ^ 0x1_0000_0000,
        3 => random.next(),
        _ => random.pick(&values),
    });
    let table = arch.table();
    if [table.number("socketcall"), table.number("ipc")].contains(&Some(nr)) {
        // Deviation: we compare only the bits that the kernel looks at.
        args[0] = random.below(26) as u64;
    }
    let arch = arch.audit();
    Data { nr, arch, args }
}

fn agree(case: &Case, seed: u64) -> Result<(), TestCaseError> {
    let ours = case.compile(false);
    let Some(theirs) = Reference::new(&case.profile, case.archs()).unwrap() else {
        return Err(TestCaseError::reject("libseccomp refuses it"));
    };
    let mut random = Random(seed | 1);
    for _ in 0..400 {
        let data = near(case, &mut random);
        let (a, mut b) = (run(&ours.program, &data), run(&theirs.0, &data));
        // Where libseccomp compiles for the other byte order and needs a far jump, it leaves
        // the order of the return in front of it as it is.
        if theirs.1 && a == b.swap_bytes() {
            b = a;
        }
        prop_assert_eq!(a, b, "ours {:#x}, theirs {:#x} for {:x?}", a, b, data);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        max_global_rejects: 10_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn one_conditional_rule_for_a_call(
        case in case().prop_map(one_conditional_rule),
        seed in any::<u64>(),
    ) {
        agree(&case, seed)?;
    }

    #[test]
    fn equalities_with_one_action(
        case in (case(), action(8)).prop_map(equalities),
        seed in any::<u64>(),
    ) {
        agree(&case, seed)?;
    }

    /// All profiles, and the answer to unknown calls, against a model.
    #[test]
    fn any_profile(case in case(), enosys in any::<bool>(), seed in any::<u64>()) {
        let ours = case.compile(enosys);
        let mut random = Random(seed | 1);
        for _ in 0..200 {
            let data = near(&case, &mut random);
            let a = run(&ours.program, &data);
            let b = model::outcome(&case.profile, case.archs(), enosys, &data);
            prop_assert_eq!(a, b, "ours {:#x}, model {:#x} for {:x?}", a, b, data);
        }
    }
}

/// Every number below 600, with arguments at which the profile's comparisons turn.
fn agree_everywhere(profile: &Seccomp, listed: usize) {
    let family = FAMILIES[0];
    let words = family[..listed].iter().map(|a| a.word().to_owned());
    let profile = Seccomp {
        architectures: words.collect(),
        ..profile.clone()
    };
    let case = Case {
        family,
        listed,
        profile,
    };
    let ours = case.compile(false);
    let theirs = Reference::new(&case.profile, case.archs())
        .unwrap()
        .unwrap();
    println!(
        "{} instructions, libseccomp {}",
        ours.program.len(),
        theirs.0.len()
    );
    let mut random = Random(7);
    for arch in case.archs() {
        for nr in 0..600 {
            for _ in 0..50 {
                let mut data = near(&case, &mut random);
                data.arch = arch.audit();
                data.nr = if *arch == Arch::X32 { nr | X32_BIT } else { nr };
                if *arch == Arch::X86 && nr == 117 {
                    data.args[0] &= 0xffff;
                }
                // Newer than the library.
                if nr > 450 && arch.table().name(data.nr).is_some() {
                    continue;
                }
                let (a, b) = (run(&ours.program, &data), run(&theirs.0, &data));
                assert_eq!(a, b, "{arch:?} {:x?}", data);
            }
        }
    }
}

#[test]
fn the_default_profile() {
    let template = Template::default_profile().unwrap();
    agree_everywhere(&template.resolve(&[]), 3);
    let caps = [
        "CAP_SYS_ADMIN",
        "CAP_SYS_CHROOT",
        "CAP_NET_ADMIN",
        "CAP_AUDIT_WRITE",
        "CAP_BPF",
    ];
    agree_everywhere(&template.resolve(&caps.map(str::to_owned)), 3);
}

/// Rules of one call that exclude each other, as podman has them for audit sockets.
#[test]
fn rules_that_exclude_each_other() {
    let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "args": [
            {"index": 0, "value": 16, "op": "SCMP_CMP_EQ"},
            {"index": 2, "value": 9, "op": "SCMP_CMP_EQ"}]},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 2, "value": 9, "op": "SCMP_CMP_NE"}]},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_NE"}]},
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}]}"#;
    agree_everywhere(&serde_json::from_str(json).unwrap(), 1);
}

/// Where libseccomp 2.5.4 does otherwise, and we do as the specification says.
#[test]
fn where_libseccomp_differs() {
    let arg = |index, op: &str, value| SyscallArg {
        index,
        value,
        value_two: 0,
        op: op.to_owned(),
    };
    let rule = |name: &str, args: Vec<SyscallArg>| SyscallRule {
        names: vec![name.to_owned()],
        action: "SCMP_ACT_TRAP".to_owned(),
        errno_ret: None,
        args,
    };
    let rules = [
        // Two orderings of one argument: only the second counts when the high halves differ.
        (
            0,
            vec![
                rule("read", vec![arg(0, "SCMP_CMP_LT", 1 << 32)]),
                rule("read", vec![arg(0, "SCMP_CMP_LT", 0)]),
            ],
            [5, 0],
        ),
        // Two inequalities, the first with a further condition that fails.
        (
            0,
            vec![
                rule(
                    "read",
                    vec![arg(0, "SCMP_CMP_NE", 6), arg(1, "SCMP_CMP_NE", 0)],
                ),
                rule("read", vec![arg(0, "SCMP_CMP_NE", 0)]),
            ],
            [1, 0],
        ),
    ];
    for (nr, syscalls, [a0, a1]) in rules {
        let profile = Seccomp {
            default_action: "SCMP_ACT_ALLOW".to_owned(),
            syscalls,
            ..Seccomp::default()
        };
        let case = Case {
            family: FAMILIES[0],
            listed: 1,
            profile,
        };
        let data = Data {
            nr,
            arch: Arch::X86_64.audit(),
            args: [a0, a1, 0, 0, 0, 0],
        };
        let theirs = Reference::new(&case.profile, case.archs())
            .unwrap()
            .unwrap();
        assert_eq!(
            run(&case.compile(false).program, &data),
            seccomp::action::TRAP
        );
        println!("libseccomp: {:#x}", run(&theirs.0, &data));
    }
}

#[test]
fn tables_agree() {
    let mut compared = 0;
    for arch in Arch::all() {
        let Some(theirs) = reference::arch(arch) else {
            continue;
        };
        for name in syscalls::names() {
            let number = reference::number(theirs, name);
            // The kernel's headers do not have these two.
            let invented = match name {
                "cacheflush" => matches!(arch, Arch::Parisc | Arch::Parisc64),
                "memfd_secret" => arch == Arch::S390,
                _ => false,
            };
            if let Some(number) = number.filter(|_| !invented) {
                compared += 1;
                assert_eq!(
                    arch.table().number(name),
                    Some(number),
                    "{name} of {arch:?}"
                );
            }
        }
    }
    assert!(compared > 7000, "{compared}");
}

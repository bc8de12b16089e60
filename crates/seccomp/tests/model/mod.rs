//! What a profile means, said as plainly as possible: no numbers are sorted, no ranges made.

use seccomp::{Arch, X32_BIT, action, syscalls};
use spec::oci::{Seccomp, SyscallArg, SyscallRule};

use crate::machine::Data;

const SOCKETCALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

fn ipc(name: &str) -> Option<u64> {
    let (first, names) = match name {
        "semop" | "semget" | "semctl" | "semtimedop" => {
            (1, ["semop", "semget", "semctl", "semtimedop"])
        }
        "msgsnd" | "msgrcv" | "msgget" | "msgctl" => (11, ["msgsnd", "msgrcv", "msgget", "msgctl"]),
        "shmat" | "shmdt" | "shmget" | "shmctl" => (21, ["shmat", "shmdt", "shmget", "shmctl"]),
        _ => return None,
    };
    let place = names.iter().position(|n| *n == name)?;
    Some(first + place as u64)
}

/// The action of a word; errno where it takes one.
fn action(word: &str, errno: Option<u32>) -> u32 {
    let errno = errno.unwrap_or(1);
    match word {
        "SCMP_ACT_KILL_PROCESS" => action::KILL_PROCESS,
        "SCMP_ACT_TRAP" => action::TRAP,
        "SCMP_ACT_ERRNO" => action::ERRNO | errno,
        "SCMP_ACT_TRACE" => action::TRACE | errno,
        "SCMP_ACT_ALLOW" => action::ALLOW,
        "SCMP_ACT_LOG" => action::LOG,
        "SCMP_ACT_NOTIFY" => action::NOTIFY,
        _ => action::KILL_THREAD,
    }
}

/// How a condition reads on a machine whose arguments are cut by `cut`.
fn holds(arg: &SyscallArg, args: &[u64; 6], cut: u64) -> bool {
    let (a, value, two) = (
        args[arg.index as usize] & cut,
        arg.value & cut,
        arg.value_two & cut,
    );
    match arg.op.as_str() {
        "SCMP_CMP_NE" => a != value,
        "SCMP_CMP_LT" => a < value,
        "SCMP_CMP_LE" => a <= value,
        "SCMP_CMP_EQ" => a == value,
        "SCMP_CMP_GE" => a >= value,
        "SCMP_CMP_GT" => a > value,
        _ => a & value == two & value,
    }
}

/// A mask of nothing is no condition.
fn is_empty(arg: &SyscallArg, cut: u64) -> bool {
    arg.op == "SCMP_CMP_MASKED_EQ" && arg.value & cut == 0
}

/// The rule as a list of rules: repeated arguments make each condition one of its own.
fn split(rule: &SyscallRule) -> Vec<Vec<SyscallArg>> {
    let repeated = rule
        .args
        .iter()
        .enumerate()
        .any(|(i, a)| rule.args[..i].iter().any(|b| a.index == b.index));
    if repeated {
        rule.args.iter().map(|a| vec![a.clone()]).collect()
    } else {
        vec![rule.args.clone()]
    }
}

/// How `name` can be called by this number: the conditions that are left, with the multiplexer's.
fn conditions(name: &str, arch: Arch, data: &Data, args: &[SyscallArg]) -> Option<Vec<SyscallArg>> {
    let table = arch.table();
    if table.number(name) == Some(data.nr) {
        return Some(args.to_vec());
    }
    let socketcall = SOCKETCALLS
        .iter()
        .position(|n| *n == name)
        .map(|i| (i as u64 + 1, u64::from(u32::MAX), "socketcall"));
    let (number, mask, multiplexer) = socketcall.or_else(|| Some((ipc(name)?, 0xffff, "ipc")))?;
    let multiplexes = matches!(
        arch,
        Arch::X86
            | Arch::M68k
            | Arch::Mips
            | Arch::Mipsel
            | Arch::Ppc
            | Arch::Ppc64
            | Arch::Ppc64le
            | Arch::S390
            | Arch::S390x
            | Arch::Sh
            | Arch::Sheb
    );
    if !multiplexes || table.number(multiplexer) != Some(data.nr) {
        return None;
    }
    let selector = SyscallArg {
        index: 0,
        value: mask,
        value_two: number,
        op: "SCMP_CMP_MASKED_EQ".to_owned(),
    };
    let others = args.iter().filter(|a| a.index != 0).cloned();
    Some(std::iter::once(selector).chain(others).collect())
}

/// Which of the listed architectures a call belongs to.
fn arch_of(archs: &[Arch], data: &Data) -> Option<Arch> {
    let is_x32 = data.arch == Arch::X86_64.audit() && data.nr >= X32_BIT;
    let found = archs.iter().copied().filter(|a| a.audit() == data.arch);
    found.into_iter().find(|a| match a {
        Arch::X86_64 => !is_x32,
        Arch::X32 => is_x32,
        _ => true,
    })
}

/// What happens to a call.
pub fn outcome(profile: &Seccomp, archs: &[Arch], enosys: bool, data: &Data) -> u32 {
    let default = action(&profile.default_action, profile.default_errno_ret);
    let Some(arch) = arch_of(archs, data) else {
        let nobody = data.nr == u32::MAX && archs.iter().any(|a| a.audit() == data.arch);
        return if nobody { default } else { action::KILL_THREAD };
    };
    let wide = data.arch & 0x8000_0000 != 0;
    let short = matches!(arch, Arch::X32 | Arch::Mips64n32 | Arch::Mipsel64n32);
    let cut = if wide && !short {
        u64::MAX
    } else {
        u64::from(u32::MAX)
    };
    let mut candidates = Vec::new();
    for rule in &profile.syscalls {
        let action = action(&rule.action, rule.errno_ret);
        for (name, args) in rule
            .names
            .iter()
            .flat_map(|n| split(rule).into_iter().map(move |a| (n, a)))
        {
            if action != default
                && let Some(mut left) = conditions(name, arch, data, &args)
            {
                left.retain(|a| !is_empty(a, cut));
                let direct = arch.table().number(name) == Some(data.nr);
                let own = left.len() - usize::from(!direct);
                candidates.push((left, own == 0, action));
            }
        }
    }
    // Rules without conditions (of their own, where a multiplexer's selects the call) come first.
    candidates.sort_by_key(|(left, plain, _)| (!left.is_empty(), !plain));
    let first = candidates
        .iter()
        .find(|(left, ..)| left.iter().all(|a| holds(a, &data.args, cut)));
    match first {
        Some((.., action)) => *action,
        None if candidates.is_empty() && enosys && is_unknown(profile, arch, data.nr, default) => {
            action::ERRNO | 38
        }
        None => default,
    }
}

/// Newer than all that the profile names.
fn is_unknown(profile: &Seccomp, arch: Arch, nr: u32, default: u32) -> bool {
    if matches!(
        default & action::MASK,
        action::ALLOW | action::LOG | action::TRACE
    ) {
        return false;
    }
    let private = |n: u32| arch == Arch::Arm && n >= 0xf_0000;
    let named = syscalls::names().filter(|n| {
        profile
            .syscalls
            .iter()
            .any(|r| r.names.iter().any(|m| m == n))
    });
    let newest = named
        .filter_map(|n| arch.table().number(n))
        .filter(|n| !private(*n))
        .max();
    let is_setup = matches!(arch, Arch::S390 | Arch::S390x) && nr == 0;
    newest.is_some_and(|newest| is_setup || (nr > newest && !private(nr)))
}

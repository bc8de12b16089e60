//! libseccomp, fed with a profile in the way that runc feeds it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read as _;

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use seccomp::{Arch, Instruction};
use spec::oci::{Seccomp, SyscallArg, SyscallRule};

/// libseccomp's program for a profile, and whether it is for a machine of the other byte order.
pub struct Reference(pub Vec<Instruction>, pub bool);

/// libseccomp's word for an architecture, where version 2.5 has it.
pub fn arch(arch: Arch) -> Option<ScmpArch> {
    Some(match arch {
        Arch::X86 => ScmpArch::X86,
        Arch::X86_64 => ScmpArch::X8664,
        Arch::X32 => ScmpArch::X32,
        Arch::Arm => ScmpArch::Arm,
        Arch::Aarch64 => ScmpArch::Aarch64,
        Arch::Mips => ScmpArch::Mips,
        Arch::Mips64 => ScmpArch::Mips64,
        Arch::Mips64n32 => ScmpArch::Mips64N32,
        Arch::Mipsel => ScmpArch::Mipsel,
        Arch::Mipsel64 => ScmpArch::Mipsel64,
        Arch::Mipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::Parisc => ScmpArch::Parisc,
        Arch::Parisc64 => ScmpArch::Parisc64,
        Arch::Ppc => ScmpArch::Ppc,
        Arch::Ppc64 => ScmpArch::Ppc64,
        Arch::Ppc64le => ScmpArch::Ppc64Le,
        Arch::Riscv64 => ScmpArch::Riscv64,
        Arch::S390 => ScmpArch::S390,
        Arch::S390x => ScmpArch::S390X,
        Arch::Loongarch64 | Arch::M68k | Arch::Sh | Arch::Sheb => return None,
    })
}

/// libseccomp's number of a call; its own negative numbers are none.
pub fn number(arch: ScmpArch, name: &str) -> Option<u32> {
    let call = ScmpSyscall::from_name_by_arch(name, arch).ok()?;
    u32::try_from(call.as_raw_syscall()).ok()
}

fn action(word: &str, errno: Option<u32>) -> ScmpAction {
    let errno = i32::try_from(errno.unwrap_or(1)).unwrap();
    ScmpAction::from_str(word, Some(errno)).unwrap()
}

fn comparison(arg: &SyscallArg) -> ScmpArgCompare {
    let op = match arg.op.as_str() {
        "SCMP_CMP_NE" => ScmpCompareOp::NotEqual,
        "SCMP_CMP_LT" => ScmpCompareOp::Less,
        "SCMP_CMP_LE" => ScmpCompareOp::LessOrEqual,
        "SCMP_CMP_EQ" => ScmpCompareOp::Equal,
        "SCMP_CMP_GE" => ScmpCompareOp::GreaterEqual,
        "SCMP_CMP_GT" => ScmpCompareOp::Greater,
        _ => ScmpCompareOp::MaskedEqual(arg.value),
    };
    let datum = match op {
        ScmpCompareOp::MaskedEqual(_) => arg.value_two,
        _ => arg.value,
    };
    ScmpArgCompare::new(arg.index, op, datum)
}

fn add(filter: &mut ScmpFilterContext, rule: &SyscallRule, action: ScmpAction) -> bool {
    let comparisons: Vec<ScmpArgCompare> = rule.args.iter().map(comparison).collect();
    let repeated =
        (1..rule.args.len()).any(|i| rule.args[..i].iter().any(|a| a.index == rule.args[i].index));
    for name in &rule.names {
        let Ok(call) = ScmpSyscall::from_name(name) else {
            continue;
        };
        let added = if repeated {
            let mut each = comparisons.chunks(1);
            each.all(|c| filter.add_rule_conditional(action, call, c).is_ok())
        } else {
            filter
                .add_rule_conditional(action, call, &comparisons)
                .is_ok()
        };
        if !added {
            return false;
        }
    }
    true
}

impl Reference {
    /// `None` where libseccomp refuses a rule.
    pub fn new(
        profile: &Seccomp,
        archs: &[Arch],
    ) -> Result<Option<Self>, libseccomp::error::SeccompError> {
        let default = action(&profile.default_action, profile.default_errno_ret);
        let mut filter = ScmpFilterContext::new(default)?;
        filter.set_ctl_nnp(false)?;
        let native = arch(archs[0]).unwrap();
        if native != ScmpArch::native() {
            filter.remove_arch(ScmpArch::Native)?;
        }
        for a in archs {
            filter.add_arch(arch(*a).unwrap())?;
        }
        for rule in &profile.syscalls {
            let action = action(&rule.action, rule.errno_ret);
            if action != default && !add(&mut filter, rule, action) {
                return Ok(None);
            }
        }
        // 4096 instructions are half of what a pipe holds.
        let (mut reader, writer) = std::io::pipe().unwrap();
        filter.export_bpf(&writer)?;
        drop(writer);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        // A program for another byte order comes in that order.
        let swapped = archs[0].audit() & 0x4000_0000 == 0;
        let (instructions, _) = bytes.as_chunks::<8>();
        let instructions = instructions.iter().map(|b| Instruction::from_bytes(*b));
        let program = instructions.map(|i| match swapped {
            true => Instruction {
                code: i.code.swap_bytes(),
                k: i.k.swap_bytes(),
                ..i
            },
            false => i,
        });
        Ok(Some(Self(program.collect(), swapped)))
    }
}

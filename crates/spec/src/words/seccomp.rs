//! The words of `linux.seccomp`. What they compile to is the business of the crate `seccomp`;
//! here they are only known or not.

use super::Table;

/// What an action takes as its errno.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Action {
    /// Largest `errnoRet`; `None` where the action takes none.
    pub(crate) errno_max: Option<u32>,
    /// The call waits for a listener.
    pub(crate) notify: bool,
}

const PLAIN: Action = Action {
    errno_max: None,
    notify: false,
};

/// MAX_ERRNO of the kernel (linux/err.h): a larger value would not be an error to the caller.
const ERRNO_MAX: u32 = 4095;
/// SECCOMP_RET_DATA: what a tracer can be told.
const TRACE_MAX: u32 = 0xffff;

/// `SCMP_ACT_…`.
pub(crate) const ACTIONS: &Table<Action> = &[
    ("SCMP_ACT_ALLOW", PLAIN),
    (
        "SCMP_ACT_ERRNO",
        Action {
            errno_max: Some(ERRNO_MAX),
            notify: false,
        },
    ),
    ("SCMP_ACT_KILL", PLAIN),
    ("SCMP_ACT_KILL_PROCESS", PLAIN),
    ("SCMP_ACT_KILL_THREAD", PLAIN),
    ("SCMP_ACT_LOG", PLAIN),
    (
        "SCMP_ACT_NOTIFY",
        Action {
            errno_max: None,
            notify: true,
        },
    ),
    (
        "SCMP_ACT_TRACE",
        Action {
            errno_max: Some(TRACE_MAX),
            notify: false,
        },
    ),
    ("SCMP_ACT_TRAP", PLAIN),
];

/// `SCMP_CMP_…`.
pub(crate) const OPERATORS: &Table<()> = &[
    ("SCMP_CMP_EQ", ()),
    ("SCMP_CMP_GE", ()),
    ("SCMP_CMP_GT", ()),
    ("SCMP_CMP_LE", ()),
    ("SCMP_CMP_LT", ()),
    ("SCMP_CMP_MASKED_EQ", ()),
    ("SCMP_CMP_NE", ()),
];

/// `SCMP_ARCH_…`.
pub(crate) const ARCHITECTURES: &Table<()> = &[
    ("SCMP_ARCH_AARCH64", ()),
    ("SCMP_ARCH_ARM", ()),
    ("SCMP_ARCH_LOONGARCH64", ()),
    ("SCMP_ARCH_M68K", ()),
    ("SCMP_ARCH_MIPS", ()),
    ("SCMP_ARCH_MIPS64", ()),
    ("SCMP_ARCH_MIPS64N32", ()),
    ("SCMP_ARCH_MIPSEL", ()),
    ("SCMP_ARCH_MIPSEL64", ()),
    ("SCMP_ARCH_MIPSEL64N32", ()),
    ("SCMP_ARCH_PARISC", ()),
    ("SCMP_ARCH_PARISC64", ()),
    ("SCMP_ARCH_PPC", ()),
    ("SCMP_ARCH_PPC64", ()),
    ("SCMP_ARCH_PPC64LE", ()),
    ("SCMP_ARCH_RISCV64", ()),
    ("SCMP_ARCH_S390", ()),
    ("SCMP_ARCH_S390X", ()),
    ("SCMP_ARCH_SH", ()),
    ("SCMP_ARCH_SHEB", ()),
    ("SCMP_ARCH_X32", ()),
    ("SCMP_ARCH_X86", ()),
    ("SCMP_ARCH_X86_64", ()),
];

/// `SECCOMP_FILTER_FLAG_…` (seccomp(2)). TSYNC is not in the specification but every runtime
/// takes it.
pub(crate) const FLAGS: &Table<()> = &[
    ("SECCOMP_FILTER_FLAG_TSYNC", ()),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", ()),
    ("SECCOMP_FILTER_FLAG_LOG", ()),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", ()),
];

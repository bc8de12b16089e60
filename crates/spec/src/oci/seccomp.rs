//! `linux.seccomp` (config-linux.md, Seccomp).

use serde::{Deserialize, Serialize};

/// `seccomp`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Seccomp {
    /// `SCMP_ACT_…` for calls no rule names.
    pub default_action: String,
    /// errno of the default action, for ERRNO and TRACE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_…`; the native one where empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_…`; an empty list says that none is wanted, an absent one nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// Unix socket that takes the notify descriptor.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub listener_path: String,
    /// Passed to the listener as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub listener_metadata: String,
    /// Rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<SyscallRule>,
}

/// One rule.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyscallRule {
    /// System-call names; unknown ones are passed over.
    pub names: Vec<String>,
    /// `SCMP_ACT_…`.
    pub action: String,
    /// errno, for ERRNO and TRACE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions that must all hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<SyscallArg>,
}

/// Condition on one argument.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyscallArg {
    /// 0 to 5.
    pub index: u32,
    /// Value, or mask for MASKED_EQ.
    pub value: u64,
    /// Value compared after masking, for MASKED_EQ.
    pub value_two: u64,
    /// `SCMP_CMP_…`.
    pub op: String,
}

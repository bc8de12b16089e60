//! Profiles with conditions, as Docker, podman and CRI runtimes ship them, and the one that hull
//! uses by default.
//!
//! Such a profile is a template: rules may depend on the architecture and on the capabilities
//! granted to the container. [`Template::resolve`] applies the conditions and gives the plain
//! profile of the runtime specification.

use serde::Deserialize;
use spec::oci::{Seccomp, SyscallArg, SyscallRule};

use crate::Arch;

/// The default profile: what podman and CRI runtimes let an ordinary container call.
const DEFAULT: &str = include_str!("../data/default.json");

/// A profile with conditions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Template {
    default_action: String,
    default_errno_ret: Option<u32>,
    arch_map: Vec<ArchMap>,
    architectures: Vec<String>,
    flags: Option<Vec<String>>,
    listener_path: String,
    listener_metadata: String,
    syscalls: Vec<Rule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ArchMap {
    architecture: String,
    sub_architectures: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Vec<SyscallArg>,
    includes: Condition,
    excludes: Condition,
}

/// Architectures in Go's words (`amd64`), capabilities with their prefix.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    arches: Vec<String>,
    caps: Vec<String>,
}

impl Template {
    /// The profile built in.
    ///
    /// # Errors
    /// Never with the data shipped; a test proves it.
    pub fn default_profile() -> Result<Self, serde_json::Error> {
        Self::parse(DEFAULT.as_bytes())
    }

    /// Reads a profile file; a plain profile of the runtime specification is one too.
    ///
    /// # Errors
    /// Not JSON, or not of this shape.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// The plain profile for this machine and a container with `capabilities` (its bounding
    /// set, `CAP_…`).
    #[must_use]
    pub fn resolve(&self, capabilities: &[String]) -> Seccomp {
        let native = Arch::native().word();
        let mut architectures = self.architectures.clone();
        if let Some(map) = self.arch_map.iter().find(|m| m.architecture == native) {
            architectures.push(map.architecture.clone());
            architectures.extend(map.sub_architectures.iter().cloned());
        }
        let rules = self
            .syscalls
            .iter()
            .filter(|r| r.applies(go_arch(), capabilities));
        Seccomp {
            default_action: self.default_action.clone(),
            default_errno_ret: self.default_errno_ret,
            architectures,
            flags: self.flags.clone(),
            listener_path: self.listener_path.clone(),
            listener_metadata: self.listener_metadata.clone(),
            syscalls: rules
                .map(|r| SyscallRule {
                    names: r.names.clone(),
                    action: r.action.clone(),
                    errno_ret: r.errno_ret,
                    args: r.args.clone(),
                })
                .collect(),
        }
    }
}

impl Rule {
    fn applies(&self, arch: &str, caps: &[String]) -> bool {
        let has = |cap: &String| caps.contains(cap);
        let right_arch =
            self.includes.arches.is_empty() || self.includes.arches.iter().any(|a| a == arch);
        right_arch
            && self.includes.caps.iter().all(has)
            && !self.excludes.arches.iter().any(|a| a == arch)
            && !self.excludes.caps.iter().any(has)
    }
}

/// This machine in Go's words.
const fn go_arch() -> &'static str {
    match Arch::native() {
        Arch::X86_64 => "amd64",
        Arch::Aarch64 => "arm64",
        _ => "riscv64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action_of(profile: &Seccomp, call: &str) -> Vec<String> {
        let named = profile
            .syscalls
            .iter()
            .filter(|r| r.names.iter().any(|n| n == call));
        named.map(|r| r.action.clone()).collect()
    }

    #[test]
    fn the_default_depends_on_capabilities() {
        let template = Template::default_profile().unwrap();
        let plain = template.resolve(&[]);
        assert_eq!(action_of(&plain, "chroot"), ["SCMP_ACT_ERRNO"]);
        assert_eq!(action_of(&plain, "read"), ["SCMP_ACT_ALLOW"]);
        let granted = template.resolve(&["CAP_SYS_CHROOT".to_owned()]);
        assert_eq!(action_of(&granted, "chroot"), ["SCMP_ACT_ALLOW"]);
        assert_eq!(granted.default_errno_ret, Some(38));
        assert_eq!(granted.architectures[0], Arch::native().word());
    }

    #[test]
    fn a_plain_profile_is_a_template_without_conditions() {
        let json = br#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],
            "syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#;
        let profile = Template::parse(json).unwrap().resolve(&[]);
        assert_eq!(profile.architectures, ["SCMP_ARCH_X86"]);
        assert_eq!(profile.syscalls[0].errno_ret, Some(1));
    }
}

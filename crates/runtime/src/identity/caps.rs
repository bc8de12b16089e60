//! Capability sets (capabilities(7)).

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets as Kernel, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};
use spec::plan::CapabilitySets;
use sys::Context as _;

use crate::Result;

/// Names by number.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The names of the capabilities in a mask, for a warning.
#[must_use]
pub fn cap_names(mask: u64) -> Vec<&'static str> {
    let named = NAMES.iter().enumerate();
    named
        .filter(|(n, _)| mask & (1 << n) != 0)
        .map(|(_, name)| *name)
        .collect()
}

/// What a process that has `permitted` can be given of `wanted`, and what not.
///
/// The kernel's own rules follow: nothing effective that is not permitted, nothing ambient that
/// is not both permitted and inheritable.
#[must_use]
pub fn grantable(wanted: &CapabilitySets, permitted: u64) -> (CapabilitySets, u64) {
    let inheritable = wanted.inheritable & permitted;
    let new_permitted = wanted.permitted & permitted;
    let sets = CapabilitySets {
        bounding: wanted.bounding & permitted,
        effective: wanted.effective & new_permitted,
        inheritable,
        permitted: new_permitted,
        ambient: wanted.ambient & new_permitted & inheritable,
    };
    let refused = (wanted.bounding | wanted.effective | wanted.inheritable | wanted.permitted)
        & !permitted
        | (wanted.effective & !sets.effective)
        | (wanted.ambient & !sets.ambient);
    (sets, refused)
}

/// The calling thread's permitted set.
pub(super) fn permitted() -> Result<u64> {
    let sets = capabilities(None).context("capget", || "self")?;
    Ok(sets.permitted.bits())
}

/// Takes everything out of the bounding set that is not in `keep`.
pub(super) fn drop_bounding(keep: u64) -> Result<()> {
    for number in 0..64 {
        let bit = 1_u64 << number;
        if keep & bit != 0 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(bit)) {
            Ok(()) => {}
            // The kernel has no capability of this number, and so none above.
            Err(Errno::INVAL) => break,
            Err(e) => {
                let args = format!("PR_CAPBSET_DROP, {number}");
                return Err(sys::Error::new("prctl", args, e).into());
            }
        }
    }
    Ok(())
}

/// Sets the thread's sets, all but the bounding one.
pub(super) fn set(sets: &CapabilitySets) -> Result<()> {
    let kernel = Kernel {
        effective: CapabilitySet::from_bits_retain(sets.effective),
        permitted: CapabilitySet::from_bits_retain(sets.permitted),
        inheritable: CapabilitySet::from_bits_retain(sets.inheritable),
    };
    set_capabilities(None, kernel).context("capset", || format!("self, {sets:x?}"))?;
    clear_ambient_capability_set().context("prctl", || "PR_CAP_AMBIENT_CLEAR_ALL")?;
    for number in (0..64).filter(|n| sets.ambient & (1 << n) != 0) {
        let bit = CapabilitySet::from_bits_retain(1 << number);
        configure_capability_in_ambient_set(bit, true)
            .context("prctl", || format!("PR_CAP_AMBIENT_RAISE, {number}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_there_is_not_asked_of_the_kernel() {
        let all = CapabilitySets {
            bounding: 0b111,
            effective: 0b111,
            inheritable: 0,
            permitted: 0b111,
            ambient: 0b100,
        };
        let (sets, refused) = grantable(&all, 0b011);
        assert_eq!((sets.bounding, sets.permitted, sets.ambient), (3, 3, 0));
        assert_eq!(refused, 0b100);
        assert_eq!(cap_names(refused), ["CAP_DAC_READ_SEARCH"]);
        assert_eq!(cap_names(1 << 40), ["CAP_CHECKPOINT_RESTORE"]);
    }

    proptest! {
        #[test]
        fn the_result_obeys_the_kernel(b: u64, e: u64, i: u64, p: u64, a: u64, have: u64) {
            let wanted = CapabilitySets {
                bounding: b, effective: e, inheritable: i, permitted: p, ambient: a,
            };
            let (s, refused) = grantable(&wanted, have);
            prop_assert_eq!(s.effective & !s.permitted, 0);
            prop_assert_eq!(s.ambient & !(s.permitted & s.inheritable), 0);
            let given = s.bounding | s.effective | s.inheritable | s.permitted | s.ambient;
            prop_assert_eq!(given & !have, 0);
            prop_assert_eq!(refused == 0, s == wanted);
        }
    }
}

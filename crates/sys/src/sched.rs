//! How the kernel treats a task: scheduling, I/O priority, memory placement, personality.

use rustix::process::Pid;

use crate::process::last_errno;
use crate::{Error, Result};

/// The argument of sched_setattr(2), without its size.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SchedAttr {
    /// SCHED_… number.
    pub policy: u32,
    /// SCHED_FLAG_… bits.
    pub flags: u64,
    /// Nice value, for OTHER and BATCH.
    pub nice: i32,
    /// Static priority, for FIFO and RR.
    pub priority: u32,
    /// Nanoseconds, for DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, for DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, for DEADLINE.
    pub period: u64,
}

/// `struct sched_attr` of linux/sched/types.h, version 0 (48 bytes).
#[repr(C)]
struct RawSchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// sched_setattr(2) for the calling thread.
///
/// # Errors
/// sched_setattr(2)'s.
pub fn sched_setattr(attr: &SchedAttr) -> Result<()> {
    const SIZE: u32 = 48;
    const _: () = assert!(size_of::<RawSchedAttr>() == SIZE as usize);
    let raw = RawSchedAttr {
        size: SIZE,
        policy: attr.policy,
        flags: attr.flags,
        nice: attr.nice,
        priority: attr.priority,
        runtime: attr.runtime,
        deadline: attr.deadline,
        period: attr.period,
    };
    // SAFETY: `raw` is a sched_attr whose size field is its size; the call only reads it.
    let r = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const raw, 0_u32) };
    done(r, "sched_setattr", || format!("0, {attr:?}"))
}

/// sched_setaffinity(2) for the calling thread, with all bits set: every CPU that its cpuset
/// allows. The set is twice the size of the largest kernel's; more than a kernel knows is ignored.
///
/// # Errors
/// sched_setaffinity(2)'s.
pub fn run_anywhere() -> Result<()> {
    static ALL: [libc::c_ulong; 256] = [libc::c_ulong::MAX; 256];
    // SAFETY: `ALL` is readable for the length given.
    let r = unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            size_of_val(&ALL),
            &raw const ALL,
        )
    };
    done(r, "sched_setaffinity", || "self, all".to_owned())
}

/// ioprio_set(2) for the calling thread; `value` is class << 13 | priority.
///
/// # Errors
/// ioprio_set(2)'s.
pub fn ioprio_set(value: u16) -> Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: integers only.
    let r = unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            IOPRIO_WHO_PROCESS,
            0,
            i32::from(value),
        )
    };
    done(r, "ioprio_set", || format!("process 0, {value:#x}"))
}

/// set_mempolicy(2): `mode` with its MPOL_F_… bits, node numbers in any order.
///
/// # Errors
/// set_mempolicy(2)'s.
pub fn set_mempolicy(mode: u32, nodes: &[u32]) -> Result<()> {
    const BITS: u32 = libc::c_ulong::BITS;
    let words = nodes.iter().max().map_or(0, |&n| n / BITS + 1);
    let mut mask = vec![0 as libc::c_ulong; words as usize];
    for &node in nodes {
        mask[(node / BITS) as usize] |= 1 << (node % BITS);
    }
    let (pointer, bits) = if mask.is_empty() {
        (std::ptr::null(), 0)
    } else {
        // The kernel reads one bit less than it is told (set_mempolicy(2), get_nodes in the
        // kernel's mm/mempolicy.c), hence the one more.
        (
            mask.as_ptr(),
            u64::try_from(mask.len()).unwrap_or(0) * u64::from(BITS) + 1,
        )
    };
    // SAFETY: `pointer` is null with a length of zero, or leads to `bits` - 1 readable bits.
    let r = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) };
    done(r, "set_mempolicy", || format!("{mode:#x}, {nodes:?}"))
}

/// personality(2).
///
/// # Errors
/// personality(2)'s.
pub fn personality(persona: u32) -> Result<()> {
    // SAFETY: integers only; the personalities that move mappings act at the next execve.
    let r = unsafe { libc::personality(libc::c_ulong::from(persona)) };
    done(r.into(), "personality", || format!("{persona:#x}"))
}

/// prlimit(2) on `pid` (the caller where `None`), by the resource's number; sets both limits.
///
/// # Errors
/// prlimit(2)'s.
pub fn prlimit(pid: Option<Pid>, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let raw = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    let pid = pid.map_or(0, |p| p.as_raw_nonzero().get());
    let old: *mut libc::rlimit64 = std::ptr::null_mut();
    // SAFETY: `raw` is readable, the old value is not asked for.
    let r = unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const raw, old) };
    done(r, "prlimit64", || {
        format!("{pid}, {resource}, soft={soft}, hard={hard}")
    })
}

fn done(r: libc::c_long, call: &'static str, args: impl FnOnce() -> String) -> Result<()> {
    if r == -1 {
        return Err(Error::new(call, args(), last_errno()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(field: &str) -> String {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = text.lines().find(|l| l.starts_with(field)).unwrap();
        line[field.len()..].trim().to_owned()
    }

    #[test]
    fn batch_and_nice_reach_the_kernel() {
        std::thread::spawn(|| {
            let attr = SchedAttr {
                policy: 3,
                nice: 7,
                ..SchedAttr::default()
            };
            sched_setattr(&attr).unwrap();
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
            // Fields 19 and 41 of proc_pid_stat(5), counted from field 3.
            assert_eq!((fields[16], fields[38]), ("7", "3"));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_policy_that_does_not_exist_is_refused() {
        let attr = SchedAttr {
            policy: 77,
            ..SchedAttr::default()
        };
        let e = sched_setattr(&attr).unwrap_err();
        assert!(e.to_string().starts_with("sched_setattr(0, "), "{e}");
    }

    #[test]
    fn idle_io_priority() {
        std::thread::spawn(|| ioprio_set(3 << 13).unwrap())
            .join()
            .unwrap();
        assert_eq!(ioprio_set(7 << 13).unwrap_err().errno, crate::Errno::INVAL);
    }

    #[test]
    fn memory_policy_of_node_zero() {
        std::thread::spawn(|| {
            const MPOL_BIND: u32 = 2;
            if std::path::Path::new("/proc/self/numa_maps").exists() {
                set_mempolicy(MPOL_BIND, &[0]).unwrap();
                set_mempolicy(0, &[]).unwrap();
                assert!(set_mempolicy(MPOL_BIND, &[999]).is_err());
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn personality_of_32_bits() {
        std::thread::spawn(|| {
            const PER_LINUX32: u32 = 8;
            personality(PER_LINUX32).unwrap();
            let text = std::fs::read_to_string("/proc/thread-self/personality").unwrap();
            assert_eq!(text.trim(), "00000008");
        })
        .join()
        .unwrap();
        assert!(!status("Threads:").is_empty());
    }

    #[test]
    fn a_lower_limit_is_set_and_an_unknown_resource_refused() {
        let core = libc::RLIMIT_CORE;
        prlimit(None, core, 0, 0).unwrap();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits
            .lines()
            .find(|l| l.starts_with("Max core file size"))
            .unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"]);
        assert!(prlimit(None, 99, 0, 0).is_err());
    }
}

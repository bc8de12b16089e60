//! Which CPUs things run on while a process is being made.

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use sys::Errno;

use crate::Result;

/// The runtime on the CPU that it is on, and its child with it, until this is dropped. The two
/// take turns: what one has brought into the caches, the other finds there, and the kernel need
/// not wake another CPU for each turn. That is nearly a tenth of the time a start takes.
///
/// The child must call [`leave`]. Programs of others, hooks, must not be started meanwhile.
#[derive(Debug)]
pub(crate) struct OneCpu {
    /// Where the runtime may run by rights; nothing where it stays as it is, because the kernel
    /// does not let it be changed, or has more CPUs than fit into a set.
    before: Option<CpuSet>,
}

impl OneCpu {
    pub(crate) fn stay() -> Self {
        let cpu = sched_getcpu();
        let before = sched_getaffinity(None)
            .ok()
            .filter(|_| cpu < CpuSet::MAX_CPU);
        Self {
            before: before.filter(|_| {
                let mut only = CpuSet::new();
                only.set(cpu);
                sched_setaffinity(None, &only).is_ok()
            }),
        }
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // It was right before; only a cpuset that was narrowed meanwhile can refuse it, and
            // then the kernel has moved us into that.
            let _ = sched_setaffinity(None, before);
        }
    }
}

/// In the child: lets it run wherever its cpuset does, whatever the runtime's own CPUs are. Before
/// Linux 6.2 entering a cpuset did that; since then a process keeps what it has inherited from,
/// for example, a unit with CPUAffinity=.
///
/// # Errors
/// sched_setaffinity(2)'s, unless whoever confines the runtime does not let it make that call,
/// and so has not let [`OneCpu`] either.
pub(crate) fn leave() -> Result<()> {
    match sys::sched::run_anywhere() {
        Err(e) if matches!(e.errno, Errno::PERM | Errno::NOSYS) => Ok(()),
        other => Ok(other?),
    }
}

//! Limits, in the runtime specification's words.

use cri_api::v1::LinuxContainerResources;
use spec::oci::{Cpu, HugepageLimit, Memory, Pids, Resources};

use super::host::Host;

/// The limits of a container. Zero is "not given", as the kubelet means it.
pub fn resources(given: &LinuxContainerResources, host: &Host) -> Resources {
    let some = |value: i64| (value != 0).then_some(value);
    let positive = |value: i64| u64::try_from(value).ok().filter(|&v| v != 0);
    let cpu = Cpu {
        shares: positive(given.cpu_shares),
        quota: some(given.cpu_quota),
        period: positive(given.cpu_period),
        cpus: given.cpuset_cpus.clone(),
        mems: given.cpuset_mems.clone(),
        ..Cpu::default()
    };
    let limit = some(given.memory_limit_in_bytes);
    let swap = some(given.memory_swap_limit_in_bytes).filter(|_| host.swap_accounting);
    let memory = (limit.is_some() || swap.is_some()).then(|| Memory {
        limit,
        swap,
        ..Memory::default()
    });
    Resources {
        cpu: (cpu != Cpu::default()).then_some(cpu),
        memory,
        hugepage_limits: hugepages(given, host),
        unified: given.unified.clone(),
        ..Resources::default()
    }
}

/// The kubelet passes a limit for every page size to machines without that controller, too.
fn hugepages(given: &LinuxContainerResources, host: &Host) -> Vec<HugepageLimit> {
    let known = |size: &str| host.hugetlb && host.hugepage_sizes.iter().any(|s| s == size);
    let limits = given.hugepage_limits.iter();
    limits
        .filter(|l| known(&l.page_size))
        .map(|l| HugepageLimit {
            page_size: l.page_size.clone(),
            limit: l.limit,
        })
        .collect()
}

/// Adds the daemon's own limit of tasks.
pub fn limit_pids(resources: &mut Resources, limit: i64) {
    if limit > 0 {
        resources.pids = Some(Pids { limit: Some(limit) });
    }
}

/// A score that this process may set: without `CAP_SYS_RESOURCE` none below our own.
pub fn oom_score_adj(wanted: i64, host: &Host) -> i32 {
    let wanted = i32::try_from(wanted.clamp(-1000, 1000)).unwrap_or_default();
    if host.may_lower_oom_score {
        wanted
    } else {
        wanted.max(host.own_oom_score_adj)
    }
}

/// What a status says after `update`: given fields replace, others stay.
pub fn merge(old: &mut LinuxContainerResources, new: &LinuxContainerResources) {
    let take = |old: &mut i64, new: i64| {
        if new != 0 {
            *old = new;
        }
    };
    take(&mut old.cpu_period, new.cpu_period);
    take(&mut old.cpu_quota, new.cpu_quota);
    take(&mut old.cpu_shares, new.cpu_shares);
    take(&mut old.memory_limit_in_bytes, new.memory_limit_in_bytes);
    take(
        &mut old.memory_swap_limit_in_bytes,
        new.memory_swap_limit_in_bytes,
    );
    take(&mut old.oom_score_adj, new.oom_score_adj);
    if !new.cpuset_cpus.is_empty() {
        old.cpuset_cpus.clone_from(&new.cpuset_cpus);
    }
    if !new.cpuset_mems.is_empty() {
        old.cpuset_mems.clone_from(&new.cpuset_mems);
    }
    if !new.hugepage_limits.is_empty() {
        old.hugepage_limits.clone_from(&new.hugepage_limits);
    }
    old.unified
        .extend(new.unified.iter().map(|(k, v)| (k.clone(), v.clone())));
}

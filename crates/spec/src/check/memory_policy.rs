//! `linux.memoryPolicy`, by the rules of set_mempolicy(2).

use super::list;
use crate::error::{At, Result};
use crate::oci::MemoryPolicy;
use crate::plan::MemoryPolicyPlan;
use crate::words::{self, MEMORY_FLAGS, MEMORY_MODES};

const DEFAULT: u32 = 0;
const PREFERRED: u32 = 1;
const BIND: u32 = 2;
const LOCAL: u32 = 4;
const PREFERRED_MANY: u32 = 5;
const NUMA_BALANCING: u32 = 1 << 13;
const RELATIVE_NODES: u32 = 1 << 14;
const STATIC_NODES: u32 = 1 << 15;

/// Node numbers are below this (MAX_NUMNODES with the largest CONFIG_NODES_SHIFT, 10).
const NODES_MAX: u32 = 1024;

pub(super) fn policy(given: Option<&MemoryPolicy>, at: &At) -> Result<Option<MemoryPolicyPlan>> {
    let Some(given) = given else {
        return Ok(None);
    };
    let mode = words::require(MEMORY_MODES, &given.mode, "mode", &at.field("mode"))?;
    let nodes = list::numbers(&given.nodes, NODES_MAX, &at.field("nodes"))?;
    let mut bits = 0;
    for (i, flag) in given.flags.iter().enumerate() {
        let at = at.field("flags");
        bits |= words::require(MEMORY_FLAGS, flag, "flag", &at.index(i))?;
    }
    match mode {
        DEFAULT | LOCAL if !nodes.is_empty() => {
            let reason = format!("{} takes no nodes", given.mode);
            return Err(at.field("nodes").invalid(&given.nodes, reason));
        }
        DEFAULT | LOCAL | PREFERRED => {}
        _ if nodes.is_empty() => {
            let reason = format!("{} needs at least one node", given.mode);
            return Err(at.field("nodes").missing(reason));
        }
        _ => {}
    }
    flags(bits, mode, nodes.is_empty(), &at.field("flags"))?;
    Ok(Some(MemoryPolicyPlan {
        mode: mode | bits,
        nodes,
    }))
}

fn flags(bits: u32, mode: u32, no_nodes: bool, at: &At) -> Result<()> {
    let numbering = RELATIVE_NODES | STATIC_NODES;
    if bits & numbering == numbering {
        return Err(at.conflict("MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other"));
    }
    if bits & numbering != 0 && no_nodes && matches!(mode, PREFERRED | LOCAL) {
        return Err(at.conflict("a numbering of nodes needs nodes"));
    }
    // MPOL_PREFERRED_MANY takes it since Linux 6.9.
    if bits & NUMA_BALANCING != 0 && !matches!(mode, BIND | PREFERRED_MANY) {
        return Err(at.conflict("MPOL_F_NUMA_BALANCING is for MPOL_BIND and MPOL_PREFERRED_MANY"));
    }
    Ok(())
}

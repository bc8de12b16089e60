//! `process`.

use std::collections::HashSet;
use std::path::PathBuf;

use super::limits;
use super::scheduling;
use super::{Warnings, list, text};
use crate::error::{At, Result};
use crate::oci::{Capabilities, CpuAffinity, IdMapping, Process, User};
use crate::plan::{CapabilitySets, CpuAffinityPlan, IdMaps, ProcessPlan, TerminalPlan, UserPlan};
use crate::words::{self, CAPABILITIES};

/// Most supplementary groups (NGROUPS_MAX; setgroups(2)).
const GROUPS_MAX: usize = 65_536;
/// CPU numbers are below this (the largest CONFIG_NR_CPUS).
const CPUS_MAX: u32 = 8192;

pub(super) fn process(
    given: &Process,
    id_maps: &IdMaps,
    at: &At,
    warnings: &mut Warnings,
) -> Result<ProcessPlan> {
    let mut unknown_capabilities = Vec::new();
    let capabilities = given.capabilities.as_ref().map(|sets| {
        let at = at.field("capabilities");
        capabilities(sets, &at, &mut unknown_capabilities, warnings)
    });
    Ok(ProcessPlan {
        terminal: terminal(given, at)?,
        args: args(&given.args, &at.field("args"))?,
        env: environment(&given.env, &at.field("env"))?,
        cwd: PathBuf::from(text::absolute(&given.cwd, &at.field("cwd"))?),
        user: user(&given.user, id_maps, &at.field("user"))?,
        capabilities,
        unknown_capabilities,
        rlimits: limits::rlimits(&given.rlimits, &at.field("rlimits"))?,
        no_new_privileges: given.no_new_privileges,
        apparmor_profile: text::optional_line(
            &given.apparmor_profile,
            &at.field("apparmorProfile"),
        )?,
        selinux_label: text::optional_line(&given.selinux_label, &at.field("selinuxLabel"))?,
        oom_score_adj: limits::oom_score_adj(given.oom_score_adj, &at.field("oomScoreAdj"))?,
        scheduler: scheduling::scheduler(given.scheduler.as_ref(), &at.field("scheduler"))?,
        io_priority: scheduling::io_priority(given.io_priority.as_ref(), &at.field("ioPriority"))?,
        exec_cpu_affinity: affinity(
            given.exec_cpu_affinity.as_ref(),
            &at.field("execCPUAffinity"),
        )?,
    })
}

/// The size counts only with a terminal; the kernel keeps it in two 16-bit numbers.
fn terminal(given: &Process, at: &At) -> Result<Option<TerminalPlan>> {
    if !given.terminal {
        return Ok(None);
    }
    if let Some(size) = given.console_size {
        let at = at.field("consoleSize");
        for (number, name) in [(size.height, "height"), (size.width, "width")] {
            if number > u64::from(u16::MAX) {
                return Err(at.field(name).invalid(number, "must be at most 65535"));
            }
        }
    }
    Ok(Some(TerminalPlan {
        size: given.console_size,
    }))
}

fn args(given: &[String], at: &At) -> Result<Vec<String>> {
    if given.is_empty() {
        return Err(at.missing("at least one word is required"));
    }
    for (i, word) in given.iter().enumerate() {
        text::no_nul(word, &at.index(i))?;
    }
    Ok(given.to_vec())
}

/// Of several values for one name the last one wins, and keeps its place.
fn environment(given: &[String], at: &At) -> Result<Vec<String>> {
    for (i, variable) in given.iter().enumerate() {
        let at = at.index(i);
        text::no_nul(variable, &at)?;
        match variable.find('=') {
            Some(0) => return Err(at.invalid(variable, "the name before = is empty")),
            Some(_) => {}
            None => return Err(at.invalid(variable, "must have the form NAME=value")),
        }
    }
    let mut seen = HashSet::new();
    let mut out: Vec<String> = given
        .iter()
        .rev()
        .filter(|variable| seen.insert(variable.split('=').next()))
        .cloned()
        .collect();
    out.reverse();
    Ok(out)
}

fn user(given: &User, id_maps: &IdMaps, at: &At) -> Result<UserPlan> {
    id(given.uid, &id_maps.uids, "uidMappings", &at.field("uid"))?;
    id(given.gid, &id_maps.gids, "gidMappings", &at.field("gid"))?;
    let groups = at.field("additionalGids");
    if given.additional_gids.len() > GROUPS_MAX {
        return Err(groups.invalid(
            given.additional_gids.len(),
            format!("at most {GROUPS_MAX} groups"),
        ));
    }
    for (i, &gid) in given.additional_gids.iter().enumerate() {
        id(gid, &id_maps.gids, "gidMappings", &groups.index(i))?;
    }
    if let Some(umask) = given.umask.filter(|&umask| umask > 0o777) {
        return Err(at
            .field("umask")
            .invalid(umask, "must be at most 511 (0777)"));
    }
    Ok(UserPlan {
        uid: given.uid,
        gid: given.gid,
        additional_gids: given.additional_gids.clone(),
        umask: given.umask,
    })
}

/// The last id of all means "leave it as it is" to setresuid(2), so it would be root's.
fn id(id: u32, map: &[IdMapping], name: &str, at: &At) -> Result<()> {
    if id == u32::MAX {
        return Err(at.invalid(id, "not an id"));
    }
    if !map.is_empty() && IdMaps::to_host(map, id).is_none() {
        return Err(at.invalid(id, format!("not in linux.{name}")));
    }
    Ok(())
}

/// Capabilities that are unknown, or that the kernel would refuse for want of another, are left
/// out with a warning, as config.md has it.
fn capabilities(
    given: &Capabilities,
    at: &At,
    unknown: &mut Vec<String>,
    warnings: &mut Warnings,
) -> CapabilitySets {
    let mut set = |names: &[String], name: &str| {
        let at = at.field(name);
        let mut bits = 0;
        for (i, word) in names.iter().enumerate() {
            match words::lookup(CAPABILITIES, word) {
                Some(number) => bits |= 1u64 << number,
                None => {
                    let at = at.index(i);
                    let e = at.invalid(word, "unknown capability, left out");
                    warnings.push(e.to_string());
                    if !unknown.contains(word) {
                        unknown.push(word.clone());
                    }
                }
            }
        }
        bits
    };
    let mut sets = CapabilitySets {
        bounding: set(&given.bounding, "bounding"),
        effective: set(&given.effective, "effective"),
        inheritable: set(&given.inheritable, "inheritable"),
        permitted: set(&given.permitted, "permitted"),
        ambient: set(&given.ambient, "ambient"),
    };
    let mut limit = |bits: &mut u64, within: u64, name: &str, need: &str| {
        let lost = *bits & !within;
        if lost != 0 {
            let lost = words::capability_names(lost).join(", ");
            let at = at.field(name);
            warnings.push(format!("{at}: {lost} left out, not in {need}"));
            *bits &= within;
        }
    };
    let permitted = sets.permitted;
    let both = permitted & sets.inheritable;
    limit(&mut sets.effective, permitted, "effective", "permitted");
    // The kernel would refuse the others (capabilities(7)). No warning: the default configuration
    // of runc 1.1 is like that.
    sets.ambient &= both;
    sets
}

fn affinity(given: Option<&CpuAffinity>, at: &At) -> Result<Option<CpuAffinityPlan>> {
    let Some(given) = given else {
        return Ok(None);
    };
    Ok(Some(CpuAffinityPlan {
        initial: list::numbers(&given.initial, CPUS_MAX, &at.field("initial"))?,
        after: list::numbers(&given.after, CPUS_MAX, &at.field("final"))?,
    }))
}

//! Attacks by what runs inside.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use rustix::thread::{Gid, set_thread_groups};
use serde_json::json;

use super::Outcome;
use super::arena::{Arena, Bundle, Ran};
use super::cases::{Went, by_findings, found};

/// What of the machine's groups the caller has while it starts the runtime.
const GROUP: u32 = 424_242;

pub fn descriptors(arena: &Arena) -> Went {
    let bundle = arena.bundle("descriptors", &["descriptors"])?;
    Ok(by_findings(&arena.run(&bundle)?, "only the standard three"))
}

/// With it the attacker gets further than a default container would.
const PTRACE: &[&str] = &["CAP_SYS_PTRACE"];

/// A container that runs the probe while something is done to it.
fn beside(
    arena: &Arena,
    name: &str,
    words: &[&str],
    capabilities: &[&str],
    act: impl Fn(&Bundle) -> Result<()>,
) -> Result<Ran> {
    let mut bundle = arena.bundle(name, words)?;
    bundle.grant(capabilities);
    let mut child = arena.start(&bundle, Stdio::piped())?;
    let out = bundle.dir.join("out");
    let watching = || std::fs::read_to_string(&out).is_ok_and(|t| t.contains("watching"));
    let mut tries = 0;
    while !watching() && tries < 2000 {
        tries += 1;
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let acted = if watching() {
        act(&bundle)
    } else {
        Err(anyhow::anyhow!("the container did not start"))
    };
    // The probe looks a last time and ends when its standard input does.
    drop(child.stdin.take());
    let ran = arena.finish(child, &bundle)?;
    // It ends early with what it has found, and then later acts fail.
    if found(&ran).is_empty() {
        acted?;
    }
    Ok(ran)
}

fn execs(arena: &Arena, bundle: &Bundle) -> Result<()> {
    for _ in 0..10 {
        let ran = arena.exec(bundle, &["hello"])?;
        if !ran.success {
            bail!("exec: {}", ran.complaint());
        }
    }
    Ok(())
}

pub fn descriptors_of_exec(arena: &Arena) -> Went {
    let seen = std::cell::RefCell::new(None);
    beside(arena, "descriptors-exec", &["watch"], &[], |bundle| {
        *seen.borrow_mut() = Some(arena.exec(bundle, &["descriptors"])?);
        Ok(())
    })?;
    let ran = seen.into_inner().context("exec did not run")?;
    Ok(by_findings(&ran, "only the standard three"))
}

pub fn working_directory(arena: &Arena) -> Went {
    for fd in 3..16 {
        let name = format!("cwd-{fd}");
        let mut bundle = arena.bundle(&name, &["outside", &arena.mark()])?;
        bundle.spec["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}"));
        let ran = arena.run(&bundle)?;
        if let Some(first) = found(&ran).first() {
            return Ok((Outcome::Broken, format!("/proc/self/fd/{fd}: {first}")));
        }
    }
    Ok((Outcome::Held, "descriptors 3 to 15 lead nowhere".to_owned()))
}

pub fn watch_exec(arena: &Arena) -> Went {
    let ran = beside(arena, "watch", &["watch"], &[], |b| execs(arena, b))?;
    Ok(by_findings(&ran, "10 execs seen, nothing to get hold of"))
}

pub fn overwrite_runtime(arena: &Arena) -> Went {
    let ran = beside(arena, "overwrite", &["overwrite"], PTRACE, |b| {
        execs(arena, b)
    })?;
    Ok(by_findings(&ran, "10 execs, never writable"))
}

pub fn climb(arena: &Arena) -> Went {
    let mut bundle = arena.bundle("climb", &["climb", &arena.mark()])?;
    bundle.grant(&["CAP_SYS_CHROOT"]);
    Ok(by_findings(
        &arena.run(&bundle)?,
        "the way up ends at the container's root",
    ))
}

pub fn old_root(arena: &Arena) -> Went {
    let dir = arena.path("state").display().to_string();
    let bundle = arena.bundle("mounts", &["mounts", &dir])?;
    Ok(by_findings(&arena.run(&bundle)?, "none"))
}

pub fn processes(arena: &Arena) -> Went {
    let bundle = arena.bundle("processes", &["processes"])?;
    Ok(by_findings(&arena.run(&bundle)?, "only its own"))
}

pub fn device(arena: &Arena) -> Went {
    let mut bundle = arena.bundle("device", &["device"])?;
    bundle.grant(&["CAP_MKNOD", "CAP_SYS_RAWIO"]);
    Ok(by_findings(
        &arena.run(&bundle)?,
        "the node can be made, not opened",
    ))
}

pub fn release_agent(arena: &Arena) -> Went {
    let bundle = arena.bundle("release-agent", &["release-agents"])?;
    Ok(by_findings(
        &arena.run(&bundle)?,
        "no file of the groups can be written",
    ))
}

pub fn kernel_parameters(arena: &Arena) -> Went {
    let paths = [
        "writable",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/panic_on_oom",
        "/sys/kernel/uevent_helper",
    ];
    let bundle = arena.bundle("parameters", &paths)?;
    Ok(by_findings(&arena.run(&bundle)?, "all read-only"))
}

fn value(ran: &Ran) -> Option<&str> {
    ran.out.lines().find_map(|l| l.strip_prefix("value "))
}

pub fn inheritable(arena: &Arena) -> Went {
    let bundle = arena.bundle("inheritable", &["status", "CapInh"])?;
    let ran = arena.run(&bundle)?;
    let mask = value(&ran).context("no answer")?;
    Ok(match u64::from_str_radix(mask, 16) {
        Ok(0) => (Outcome::Held, "none".to_owned()),
        _ => (Outcome::Broken, format!("CapInh is {mask}")),
    })
}

pub fn groups(arena: &Arena) -> Went {
    let before = rustix::process::getgroups().context("getgroups()")?;
    set_thread_groups(&[Gid::from_raw(GROUP)]).context("setgroups(1)")?;
    let ran = arena
        .bundle("groups", &["status", "Groups"])
        .and_then(|b| arena.run(&b));
    let back: Vec<Gid> = before.iter().map(|g| Gid::from_raw(g.as_raw())).collect();
    set_thread_groups(&back).context("setgroups(back)")?;
    let ran = ran?;
    let groups = value(&ran).unwrap_or_default();
    Ok(
        if groups.split_whitespace().any(|g| g == GROUP.to_string()) {
            (
                Outcome::Broken,
                format!("group {GROUP} of the caller is inside"),
            )
        } else {
            (
                Outcome::Held,
                format!(
                    "groups inside: {}",
                    if groups.is_empty() { "none" } else { groups }
                ),
            )
        },
    )
}

pub fn user_id(arena: &Arena) -> Went {
    for uid in [u64::from(u32::MAX), 1 << 32] {
        let mut bundle = arena.bundle(&format!("uid-{uid}"), &["status", "Uid"])?;
        bundle.spec["process"]["user"]["uid"] = json!(uid);
        let ran = arena.run(&bundle)?;
        if value(&ran).is_some_and(|v| v.split_whitespace().any(|id| id == "0")) {
            return Ok((Outcome::Broken, format!("user {uid} is root inside")));
        }
    }
    Ok((
        Outcome::Held,
        "4294967295 and 4294967296 are refused".to_owned(),
    ))
}

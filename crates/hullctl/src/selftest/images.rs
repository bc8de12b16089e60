//! Attacks by what an image or a configuration holds.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Outcome;
use super::arena::{Arena, Bundle, Ran};
use super::cases::{Went, by_findings, found};

/// Held unless the victim directory was written to.
fn by_victim(arena: &Arena, ran: &Ran) -> Went {
    let hit = arena.victim_was_hit()?;
    Ok(match hit.first() {
        Some(name) => (
            Outcome::Broken,
            format!("{name} was made in a directory of the machine"),
        ),
        None if ran.success => (Outcome::Held, "resolved inside the root".to_owned()),
        None => (Outcome::Held, ran.complaint()),
    })
}

fn run_with_link(
    arena: &Arena,
    name: &str,
    place: &str,
    change: impl Fn(&mut Bundle),
) -> Result<Ran> {
    let mut bundle = arena.bundle(name, &["hello"])?;
    bundle.link(place, &arena.victim())?;
    change(&mut bundle);
    arena.run(&bundle)
}

/// A file in the victim that stands for the machine's: a mask or a mount must not reach it.
pub fn proc(arena: &Arena) -> Went {
    let ran = run_with_link(arena, "proc", "proc", |_| {})?;
    by_victim(arena, &ran)
}

pub fn dev(arena: &Arena) -> Went {
    let ran = run_with_link(arena, "dev", "dev", |b| b.unmount("/dev"))?;
    by_victim(arena, &ran)
}

fn tmpfs(destination: &str) -> Value {
    json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs" })
}

pub fn mount_point(arena: &Arena) -> Went {
    let file = arena.victim().join("file");
    fs::write(&file, "of the machine").context("write(victim/file)")?;
    let mut bundle = arena.bundle("mount-point", &["read", "/mnt/file"])?;
    bundle.link("mnt", &arena.victim())?;
    bundle.mount(tmpfs("/mnt"));
    let ran = arena.run(&bundle)?;
    let intact = fs::read(&file).is_ok_and(|b| b == b"of the machine");
    arena.victim_was_hit()?;
    Ok(match (found(&ran).first(), intact) {
        (Some(_), _) => (Outcome::Broken, "a file of the machine was read".to_owned()),
        (_, false) => (
            Outcome::Broken,
            "a directory of the machine was covered".to_owned(),
        ),
        _ => by_findings(&ran, "resolved inside the root"),
    })
}

pub fn made_below(arena: &Arena) -> Went {
    let ran = run_with_link(arena, "made-below", "mnt", |b| {
        b.mount(tmpfs("/mnt/made/deep"))
    })?;
    by_victim(arena, &ran)
}

pub fn working_directory(arena: &Arena) -> Went {
    let ran = run_with_link(arena, "made-cwd", "mnt", |b| {
        b.spec["process"]["cwd"] = json!("/mnt/made");
    })?;
    by_victim(arena, &ran)
}

pub fn null(arena: &Arena) -> Went {
    let mut bundle = arena.bundle("null", &["read", "/secret"])?;
    fs::write(bundle.root.join("secret"), "secret").context("write(secret)")?;
    fs::write(bundle.root.join("other"), "what the image put in its place")
        .context("write(other)")?;
    bundle.unmount("/dev");
    std::os::unix::fs::symlink(Path::new("/other"), bundle.root.join("dev/null"))
        .context("symlink(dev/null)")?;
    if let Some(list) = bundle.spec["linux"]["maskedPaths"].as_array_mut() {
        list.push(json!("/secret"));
    }
    Ok(by_findings(&arena.run(&bundle)?, "masked by an empty file"))
}

pub fn powercap(arena: &Arena) -> Went {
    let spec = arena.own_default()?;
    let masked = |path: &str| {
        let list = spec["linux"]["maskedPaths"].as_array();
        list.is_some_and(|l| l.iter().any(|p| p == path))
    };
    let path = "/sys/devices/virtual/powercap";
    Ok(if masked(path) {
        (Outcome::Held, format!("{path} is masked"))
    } else {
        (Outcome::Broken, format!("`spec` does not mask {path}"))
    })
}

fn core_pattern() -> Result<String> {
    let path = "/proc/sys/kernel/core_pattern";
    fs::read_to_string(path).with_context(|| format!("read({path})"))
}

/// A name of the container's own namespace, with a second assignment behind it. The second one
/// writes what is there already, so that nothing changes where it succeeds; the container's own
/// value tells.
pub fn parameter(arena: &Arena) -> Went {
    let before = core_pattern()?;
    let value = format!("1+kernel.core_pattern={}", before.trim());
    let ran = with_parameter(arena, "parameter", "kernel.shm_rmid_forced", &value)?;
    Ok(if ran.success {
        (
            Outcome::Broken,
            "a value with a second assignment was taken".to_owned(),
        )
    } else {
        (Outcome::Held, ran.complaint())
    })
}

pub fn climbing_parameter(arena: &Arena) -> Went {
    let before = core_pattern()?;
    let name = "net/../kernel/core_pattern";
    let ran = with_parameter(arena, "climbing", name, before.trim())?;
    Ok(if ran.success {
        (
            Outcome::Broken,
            format!("{name} was taken for a parameter of the network"),
        )
    } else {
        (Outcome::Held, ran.complaint())
    })
}

fn with_parameter(arena: &Arena, name: &str, parameter: &str, value: &str) -> Result<Ran> {
    let mut bundle = arena.bundle(name, &["hello"])?;
    bundle.spec["linux"]["sysctl"] = json!({ parameter: value });
    arena.run(&bundle)
}

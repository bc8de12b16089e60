//! `hullctl image commit`, `diff`, `check`.

use std::fs::File;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail};
use clap::{ArgAction, ArgMatches, Command};
use image::Reference;
use image::bundle::{Change, ChangeKind, diff};
use image::document::History;
use image::store::{CommitOptions, MountOptions, PullOptions, Store};
use serde_json::json;

use super::changes;
use super::layers::created_now;
use super::options::{
    ONE, access, argument, find, flag, option, required, store, store_to_read, text, with_retry,
    with_side, with_store, words,
};
use super::progress::Show;

/// The definition of `commit`.
pub fn commit_command() -> Command {
    let command = Command::new("commit")
        .about("Make an image of what a container, or `mount --rw`, has written")
        .after_help("Examples:\n  hullctl image commit web registry.local:5000/web:patched\n  hullctl image commit -c 'CMD [\"nginx\"]' work app:2")
        .arg(argument("container", "ID", "The container's or the mount's id").required(true))
        .arg(argument("name", "NAME", "Name of the image").required(true))
        .arg(option("change", "INSTRUCTION", "A Dockerfile's instruction: CMD, ENV, …").short('c').action(ArgAction::Append))
        .arg(option("author", "NAME", "Author").short('a'))
        .arg(option("message", "TEXT", "Remark in the image's history").short('m'));
    with_store(command)
}

/// Commits.
pub fn commit(m: &ArgMatches) -> Result<()> {
    let store = store(m)?;
    let id = required(m, "container");
    let reference = Reference::parse(&required(m, "name"))?;
    let asked = words(m, "change");
    let config = if asked.is_empty() {
        None
    } else {
        let image = store.mounted(&id)?.image;
        let mut run = store.inspect(&image)?.config.config.unwrap_or_default();
        for change in &asked {
            changes::apply(&mut run, change)?;
        }
        Some(run)
    };
    let options = CommitOptions {
        history: History {
            created: Some(created_now()),
            created_by: format!("hullctl image commit {id}"),
            author: text(m, "author").unwrap_or_default(),
            comment: text(m, "message").unwrap_or_default(),
            empty_layer: false,
        },
        config,
        author: text(m, "author").unwrap_or_default(),
    };
    println!("{}", store.commit(&id, &reference, &options)?.id);
    Ok(())
}

/// The definition of `diff`.
pub fn diff_command() -> Command {
    let command = Command::new("diff")
        .about("Show what a container has changed, or in what two images differ")
        .after_help(
            "Examples:\n  hullctl image diff web\n  hullctl image diff debian:12 debian:mine",
        )
        .arg(
            argument(
                "first",
                "ID|IMAGE",
                "A container or a mount; with a second: an image",
            )
            .required(true),
        )
        .arg(argument("second", "IMAGE", "Another image"))
        .arg(
            option("format", "FORMAT", "`text` or `json`")
                .value_parser(["text", "json"])
                .default_value("text"),
        );
    with_store(command)
}

/// Shows differences.
pub fn run_diff(m: &ArgMatches) -> Result<()> {
    let first = required(m, "first");
    let changes = match text(m, "second") {
        None => store_to_read(m)?.changes(&first)?,
        Some(second) => between(&store(m)?, &first, &second)?,
    };
    if text(m, "format").as_deref() == Some("json") {
        let list: Vec<_> = changes
            .iter()
            .map(|c| json!({ "path": c.path.to_string(), "kind": c.kind }))
            .collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    for change in changes {
        let letter = match change.kind {
            ChangeKind::Added => 'A',
            ChangeKind::Modified => 'C',
            ChangeKind::Deleted => 'D',
        };
        println!("{letter} {}", change.path);
    }
    Ok(())
}

/// Mounts both, compares, and unmounts whatever happened.
fn between(store: &Store, first: &str, second: &str) -> Result<Vec<Change>> {
    let read_only = MountOptions {
        read_only: true,
        ..MountOptions::default()
    };
    let ids = ["a", "b"].map(|side| format!("diff-{side}-{}", std::process::id()));
    let compare = || -> Result<Vec<Change>> {
        let mut roots = Vec::new();
        for (id, name) in ids.iter().zip([first, second]) {
            let path = store.mount(&find(store, name)?.id, id, &read_only)?.path;
            roots.push(File::open(&path).with_context(|| format!("open {}", path.display()))?);
        }
        match roots.as_slice() {
            [old, new] => Ok(diff(old.as_fd(), new.as_fd())?),
            _ => Ok(Vec::new()),
        }
    };
    let result = compare();
    let mut undone = Ok(());
    for id in &ids {
        match store.remove_rootfs(id) {
            // The first mount failed: there is no second.
            Err(e) if e.is_missing() => {}
            other => undone = undone.and(other),
        }
    }
    let changes = result?;
    undone?;
    Ok(changes)
}

/// The definition of `check`.
pub fn check_command() -> Command {
    let command = Command::new("check")
        .about("Compute the digests of all images again from what is on disk")
        .after_help("Examples:\n  hullctl image check\n  hullctl image check --repair")
        .arg(flag("repair", "Fetch anew what is broken"))
        .arg(
            option("format", "FORMAT", "`text` or `json`")
                .value_parser(["text", "json"])
                .default_value("text"),
        );
    with_store(with_side(with_retry(command), &ONE))
}

/// Checks.
pub fn check(m: &ArgMatches) -> Result<()> {
    let repair = m.get_flag("repair");
    let store = if repair { store(m)? } else { store_to_read(m)? };
    let mut report = store.check()?;
    if repair && !report.broken.is_empty() {
        mend(m, &store, &report.broken)?;
        report = store.check()?;
    }
    if text(m, "format").as_deref() == Some("json") {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        let size = indicatif::HumanBytes(report.bytes);
        println!(
            "{} layers, {size} checked, {} broken",
            report.layers,
            report.broken.len()
        );
        for broken in &report.broken {
            println!("{}: {}", broken.digest, broken.why);
        }
    }
    match report.broken.len() {
        0 => Ok(()),
        n => bail!("check: {n} broken; `hullctl image check --repair` fetches them anew"),
    }
}

fn mend(m: &ArgMatches, store: &Store, broken: &[image::store::Broken]) -> Result<()> {
    let access = access(m, &ONE)?;
    let show = Show::new(false);
    let progress = |event: image::store::Event<'_>| show.event(&event);
    let options = PullOptions {
        progress: Some(&progress),
        ..PullOptions::default()
    };
    let mut ids: Vec<&image::Digest> = broken.iter().flat_map(|b| &b.images).collect();
    ids.sort();
    ids.dedup();
    for id in ids {
        let record = store.image(id)?;
        // By digest where that is known: a tag may mean something else by now.
        let Some(name) = record.digests.first().or_else(|| record.names.first()) else {
            bail!("check: image {} has no name to fetch it by", id.short());
        };
        let reference = Reference::parse(name)?;
        store.heal(&access.source(&reference)?, &reference, &options)?;
    }
    Ok(())
}

//! `hullctl image copy`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{ArgAction, ArgMatches, Command, value_parser};
use image::config::Scope;
use image::copy::{self, Options, Which};
use image::transport::TransportRef;

use super::options::{
    DEST, SRC, access, argument, flag, option, platform, policy, required, retry, text,
    with_platform, with_policy, with_retry, with_side, with_store, words,
};
use super::progress::Show;
use super::{layers, place};

const EXAMPLES: &str = "\
Examples:
  hullctl image copy docker://debian:12 oci:layout:debian
      from a registry into an OCI layout
  hullctl image copy --all docker://busybox docker://registry.local:5000/busybox
      all platforms, from registry to registry
  hullctl image copy --dest-compress-format zstd oci:layout:debian oci-archive:debian.tar:debian
      with layers compressed anew";

/// The definition.
pub fn command() -> Command {
    let command = Command::new("copy")
        .about("Copy an image between registries, layouts, archives, directories and the store")
        .after_help(EXAMPLES)
        .arg(argument("source", "FROM", "docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], dir:DIR, hull:NAME").required(true))
        .arg(argument("destination", "TO", "The same").required(true))
        .arg(flag("all", "All images of an index").short('a'))
        .arg(option("multi-arch", "WHICH", "Which images of an index").value_parser(["system", "all", "index-only"]))
        .arg(option("format", "FORMAT", "Format of manifests").value_parser(["oci", "v2s2"]).short('f'))
        .arg(flag("preserve-digests", "Fail rather than change a manifest"))
        .arg(option("additional-tag", "TAG", "A further name at the destination").action(ArgAction::Append))
        .arg(option("digestfile", "FILE", "Write the digest to this file").value_parser(value_parser!(PathBuf)))
        .arg(
            option("image-parallel-copies", "N", "Layers at the same time")
                .value_parser(value_parser!(u32).range(1..=64))
                .default_value("6"),
        )
        .arg(flag("quiet", "No progress, only the digest").short('q'));
    let command = layers::with_compression(with_policy(with_retry(with_platform(command))));
    with_store(with_side(with_side(command, &SRC), &DEST))
}

/// Copies.
pub fn run(m: &ArgMatches) -> Result<()> {
    let from = TransportRef::parse(&required(m, "source"))?;
    let to = TransportRef::parse(&required(m, "destination"))?;
    let rules = policy(m)?;
    let show = Show::new(m.get_flag("quiet"));
    let options = Options {
        which: which(m)?,
        platform: platform(m)?,
        format: layers::format(m),
        layers: layers::layers(m),
        preserve_digests: m.get_flag("preserve-digests"),
        additional_tags: words(m, "additional-tag"),
        parallel: m
            .get_one::<u32>("image-parallel-copies")
            .map_or(6, |n| *n as usize),
        retry: retry(m)?,
        policy: (&rules, Scope::of(&from)),
        progress: &show,
    };
    if let TransportRef::Store(name) = &to {
        return place::into_store(m, &from, name, &options, &show);
    }
    let source = place::source(m, &from, &access(m, &SRC)?)?;
    let destination = to.destination(&access(m, &DEST)?)?;
    let copied = copy::copy(source.as_source(), destination.as_ref(), &options)?;
    if let Some(file) = m.get_one::<PathBuf>("digestfile") {
        std::fs::write(file, copied.digest.to_string())
            .with_context(|| format!("write {}", file.display()))?;
    }
    println!("{}", copied.digest);
    Ok(())
}

fn which(m: &ArgMatches) -> Result<Which> {
    let word = text(m, "multi-arch");
    Ok(match (word.as_deref(), m.get_flag("all")) {
        (None, false) | (Some("system"), false) => Which::Platform,
        (None | Some("all"), true) | (Some("all"), false) => Which::All,
        (Some("index-only"), false) => Which::IndexOnly,
        (word, _) => bail!(
            "--all and --multi-arch {}: give one of them",
            word.unwrap_or("")
        ),
    })
}

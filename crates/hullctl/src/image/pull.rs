//! `hullctl image pull`.

use anyhow::Result;
use clap::{ArgMatches, Command, value_parser};
use image::Reference;
use image::config::{Policy, Scope};
use image::pull;
use image::registry::Access;
use image::store::{ImageRecord, PARALLEL, PullOptions, Store};
use image::transport::TransportRef;
use serde_json::json;

use super::options::{
    ONE, access, argument, flag, option, platform, policy, required, store, text, with_platform,
    with_policy, with_retry, with_side, with_store,
};
use super::place;
use super::progress::Show;

const EXAMPLES: &str = "\
Examples:
  hullctl image pull debian:12
  hullctl image pull --tls-verify=false registry.local:5000/app
  hullctl image pull --platform linux/arm64 busybox
  hullctl image pull oci:layout:app --name app:1";

/// The definition.
pub fn command() -> Command {
    let command = Command::new("pull")
        .about("Fetch an image into the store")
        .after_help(EXAMPLES)
        .arg(
            argument(
                "image",
                "IMAGE",
                "A name (short or whole), or another place: oci:DIR[:TAG], …",
            )
            .required(true),
        )
        .arg(option(
            "name",
            "NAME",
            "What to call it in the store (default: as it is called)",
        ))
        .arg(
            option("parallel", "N", "Layers at the same time")
                .value_parser(value_parser!(u32).range(1..=64)),
        )
        .arg(
            option("format", "FORMAT", "`id` or `json`")
                .value_parser(["id", "json"])
                .default_value("id"),
        )
        .arg(flag("quiet", "No progress").short('q'));
    with_store(with_side(
        with_policy(with_retry(with_platform(command))),
        &ONE,
    ))
}

/// Pulls.
pub fn run(m: &ArgMatches) -> Result<()> {
    let word = required(m, "image");
    let (platform, rules, access) = (platform(m)?, policy(m)?, access(m, &ONE)?);
    let store = store(m)?;
    let show = Show::new(m.get_flag("quiet"));
    let progress = |event: image::store::Event<'_>| show.event(&event);
    let options = PullOptions {
        platform: Some(&platform),
        parallel: m
            .get_one::<u32>("parallel")
            .map_or(PARALLEL, |n| *n as usize),
        progress: Some(&progress),
        ..PullOptions::default()
    };
    let name = text(m, "name");
    let record = match TransportRef::parse(&word)? {
        TransportRef::Store(short) if name.is_none() => {
            pull::pull_named(&store, &access, &rules, &short, &options)?
        }
        other => {
            let from = match other {
                TransportRef::Store(short) => TransportRef::Registry(first(&access, &short)?),
                other => other,
            };
            let reference = match (&name, &from) {
                (Some(name), _) => Reference::parse(name)?,
                (None, TransportRef::Registry(reference)) => reference.clone(),
                (None, other) => own_name(other)?,
            };
            let scope = Scope::of(&from);
            let source = place::source(m, &from, &access)?;
            pull::pull(
                &store,
                source.as_source(),
                (&rules, &scope),
                &reference,
                &options,
            )?
        }
    };
    print(m, &record)
}

/// Fetches an image for a command that needs it: by this machine's configuration.
pub fn fetch(store: &Store, word: &str) -> Result<ImageRecord> {
    let (access, rules) = (Access::system()?, Policy::system()?);
    let show = Show::new(false);
    let progress = |event: image::store::Event<'_>| show.event(&event);
    let options = PullOptions {
        progress: Some(&progress),
        ..PullOptions::default()
    };
    match TransportRef::parse(word)? {
        TransportRef::Store(short) => {
            Ok(pull::pull_named(store, &access, &rules, &short, &options)?)
        }
        from => {
            let reference = match &from {
                TransportRef::Registry(reference) => reference.clone(),
                other => own_name(other)?,
            };
            let scope = Scope::of(&from);
            let source = from.source(&access)?;
            Ok(pull::pull(
                store,
                source.as_ref(),
                (&rules, &scope),
                &reference,
                &options,
            )?)
        }
    }
}

fn first(access: &Access, short: &str) -> Result<Reference> {
    let candidates = access.registries().candidates(short)?;
    let first = candidates.into_iter().next();
    first.ok_or_else(|| anyhow::anyhow!("pull: {short}: no registry to ask"))
}

/// What an image of a layout or an archive calls itself.
fn own_name(place: &TransportRef) -> Result<Reference> {
    use image::transport::Name;
    match place {
        TransportRef::Layout(_, Name::Tag(tag))
        | TransportRef::LayoutArchive(_, Name::Tag(tag)) => {
            let is_name = tag.contains(['/', ':']);
            let text = if is_name {
                tag.clone()
            } else {
                format!("localhost/{tag}")
            };
            Ok(Reference::parse(&text)?)
        }
        TransportRef::DockerArchive(_, Some(reference)) => Ok(reference.clone()),
        other => anyhow::bail!("pull {other}: give the image a name in the store with --name"),
    }
}

fn print(m: &ArgMatches, record: &ImageRecord) -> Result<()> {
    if text(m, "format").as_deref() == Some("json") {
        println!("{}", serde_json::to_string_pretty(&json!(record))?);
    } else {
        println!("{}", record.id);
    }
    Ok(())
}

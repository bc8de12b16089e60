//! `hullctl image unpack` and `repack`: umoci's two.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{ArgAction, ArgMatches, Command, value_parser};
use image::Reference;
use image::bundle::{Compression, Origin, RepackOptions, UnpackOptions, repack, unpack};
use image::config::Scope;
use image::document::{Descriptor, History};
use image::layer::{IdMap, Ownership};
use image::progress::Progress as _;
use image::transport::{
    LayoutDestination, LayoutSource, Name, Pinned, Source, TransportRef, resolve,
};

use super::archives::store_made;
use super::layers::created_now;
use super::options::{
    ONE, access, argument, flag, option, platform, policy, required, store, text, with_platform,
    with_policy, with_retry, with_side, with_store, words,
};
use super::place;
use super::progress::Show;

/// The definition of `unpack`.
pub fn unpack_command() -> Command {
    let command = Command::new("unpack")
        .about("Make a bundle of an image: rootfs and config.json, for `hull run`")
        .after_help("Examples:\n  hullctl image unpack oci:layout:debian bundle\n  hullctl image unpack docker://busybox bundle && hull run -b bundle box\n  hullctl image unpack --rootless busybox bundle")
        .arg(argument("image", "IMAGE", "docker://NAME, oci:DIR[:TAG], a name in the store, …").required(true))
        .arg(argument("bundle", "DIR", "The bundle").required(true).value_parser(value_parser!(PathBuf)))
        .arg(flag("rootless", "All files belong to you; owners are kept beside them"))
        .arg(option("uid-map", "INSIDE:OUTSIDE[:COUNT]", "Map of users").action(ArgAction::Append))
        .arg(option("gid-map", "INSIDE:OUTSIDE[:COUNT]", "Map of groups").action(ArgAction::Append))
        .arg(flag("quiet", "No progress").short('q'));
    with_store(with_side(
        with_policy(with_retry(with_platform(command))),
        &ONE,
    ))
}

/// Unpacks.
pub fn run_unpack(m: &ArgMatches) -> Result<()> {
    let from = TransportRef::parse(&required(m, "image"))?;
    let bundle = m.get_one::<PathBuf>("bundle").cloned().unwrap_or_default();
    let platform = platform(m)?;
    let ownership = ownership(m)?;
    let opened = place::source(m, &from, &access(m, &ONE)?)?;
    let source = Pinned::new(opened.as_source())?;
    let found = resolve(&source, &platform)?;
    if !matches!(from, TransportRef::Store(_)) {
        let rules = policy(m)?;
        image::policy::check(
            &rules,
            &Scope::of(&from),
            &source,
            &[&found.top, &found.raw],
        )?;
    }
    let show = Show::new(m.get_flag("quiet"));
    let blobs: &[Descriptor] = &found.manifest.layers;
    show.expected(blobs);
    let progress = |layer: usize, bytes: u64| {
        if let Some(blob) = blobs.get(layer) {
            show.advanced(&blob.digest, bytes);
        }
    };
    let options = UnpackOptions {
        platform: Some(&platform),
        ownership: Some(&ownership),
        progress: Some(&progress),
        ..UnpackOptions::default()
    };
    unpack(&source, &bundle, &options)?;
    Ok(())
}

fn ownership(m: &ArgMatches) -> Result<Ownership> {
    let maps = |name: &str| -> Result<Vec<IdMap>> {
        words(m, name)
            .iter()
            .map(|text| id_map(name, text))
            .collect()
    };
    let (uids, gids) = (maps("uid-map")?, maps("gid-map")?);
    let rootless = m.get_flag("rootless");
    match (rootless, uids.is_empty() && gids.is_empty()) {
        (true, true) => Ok(Ownership::Rootless),
        (true, false) => bail!("unpack: --rootless has no maps: leave --uid-map and --gid-map out"),
        (false, true) => Ok(Ownership::AsWritten),
        (false, false) => Ok(Ownership::Mapped { uids, gids }),
    }
}

fn id_map(name: &str, text: &str) -> Result<IdMap> {
    let numbers: Vec<Option<u32>> = text.split(':').map(|n| n.parse().ok()).collect();
    let (container, host, count) = match numbers.as_slice() {
        [Some(container), Some(host)] => (*container, *host, 1),
        [Some(container), Some(host), Some(count)] => (*container, *host, *count),
        _ => bail!("unpack: --{name} {text}: not INSIDE:OUTSIDE[:COUNT]"),
    };
    Ok(IdMap {
        container,
        host,
        count,
    })
}

/// The definition of `repack`.
pub fn repack_command() -> Command {
    let command = Command::new("repack")
        .about("Make an image of a bundle: what was changed becomes a layer")
        .after_help("Examples:\n  hullctl image repack bundle oci:layout:debian-mine\n  hullctl image repack --from docker://debian:12 bundle debian:mine")
        .arg(argument("bundle", "DIR", "The bundle").required(true).value_parser(value_parser!(PathBuf)))
        .arg(argument("destination", "TO", "oci:DIR:TAG, docker://NAME, a name in the store, …").required(true))
        .arg(option("from", "PLACE", "Where the layers below are (default: the destination's layout)"))
        .arg(option("compress", "KIND", "Compression of the new layer").value_parser(["gzip", "zstd", "none"]).default_value("gzip"))
        .arg(option("mask-path", "PATH", "Leave this out").action(ArgAction::Append))
        .arg(option("author", "NAME", "Author of the step").alias("history.author"))
        .arg(option("comment", "TEXT", "Remark on the step").alias("history.comment"))
        .arg(option("created-by", "TEXT", "What made the step").alias("history.created_by"));
    with_store(with_side(with_retry(command), &ONE))
}

/// Repacks.
pub fn run_repack(m: &ArgMatches) -> Result<()> {
    let bundle = m.get_one::<PathBuf>("bundle").cloned().unwrap_or_default();
    let to = TransportRef::parse(&required(m, "destination"))?;
    let access = access(m, &ONE)?;
    let origin = Origin::read(&bundle)?;
    let source: Box<dyn Source> = match (text(m, "from"), &to) {
        (Some(from), _) => {
            let from = TransportRef::parse(&from)?;
            place::source(m, &from, &access)?.into_source()
        }
        (None, TransportRef::Layout(dir, _)) => {
            let name = Name::Digest(origin.manifest_digest.clone());
            Box::new(LayoutSource::open(dir, &name)?)
        }
        (None, _) => bail!("repack: say with --from where the image's other layers are"),
    };
    let options = RepackOptions {
        compression: match text(m, "compress").as_deref() {
            Some("zstd") => Compression::Zstd,
            Some("none") => Compression::None,
            _ => Compression::Gzip,
        },
        history: History {
            created: Some(created_now()),
            created_by: text(m, "created-by").unwrap_or_else(|| "hullctl image repack".to_owned()),
            author: text(m, "author").unwrap_or_default(),
            comment: text(m, "comment").unwrap_or_default(),
            empty_layer: false,
        },
        masked: words(m, "mask-path")
            .into_iter()
            .map(PathBuf::from)
            .collect(),
    };
    if let TransportRef::Store(name) = &to {
        let dir = tempfile::tempdir()?;
        let layout = LayoutDestination::open(dir.path(), &Name::Only)?;
        repack(&bundle, source.as_ref(), &layout, &options)?;
        let made = LayoutSource::open(dir.path(), &Name::Only)?;
        let reference = Reference::parse(name)?;
        let platform = image::Platform::host();
        println!(
            "{}",
            store_made(&store(m)?, &made, &reference, &platform, true)?
        );
        return Ok(());
    }
    let destination = to.destination(&access)?;
    println!(
        "{}",
        repack(&bundle, source.as_ref(), destination.as_ref(), &options)?
    );
    Ok(())
}

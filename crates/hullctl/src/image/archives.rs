//! `hullctl image push`, `save`, `load`, `import`.

use std::fs::File;
use std::io::{Read, Seek as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{ArgAction, ArgMatches, Command, value_parser};
use image::Reference;
use image::config::{Policy, Scope};
use image::copy::{self, Options, Which};
use image::store::{PullOptions, Store};
use image::transport::{self, Contents, LayoutDestination, LayoutSource, Name, TransportRef};
use image::{Platform, pull};

use super::options::{
    ONE, access, argument, find, flag, option, policy, required, retry, store, store_to_read, text,
    with_policy, with_retry, with_side, with_store, words,
};
use super::progress::Show;
use super::{changes, layers};

/// The definition of `push`.
pub fn push_command() -> Command {
    let command = Command::new("push")
        .about("Send an image of the store to a registry or another place")
        .after_help("Examples:\n  hullctl image push registry.local:5000/app:1\n  hullctl image push app:1 docker://registry.local:5000/team/app:1\n  hullctl image push app:1 oci:layout:app")
        .arg(argument("image", "IMAGE", "A name or an id in the store").required(true))
        .arg(argument("destination", "TO", "Where to (default: docker:// and the image's name)"))
        .arg(option("format", "FORMAT", "Format of the manifest").value_parser(["oci", "v2s2"]).short('f'))
        .arg(option("digestfile", "FILE", "Write the digest to this file").value_parser(value_parser!(PathBuf)))
        .arg(flag("quiet", "No progress").short('q'));
    with_store(with_side(
        with_retry(layers::with_compression(command)),
        &ONE,
    ))
}

/// Pushes.
pub fn push(m: &ArgMatches) -> Result<()> {
    let name = required(m, "image");
    let to = match text(m, "destination") {
        Some(to) => TransportRef::parse(&to)?,
        None => TransportRef::Registry(Reference::parse(&name)?),
    };
    let to = match to {
        // A name without a transport: a push into the store would be a tag.
        TransportRef::Store(name) => TransportRef::Registry(Reference::parse(&name)?),
        to => to,
    };
    let store = store_to_read(m)?;
    let source = store.export(&find(&store, &name)?.id)?;
    let show = Show::new(m.get_flag("quiet"));
    let rules = Policy::accept_anything();
    let mut options = own_options(&rules, &show);
    options.format = layers::format(m);
    options.layers = layers::layers(m);
    options.retry = retry(m)?;
    let destination = to.destination(&access(m, &ONE)?)?;
    let copied = copy::copy(&source, destination.as_ref(), &options)?;
    if let Some(file) = m.get_one::<PathBuf>("digestfile") {
        std::fs::write(file, copied.digest.to_string())
            .with_context(|| format!("write {}", file.display()))?;
    }
    println!("{}", copied.digest);
    Ok(())
}

/// Options for an image that is in the store already: a policy has been asked when it came.
fn own_options<'a>(rules: &'a Policy, show: &'a Show) -> Options<'a> {
    Options {
        which: Which::Platform,
        platform: Platform::host(),
        format: None,
        layers: copy::Layers::Usual,
        preserve_digests: false,
        additional_tags: Vec::new(),
        parallel: 4,
        retry: image::registry::Retry::default(),
        policy: (rules, Scope::of(&TransportRef::Store(String::new()))),
        progress: show,
    }
}

/// The definition of `save`.
pub fn save_command() -> Command {
    let command = Command::new("save")
        .about("Write images of the store into an archive")
        .after_help("Examples:\n  hullctl image save -o debian.tar debian:12\n  hullctl image save -o all.tar --format oci-archive debian:12 busybox")
        .arg(argument("image", "IMAGE", "A name or an id").required(true).num_args(1..))
        .arg(option("output", "FILE", "The archive").short('o').required(true).value_parser(value_parser!(PathBuf)))
        .arg(option("format", "FORMAT", "What `docker load` reads, or an OCI layout").value_parser(["docker-archive", "oci-archive"]).default_value("docker-archive"))
        .arg(flag("quiet", "No progress").short('q'));
    with_store(command)
}

/// Saves.
pub fn save(m: &ArgMatches) -> Result<()> {
    let store = store_to_read(m)?;
    let file = m.get_one::<PathBuf>("output").cloned().unwrap_or_default();
    let to = match text(m, "format").as_deref() {
        Some("oci-archive") => TransportRef::LayoutArchive(file, Name::Only),
        _ => TransportRef::DockerArchive(file, None),
    };
    let destination = transport::Archive::create(&to)?;
    let show = Show::new(m.get_flag("quiet"));
    let rules = Policy::accept_anything();
    for name in words(m, "image") {
        let record = find(&store, &name)?;
        let mut options = own_options(&rules, &show);
        options.additional_tags = match Reference::parse(&name) {
            Ok(r) if record.names.contains(&r.to_string()) => vec![r.to_string()],
            _ => record.names.iter().cloned().collect(),
        };
        copy::copy(&store.export(&record.id)?, &destination, &options)?;
    }
    destination.write()?;
    Ok(())
}

/// The definition of `load`.
pub fn load_command() -> Command {
    let command = Command::new("load")
        .about("Read the images of an archive into the store")
        .after_help(
            "Examples:\n  hullctl image load -i debian.tar\n  docker save app | hullctl image load",
        )
        .arg(
            option("input", "FILE", "The archive (default: the standard input)")
                .short('i')
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(flag("quiet", "No progress").short('q'));
    with_store(with_policy(command))
}

/// Loads.
pub fn load(m: &ArgMatches) -> Result<()> {
    let spooled;
    let file: &Path = match m.get_one::<PathBuf>("input") {
        Some(file) => file,
        None => {
            spooled = spool(&mut std::io::stdin().lock())?;
            spooled.path()
        }
    };
    let rules = policy(m)?;
    let store = store(m)?;
    let show = Show::new(m.get_flag("quiet"));
    let progress = |event: image::store::Event<'_>| show.event(&event);
    let options = PullOptions {
        progress: Some(&progress),
        ..PullOptions::default()
    };
    let contents = Contents::open(file)?;
    for at in 0..contents.len() {
        let (source, names) = contents.image(at)?;
        let names: Vec<Reference> = names
            .iter()
            .filter_map(|n| Reference::parse(n).ok())
            .collect();
        let first = match names.first() {
            Some(first) => first.clone(),
            None => Reference::parse(&format!(
                "localhost/loaded@{}",
                source.manifest(None)?.digest
            ))?,
        };
        let scope = Scope::of(&contents.place());
        let record = pull::pull(&store, source.as_ref(), (&rules, &scope), &first, &options)?;
        for name in names.iter().skip(1) {
            store.tag(&record.id, name)?;
        }
        println!(
            "loaded {}",
            names
                .first()
                .map_or_else(|| record.id.to_string(), ToString::to_string)
        );
    }
    Ok(())
}

fn spool(from: &mut dyn Read) -> Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new().context("make a temporary file")?;
    std::io::copy(from, &mut file).context("read the archive")?;
    Ok(file)
}

/// The definition of `import`.
pub fn import_command() -> Command {
    let command = Command::new("import")
        .about("Make an image of a root file system in a tar file")
        .after_help("Examples:\n  hullctl image import rootfs.tar.gz base:1\n  mmdebstrap bookworm - | hullctl image import -c 'CMD [\"bash\"]' - debian:mine")
        .arg(argument("file", "FILE", "The tar file, compressed or not; - for the standard input").required(true))
        .arg(argument("name", "NAME", "Name of the image").required(true))
        .arg(option("change", "INSTRUCTION", "A Dockerfile's instruction: CMD, ENV, …").short('c').action(ArgAction::Append))
        .arg(option("message", "TEXT", "Remark in the image's history").short('m'))
        .arg(option("platform", "OS/ARCH[/VARIANT]", "What the image is for (default: this machine)"))
        .arg(flag("quiet", "No progress").short('q'));
    with_store(command)
}

/// Imports.
pub fn import(m: &ArgMatches) -> Result<()> {
    let word = required(m, "file");
    let reference = Reference::parse(&required(m, "name"))?;
    let mut file = if word == "-" {
        let mut spooled = spool(&mut std::io::stdin().lock())?.into_file();
        spooled.rewind().context("read the archive")?;
        spooled
    } else {
        File::open(&word).with_context(|| format!("open {word}"))?
    };
    let mut run = image::document::RunConfig::default();
    for change in words(m, "change") {
        changes::apply(&mut run, &change)?;
    }
    let platform = match text(m, "platform") {
        Some(text) => Platform::parse(&text)?,
        None => Platform::host(),
    };
    let dir = tempfile::tempdir().context("make a temporary directory")?;
    let to = LayoutDestination::open(dir.path(), &Name::Only)?;
    let made = copy::FromTar {
        run,
        platform: platform.clone(),
        created: layers::created_now(),
        comment: text(m, "message").unwrap_or_else(|| format!("imported from {word}")),
    };
    made.write(&mut file, &to)
        .with_context(|| format!("import {word}"))?;
    let source = LayoutSource::open(dir.path(), &Name::Only)?;
    let record = store_made(
        &store(m)?,
        &source,
        &reference,
        &platform,
        m.get_flag("quiet"),
    )?;
    println!("{record}");
    Ok(())
}

/// Puts an image that was just made into the store; its id.
pub fn store_made(
    store: &Store,
    source: &dyn transport::Source,
    reference: &Reference,
    platform: &Platform,
    quiet: bool,
) -> Result<image::Digest> {
    let show = Show::new(quiet);
    let progress = |event: image::store::Event<'_>| show.event(&event);
    let options = PullOptions {
        platform: Some(platform),
        progress: Some(&progress),
        ..PullOptions::default()
    };
    Ok(store.pull(source, reference, &options)?.id)
}

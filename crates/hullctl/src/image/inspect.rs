//! `hullctl image inspect`.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use clap::{ArgMatches, Command};
use image::document::{ImageConfig, MAX_CONFIG, Manifest};
use image::registry::Access;
use image::transport::{RawManifest, TransportRef, resolve, small_blob};
use serde_json::{Value, json};

use super::options::{
    ONE, access, argument, find, flag, option, platform, required, store_to_read, text,
    with_platform, with_retry, with_side, with_store,
};
use super::place;
use crate::template::Template;

const EXAMPLES: &str = "\
Examples:
  hullctl image inspect busybox
      an image of the store
  hullctl image inspect docker://debian:12
      an image in a registry, without pulling it
  hullctl image inspect --raw docker://debian:12
      the manifest or index, byte for byte
  hullctl image inspect --config --format '{{.config.Env}}' docker://debian:12
      one field of the configuration";

/// The definition.
pub fn command() -> Command {
    let command = Command::new("inspect")
        .about("Show what an image is, wherever it is")
        .after_help(EXAMPLES)
        .arg(
            argument(
                "image",
                "IMAGE",
                "A name in the store, docker://NAME, oci:DIR[:TAG], …",
            )
            .required(true),
        )
        .arg(flag(
            "raw",
            "The manifest, or with --config the configuration, byte for byte",
        ))
        .arg(flag("config", "The configuration"))
        .arg(
            option(
                "format",
                "TEMPLATE",
                "`json`, or a Go template over the JSON",
            )
            .short('f'),
        )
        .arg(flag("no-tags", "Do not list the repository's tags").short('n'))
        .arg(flag("manifest-digest", "Only the digest of the manifest").conflicts_with("config"));
    with_store(with_side(with_retry(with_platform(command)), &ONE))
}

/// Shows.
pub fn run(m: &ArgMatches) -> Result<()> {
    let place = TransportRef::parse(&required(m, "image"))?;
    if let TransportRef::Store(name) = &place {
        return stored(m, name);
    }
    let access = access(m, &ONE)?;
    let source = place::source(m, &place, &access)?;
    let source = source.as_source();
    let top = source.manifest(None)?;
    if m.get_flag("manifest-digest") {
        println!("{}", top.digest);
        return Ok(());
    }
    if m.get_flag("raw") && !m.get_flag("config") {
        return bytes(&top.bytes);
    }
    let found = resolve(source, &platform(m)?)?;
    let config = small_blob(source, &found.manifest.config, MAX_CONFIG)?;
    if m.get_flag("config") {
        return show_config(m, &config);
    }
    let tags = tags(m, &place, &access)?;
    let view = View {
        name: repository(&place),
        digest: top.digest.to_string(),
        tags,
    };
    print(
        m,
        &view.describe(&found.raw, &found.manifest, &ImageConfig::parse(&config)?)?,
    )
}

fn stored(m: &ArgMatches, name: &str) -> Result<()> {
    let store = store_to_read(m)?;
    let record = find(&store, name)?;
    let details = store.inspect(&record.id)?;
    if m.get_flag("manifest-digest") {
        println!("{}", record.manifest);
        return Ok(());
    }
    if m.get_flag("config") {
        return show_config(m, &details.config_bytes);
    }
    if m.get_flag("raw") {
        return bytes(&details.manifest_bytes);
    }
    let view = View {
        name: record.names.first().cloned().unwrap_or_default(),
        digest: record.manifest.to_string(),
        tags: Vec::new(),
    };
    let raw = RawManifest::new(details.manifest_bytes.clone(), "");
    let mut value = view.describe(&raw, &details.manifest, &details.config)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("Id".to_owned(), record.id.to_string().into());
        fields.insert("RepoTags".to_owned(), json!(record.names));
        fields.insert("RepoDigests".to_owned(), json!(record.digests));
        fields.insert("Size".to_owned(), record.size.into());
        fields.insert("Pinned".to_owned(), record.pinned.into());
        fields.insert("History".to_owned(), json!(details.config.history));
    }
    print(m, &value)
}

/// What the documents do not say themselves.
struct View {
    name: String,
    digest: String,
    tags: Vec<String>,
}

impl View {
    fn describe(
        &self,
        raw: &RawManifest,
        manifest: &Manifest,
        config: &ImageConfig,
    ) -> Result<Value> {
        let run = config.config.clone().unwrap_or_default();
        let layers: Vec<String> = manifest
            .layers
            .iter()
            .map(|l| l.digest.to_string())
            .collect();
        let data: Vec<Value> = manifest
            .layers
            .iter()
            .map(|l| {
                let annotations = (!l.annotations.is_empty()).then_some(&l.annotations);
                json!({ "MIMEType": l.media_type, "Digest": l.digest, "Size": l.size, "Annotations": annotations })
            })
            .collect();
        Ok(json!({
            "Name": self.name,
            "Digest": self.digest,
            "RepoTags": self.tags,
            "MediaType": raw.own_media_type()?,
            "Created": config.created,
            "Labels": run.labels,
            "Architecture": config.architecture,
            "Variant": config.variant,
            "Os": config.os,
            "Layers": layers,
            "LayersData": data,
            "Env": run.env,
            "Entrypoint": run.entrypoint,
            "Cmd": run.cmd,
            "User": run.user,
            "WorkingDir": run.working_dir,
        }))
    }
}

fn repository(place: &TransportRef) -> String {
    match place {
        TransportRef::Registry(reference) => reference.name(),
        other => other.to_string(),
    }
}

fn tags(m: &ArgMatches, place: &TransportRef, access: &Access) -> Result<Vec<String>> {
    match place {
        TransportRef::Registry(reference) if !m.get_flag("no-tags") => {
            match access.tags(reference) {
                // Who may pull one image may not always list all.
                Err(image::Error::Status {
                    status: 401 | 403 | 404,
                    ..
                }) => Ok(Vec::new()),
                other => Ok(other?),
            }
        }
        _ => Ok(Vec::new()),
    }
}

fn show_config(m: &ArgMatches, config: &[u8]) -> Result<()> {
    if m.get_flag("raw") {
        return bytes(config);
    }
    let value: Value = serde_json::from_slice(config).context("the image's configuration")?;
    print(m, &value)
}

fn bytes(bytes: &[u8]) -> Result<()> {
    std::io::stdout().write_all(bytes).context("write")
}

fn print(m: &ArgMatches, value: &Value) -> Result<()> {
    match text(m, "format").as_deref() {
        None | Some("json") => println!("{}", serde_json::to_string_pretty(value)?),
        Some(template) => println!("{}", Template::parse(template)?.render(value)?),
    }
    Ok(())
}

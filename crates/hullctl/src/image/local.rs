//! Commands about images in the store: `ls`, `rm`, `tag`, `history`, `gc`, `df`, `mount`,
//! `umount`.

use anyhow::{Result, bail};
use clap::{ArgMatches, Command};
use comfy_table::{Table, presets};
use image::Reference;
use image::store::{ImageRecord, MountOptions, Store};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use super::options::{
    argument, find, flag, option, required, store, store_to_read, text, whole_name, with_store,
    words,
};
use crate::template::Template;

fn format_option() -> clap::Arg {
    option(
        "format",
        "FORMAT",
        "`table`, `json`, or a Go template for each line",
    )
    .default_value("table")
}

/// Prints rows as a table, as JSON, or through a template.
fn print(m: &ArgMatches, head: &[&str], rows: &[(Vec<String>, Value)]) -> Result<()> {
    match text(m, "format").unwrap_or_default().as_str() {
        "json" => {
            let values: Vec<&Value> = rows.iter().map(|(_, v)| v).collect();
            println!("{}", serde_json::to_string_pretty(&values)?);
        }
        "table" => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_header(head.to_vec());
            for (cells, _) in rows {
                table.add_row(cells);
            }
            println!(
                "{}",
                table
                    .to_string()
                    .lines()
                    .map(str::trim_end)
                    .collect::<Vec<_>>()
                    .join("\n")
            );
        }
        template => {
            let template = Template::parse(template)?;
            for (_, value) in rows {
                println!("{}", template.render(value)?);
            }
        }
    }
    Ok(())
}

fn bytes(n: u64) -> String {
    HumanBytes(n).to_string()
}

/// The definition of `ls`.
pub fn ls_command() -> Command {
    let command = Command::new("ls")
        .visible_alias("list")
        .about("List the images of the store")
        .after_help("Examples:\n  hullctl image ls\n  hullctl image ls --format '{{.id}} {{.size}}'\n  hullctl image ls --format json debian")
        .arg(argument("filter", "TEXT", "Only images with this in their name"))
        .arg(flag("quiet", "Only ids").short('q'))
        .arg(flag("no-trunc", "Whole ids"))
        .arg(format_option());
    with_store(command)
}

/// Lists images.
pub fn ls(m: &ArgMatches) -> Result<()> {
    let images = match store_to_read(m) {
        Ok(store) => store.images()?,
        // No store yet: no images.
        Err(e) if is_missing(&e) => Vec::new(),
        Err(e) => return Err(e),
    };
    let filter = text(m, "filter").unwrap_or_default();
    let wanted = |i: &&ImageRecord| {
        filter.is_empty()
            || i.names
                .iter()
                .chain(&i.digests)
                .any(|n| n.contains(&filter))
    };
    let images: Vec<&ImageRecord> = images.iter().filter(wanted).collect();
    if m.get_flag("quiet") {
        for image in images {
            println!("{}", image.id.hex());
        }
        return Ok(());
    }
    let mut rows = Vec::new();
    for image in images {
        let id = if m.get_flag("no-trunc") {
            image.id.hex()
        } else {
            image.id.short()
        };
        let names = if image.names.is_empty() {
            &image.digests
        } else {
            &image.names
        };
        let name = names.first().map_or("<none>", String::as_str);
        let more = match names.len() {
            0 | 1 => String::new(),
            n => format!(" (+{})", n - 1),
        };
        let day = image
            .created
            .as_deref()
            .and_then(|c| c.get(..10))
            .unwrap_or("");
        let cells = vec![
            format!("{name}{more}"),
            id.to_owned(),
            day.to_owned(),
            bytes(image.size),
        ];
        rows.push((cells, json!(image)));
    }
    print(m, &["NAME", "ID", "CREATED", "SIZE"], &rows)
}

fn is_missing(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<image::Error>()
        .is_some_and(image::Error::is_missing)
}

/// The definition of `rm`.
pub fn rm_command() -> Command {
    let command = Command::new("rm")
        .about("Remove names of images, and images without a name")
        .after_help(
            "Examples:\n  hullctl image rm debian:12\n  hullctl image rm --force 3f57d9401f8d",
        )
        .arg(
            argument("image", "IMAGE", "A name or an id")
                .required(true)
                .num_args(1..),
        )
        .arg(flag("force", "With all its names; what is not there is no error").short('f'));
    with_store(command)
}

/// Removes images: all that are named are tried.
pub fn rm(m: &ArgMatches) -> Result<()> {
    let store = store(m)?;
    let force = m.get_flag("force");
    let mut failed = Vec::new();
    for name in words(m, "image") {
        let name = whole_name(&store, &name);
        let result = store.find(&name).and_then(|image| {
            let by_name = Reference::parse(&name).ok();
            let by_name = by_name.filter(|r| image.names.contains(&r.to_string()));
            match by_name {
                Some(reference) if image.names.len() > 1 && !force => {
                    store.untag(&reference)?;
                    println!("untagged {reference}");
                }
                _ => {
                    let freed = store.remove(&image.id)?;
                    println!("removed {} ({})", image.id.short(), bytes(freed.bytes));
                }
            }
            Ok(())
        });
        match result {
            Err(e) if force && e.is_missing() => {}
            // Two names of one image have one reason.
            Err(e) if failed.contains(&e.to_string()) => {}
            Err(e) => failed.push(e.to_string()),
            Ok(()) => {}
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{}", failed.join("\nhullctl: "))
}

/// The definition of `tag`.
pub fn tag_command() -> Command {
    let command = Command::new("tag")
        .about("Give an image further names")
        .after_help("Examples:\n  hullctl image tag debian:12 registry.local:5000/base:1")
        .arg(argument("image", "IMAGE", "A name or an id").required(true))
        .arg(
            argument("name", "NAME", "Further names")
                .required(true)
                .num_args(1..),
        );
    with_store(command)
}

/// Tags.
pub fn tag(m: &ArgMatches) -> Result<()> {
    let store = store(m)?;
    let image = find(&store, &required(m, "image"))?;
    for name in words(m, "name") {
        store.tag(&image.id, &Reference::parse(&name)?)?;
    }
    Ok(())
}

/// The definition of `history`.
pub fn history_command() -> Command {
    let command = Command::new("history")
        .about("Show how an image came to be")
        .after_help("Examples:\n  hullctl image history debian:12")
        .arg(argument("image", "IMAGE", "A name or an id").required(true))
        .arg(flag("no-trunc", "Whole commands"))
        .arg(format_option());
    with_store(command)
}

/// Shows the history, the newest step first.
pub fn history(m: &ArgMatches) -> Result<()> {
    let store = store_to_read(m)?;
    let image = find(&store, &required(m, "image"))?;
    let details = store.inspect(&image.id)?;
    let mut layers = details.layers.iter();
    let mut rows = Vec::new();
    for step in &details.config.history {
        let size = if step.empty_layer {
            0
        } else {
            layers.next().map_or(0, |l| l.tar_size)
        };
        let by: String = if m.get_flag("no-trunc") {
            step.created_by.clone()
        } else {
            step.created_by.chars().take(60).collect()
        };
        let day = step
            .created
            .as_deref()
            .and_then(|c| c.get(..10))
            .unwrap_or("");
        let mut value = json!(step);
        if let Value::Object(fields) = &mut value {
            fields.insert("size".to_owned(), size.into());
        }
        rows.push((
            vec![day.to_owned(), bytes(size), by, step.comment.clone()],
            value,
        ));
    }
    rows.reverse();
    print(m, &["CREATED", "SIZE", "CREATED BY", "COMMENT"], &rows)
}

/// The definition of `gc`.
pub fn gc_command() -> Command {
    let command = Command::new("gc")
        .about("Remove layers that nothing needs")
        .after_help("Examples:\n  hullctl image gc\n  hullctl image gc --unused")
        .arg(flag(
            "unused",
            "Images too that no container uses and that are not pinned",
        ));
    with_store(command)
}

/// Collects garbage.
pub fn gc(m: &ArgMatches) -> Result<()> {
    let freed = store(m)?.gc(m.get_flag("unused"))?;
    for image in &freed.images {
        println!("removed {}", image.short());
    }
    println!("{} layers, {}", freed.layers.len(), bytes(freed.bytes));
    Ok(())
}

/// The definition of `df`.
pub fn df_command() -> Command {
    let command = Command::new("df")
        .about("Show what images and containers take on disk")
        .after_help("Examples:\n  hullctl image df\n  hullctl image df --format json")
        .arg(
            option("format", "FORMAT", "`table` or `json`")
                .value_parser(["table", "json"])
                .default_value("table"),
        );
    with_store(command)
}

/// Shows the use of the disk.
pub fn df(m: &ArgMatches) -> Result<()> {
    let store = match store_to_read(m) {
        Ok(store) => Some(store),
        // No store yet: nothing on disk.
        Err(e) if is_missing(&e) => None,
        Err(e) => return Err(e),
    };
    let usage = store.as_ref().map(Store::df).transpose()?;
    let usage = usage.unwrap_or_default();
    if text(m, "format").as_deref() == Some("json") {
        println!("{}", serde_json::to_string_pretty(&usage)?);
        return Ok(());
    }
    let mut rows = Vec::new();
    for image in &usage.images {
        let record = store.as_ref().map(|s| s.image(&image.id)).transpose()?;
        let name = record
            .and_then(|r| r.names.first().cloned())
            .unwrap_or_else(|| image.id.short().to_owned());
        let containers = image.containers.len().to_string();
        rows.push((
            vec![
                name,
                bytes(image.exclusive),
                bytes(image.shared),
                containers,
            ],
            json!(image),
        ));
    }
    print(m, &["IMAGE", "EXCLUSIVE", "SHARED", "CONTAINERS"], &rows)?;
    let written: u64 = usage.containers.iter().map(|(_, n, _)| n).sum();
    println!(
        "layers {}, of these without an image {}; written by containers {}",
        bytes(usage.layers),
        bytes(usage.reclaimable),
        bytes(written)
    );
    Ok(())
}

/// The definition of `mount`.
pub fn mount_command() -> Command {
    let command = Command::new("mount")
        .about("Mount an image to look into it, or list what is mounted")
        .after_help("Examples:\n  hullctl image mount debian:12\n  ls \"$(hullctl image mount debian:12)\"\n  hullctl image mount")
        .arg(argument("image", "IMAGE", "A name or an id; without one: list"))
        .arg(option("id", "ID", "What to call the mount (default: made from the image's id)"))
        .arg(flag("rw", "With a layer of its own to write to"));
    with_store(command)
}

/// Mounts.
pub fn mount(m: &ArgMatches) -> Result<()> {
    let Some(name) = text(m, "image") else {
        let store = store_to_read(m)?;
        for mount in store.mounts() {
            let path = store.mounted(&mount.id)?.path;
            println!("{} {} {}", mount.id, mount.image.short(), path.display());
        }
        return Ok(());
    };
    if !rustix::process::geteuid().is_root() {
        bail!("mount {name}: only root; a user: `hullctl run {name}`, or `hullctl image unpack`");
    }
    let store = store(m)?;
    let image = find(&store, &name)?;
    let id = text(m, "id").unwrap_or_else(|| format!("image-{}", image.id.short()));
    let options = MountOptions {
        read_only: !m.get_flag("rw"),
        ..MountOptions::default()
    };
    let rootfs = store.mount(&image.id, &id, &options)?;
    println!("{}", rootfs.path.display());
    Ok(())
}

/// The definition of `umount`.
pub fn umount_command() -> Command {
    let command = Command::new("umount")
        .about("Unmount what `mount` has mounted, and remove what was written there")
        .after_help("Examples:\n  hullctl image umount debian:12\n  hullctl image umount --id work")
        .arg(argument("image", "IMAGE", "A name or an id").required_unless_present("id"))
        .arg(option("id", "ID", "What the mount is called").conflicts_with("image"));
    with_store(command)
}

/// Unmounts.
pub fn umount(m: &ArgMatches) -> Result<()> {
    let store = store(m)?;
    let id = match text(m, "id") {
        Some(id) => id,
        None => format!("image-{}", find(&store, &required(m, "image"))?.id.short()),
    };
    store.remove_rootfs(&id)?;
    Ok(())
}

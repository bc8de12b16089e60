//! `mounts` and `linux.rootfsPropagation`.

use std::path::Path;

use super::mount_options::{self, Options};
use super::{Warnings, makes_user_namespace, namespaces as maps, text};
use crate::error::{At, Result};
use crate::oci::{self, IdMapping};
use crate::plan::{
    IdMaps, MountAttrs, MountIdmap, MountKind, MountPlan, NamespaceKind, Namespaces, Propagation,
};
use crate::words::{self, PROPAGATION};

/// What the checks need to know of the container.
#[derive(Clone, Copy)]
struct Container<'a> {
    bundle: &'a Path,
    namespaces: &'a Namespaces,
    id_maps: &'a IdMaps,
}

pub(super) fn mounts(
    given: &[oci::Mount],
    bundle: &Path,
    (namespaces, id_maps): (&Namespaces, &IdMaps),
    warnings: &mut Warnings,
) -> Result<Vec<MountPlan>> {
    let container = Container {
        bundle,
        namespaces,
        id_maps,
    };
    let at = At::top("mounts");
    given
        .iter()
        .enumerate()
        .map(|(i, given)| mount(given, container, &at.index(i), warnings))
        .collect()
}

/// Empty text is absent.
pub(super) fn propagation(word: &str, at: &At) -> Result<Option<Propagation>> {
    if word.is_empty() {
        return Ok(None);
    }
    words::require(PROPAGATION, word, "propagation", at).map(Some)
}

fn mount(
    given: &oci::Mount,
    container: Container,
    at: &At,
    warnings: &mut Warnings,
) -> Result<MountPlan> {
    let destination = text::required(&given.destination, &at.field("destination"))?;
    if !destination.starts_with('/') {
        let at = at.field("destination");
        warnings.push(format!(
            "{at} {destination:?}: relative, taken as relative to /"
        ));
    }
    let mut options =
        mount_options::options(&given.options, container.id_maps, &at.field("options"))?;
    let kind = kind(given, &mut options, container, at)?;
    extensions(&options, &kind, &at.field("options"))?;
    let idmap = idmap(given, &options, container, at)?;
    let mut superblock = options.superblock;
    if matches!(kind, MountKind::Filesystem { .. }) {
        superblock.ro = options.attrs.set & MountAttrs::RDONLY != 0;
    }
    Ok(MountPlan {
        destination: text::clean(destination),
        kind,
        attrs: options.attrs,
        recursive_attrs: options.tree_attrs,
        superblock,
        propagation: options.propagation,
        idmap,
        tmpcopyup: options.tmpcopyup,
        remount: options.remount,
        dest_nofollow: options.dest_nofollow,
        src_nofollow: options.src_nofollow,
        copy_symlink: options.copy_symlink,
    })
}

/// A mount is a bind mount by its options, never by its type.
fn kind(
    given: &oci::Mount,
    options: &mut Options,
    container: Container,
    at: &At,
) -> Result<MountKind> {
    text::no_nul(&given.source, &at.field("source"))?;
    text::no_nul(&given.kind, &at.field("type"))?;
    let data = std::mem::take(&mut options.data);
    if let Some(recursive) = options.bind {
        if let Some(word) = data.first() {
            // The kernel would ignore it, whatever it was meant to be.
            return Err(at.field("options").invalid(
                word,
                "unknown, and a bind mount has no file system to give it to",
            ));
        }
        // A bind that is remounted is changed in place.
        if given.source.is_empty() && !options.remount {
            return Err(at.field("source").missing("required with bind and rbind"));
        }
        return Ok(MountKind::Bind {
            source: container.bundle.join(&given.source),
            recursive,
        });
    }
    match given.kind.as_str() {
        "cgroup" | "cgroup2" => Ok(MountKind::Cgroup),
        "bind" => Err(at
            .field("type")
            .invalid("bind", "neither bind nor rbind is among the options")),
        "" if !options.remount => Err(at.field("type").missing("required without bind and rbind")),
        fstype => {
            data_ids(fstype, &data, container, &at.field("options"))?;
            let source = match given.source.as_str() {
                "" => fstype,
                source => source,
            };
            Ok(MountKind::Filesystem {
                fstype: fstype.to_owned(),
                source: source.to_owned(),
                data,
            })
        }
    }
}

/// Options that only some mounts can have.
fn extensions(options: &Options, kind: &MountKind, at: &At) -> Result<()> {
    let is_bind = matches!(kind, MountKind::Bind { .. });
    let is_tmpfs = matches!(kind, MountKind::Filesystem { fstype, .. } if fstype == "tmpfs");
    for (given, fits, name, wanted) in [
        (options.tmpcopyup, is_tmpfs, "tmpcopyup", "a tmpfs"),
        (
            options.copy_symlink,
            is_bind,
            "copy-symlink",
            "a bind mount",
        ),
        (
            options.src_nofollow,
            is_bind,
            "src-nofollow",
            "a bind mount",
        ),
    ] {
        if given && !fits {
            return Err(at.invalid(name, format!("only for {wanted}")));
        }
    }
    Ok(())
}

/// uid= and gid= of tmpfs and devpts are ids inside; the kernel refuses those without a mapping
/// with an error that names neither.
fn data_ids(fstype: &str, data: &[String], container: Container, at: &At) -> Result<()> {
    if !matches!(fstype, "tmpfs" | "devpts") || !makes_user_namespace(container.namespaces) {
        return Ok(());
    }
    for word in data {
        let (id, map, name): (_, &[IdMapping], _) = match word.split_once('=') {
            Some(("uid", id)) => (id, &container.id_maps.uids, "uidMappings"),
            Some(("gid", id)) => (id, &container.id_maps.gids, "gidMappings"),
            _ => continue,
        };
        if id
            .parse()
            .is_ok_and(|id| IdMaps::to_host(map, id).is_none())
        {
            return Err(at.invalid(word, format!("not in linux.{name}")));
        }
    }
    Ok(())
}

/// Maps of the mount come from its fields, from the option, or are the container's own.
fn idmap(
    given: &oci::Mount,
    options: &Options,
    container: Container,
    at: &At,
) -> Result<Option<MountIdmap>> {
    let fields = IdMaps {
        uids: given.uid_mappings.clone(),
        gids: given.gid_mappings.clone(),
    };
    if options.idmap.is_none() && fields.is_empty() {
        return Ok(None);
    }
    let words = at.field("options");
    if options.bind.is_none() {
        return Err(words.unsupported("only a bind mount can be id-mapped"));
    }
    let recursive = options.idmap == Some(true);
    let given = match &options.idmap_maps {
        Some(_) if !fields.is_empty() => {
            return Err(words.conflict("a map in the options and in uidMappings, gidMappings"));
        }
        Some(maps) => maps.clone(),
        None => fields,
    };
    let maps = if given.is_empty() {
        if container.namespaces.is_inherited(NamespaceKind::User) {
            return Err(words.missing(
                "an id-mapped mount needs uidMappings and gidMappings, or a user namespace",
            ));
        }
        None
    } else {
        maps::both(&given, at)?;
        Some(given)
    };
    Ok(Some(MountIdmap { maps, recursive }))
}

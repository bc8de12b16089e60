//! `mounts[].options`: words become flags, in the order in which they stand.

use crate::error::{At, Result};
use crate::oci::IdMapping;
use crate::plan::{IdMaps, MountAttrs, Propagation, SuperblockFlags};
use crate::words::{self, MOUNT_OPTIONS, MountWord, SuperblockWord};

/// What a list of options says.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// Recursive or not, where it is a bind mount at all.
    pub(super) bind: Option<bool>,
    pub(super) remount: bool,
    pub(super) attrs: MountAttrs,
    pub(super) tree_attrs: MountAttrs,
    pub(super) superblock: SuperblockFlags,
    pub(super) propagation: Option<Propagation>,
    /// Recursive or not, where the mount is to be id-mapped at all.
    pub(super) idmap: Option<bool>,
    /// The maps in the option itself (`idmap=uids=…;gids=…`).
    pub(super) idmap_maps: Option<IdMaps>,
    pub(super) tmpcopyup: bool,
    pub(super) copy_symlink: bool,
    pub(super) src_nofollow: bool,
    pub(super) dest_nofollow: bool,
    /// What is for the file system.
    pub(super) data: Vec<String>,
}

/// Reads a list of options; `id_maps` are those of the container's user namespace.
pub(super) fn options(given: &[String], id_maps: &IdMaps, at: &At) -> Result<Options> {
    let mut out = Options::default();
    let mut atime = Atime::default();
    let mut tree_atime = Atime::default();
    for (i, word) in given.iter().enumerate() {
        let at = at.index(i);
        super::text::no_nul(word, &at)?;
        match words::lookup(MOUNT_OPTIONS, word) {
            Some(MountWord::Atime(value)) => atime.choose(value),
            Some(MountWord::NoAtimeChoice(value)) => atime.take_back(value),
            Some(MountWord::TreeAtime(value)) => tree_atime.choose(value),
            Some(MountWord::NoTreeAtimeChoice(value)) => tree_atime.take_back(value),
            Some(meaning) => out.apply(meaning),
            None if word.is_empty() => {}
            None => {
                if let Some((recursive, maps)) = custom_idmap(word, id_maps, &at)? {
                    out.idmap = Some(recursive);
                    out.idmap_maps = Some(maps);
                } else {
                    out.data.push(word.clone());
                }
            }
        }
    }
    atime.add_to(&mut out.attrs);
    tree_atime.add_to(&mut out.tree_attrs);
    Ok(out)
}

impl Options {
    fn apply(&mut self, word: MountWord) {
        match word {
            MountWord::Bind { recursive } => self.bind = Some(recursive || self.bind == Some(true)),
            MountWord::Remount => self.remount = true,
            MountWord::Attr { bit, on } => set_attr(&mut self.attrs, bit, on),
            MountWord::TreeAttr { bit, on } => set_attr(&mut self.tree_attrs, bit, on),
            MountWord::Superblock { flag, on } => *self.superblock_flag(flag) = on,
            MountWord::Propagation(propagation) => self.propagation = Some(propagation),
            MountWord::Idmap { recursive } => self.idmap = Some(recursive),
            MountWord::TmpCopyUp => self.tmpcopyup = true,
            MountWord::CopySymlink => self.copy_symlink = true,
            MountWord::SrcNoFollow => self.src_nofollow = true,
            MountWord::DestNoFollow => self.dest_nofollow = true,
            // The others need the whole list to be read.
            MountWord::Nothing
            | MountWord::Atime(_)
            | MountWord::NoAtimeChoice(_)
            | MountWord::TreeAtime(_)
            | MountWord::NoTreeAtimeChoice(_) => {}
        }
    }

    fn superblock_flag(&mut self, flag: SuperblockWord) -> &mut bool {
        let flags = &mut self.superblock;
        match flag {
            SuperblockWord::Sync => &mut flags.sync,
            SuperblockWord::Dirsync => &mut flags.dirsync,
            SuperblockWord::Lazytime => &mut flags.lazytime,
            SuperblockWord::Mand => &mut flags.mand,
            SuperblockWord::Iversion => &mut flags.iversion,
            SuperblockWord::Silent => &mut flags.silent,
        }
    }
}

/// The later word wins.
fn set_attr(attrs: &mut MountAttrs, bit: u64, on: bool) {
    let (to, from) = if on {
        (&mut attrs.set, &mut attrs.clear)
    } else {
        (&mut attrs.clear, &mut attrs.set)
    };
    *to |= bit;
    *from &= !bit;
}

/// How access times are kept: one value out of three, so it is not a set of bits.
#[derive(Clone, Copy, Debug, Default)]
struct Atime(Option<u64>);

impl Atime {
    fn choose(&mut self, value: u64) {
        self.0 = Some(value);
    }

    fn take_back(&mut self, value: u64) {
        if self.0 == Some(value) {
            self.0 = None;
        }
    }

    /// mount_setattr(2): the whole mask is cleared for the one value that is set.
    fn add_to(self, attrs: &mut MountAttrs) {
        if let Some(value) = self.0 {
            attrs.clear |= MountAttrs::ATIME_MASK;
            attrs.set |= value;
        }
    }
}

/// crun's `idmap=uids=A-B-C#D-E-F;gids=…` (and `ridmap=`): first id in the file system, first id
/// on the host, how many. After `@` the second one is an id inside the container.
fn custom_idmap(word: &str, id_maps: &IdMaps, at: &At) -> Result<Option<(bool, IdMaps)>> {
    let (recursive, list) = match word.split_once('=') {
        Some(("idmap", list)) => (false, list),
        Some(("ridmap", list)) => (true, list),
        _ => return Ok(None),
    };
    let mut maps = IdMaps::default();
    for part in list.split(';').filter(|part| !part.is_empty()) {
        let (map, ranges, container) = match part.split_once('=') {
            Some(("uids", ranges)) => (&mut maps.uids, ranges, &id_maps.uids),
            Some(("gids", ranges)) => (&mut maps.gids, ranges, &id_maps.gids),
            _ => return Err(at.invalid(word, "only uids=… and gids=… may follow idmap=")),
        };
        for range in ranges.split('#') {
            map.push(id_range(range, container, at)?);
        }
    }
    Ok(Some((recursive, maps)))
}

fn id_range(range: &str, container: &[IdMapping], at: &At) -> Result<IdMapping> {
    let (relative, numbers) = match range.strip_prefix('@') {
        Some(rest) => (true, rest),
        None => (false, range),
    };
    let malformed = || at.invalid(range, "not of the form FIRST-HOST-COUNT");
    let mut numbers = numbers.splitn(3, '-').map(|n| n.parse::<u32>().ok());
    let mut next = || numbers.next().flatten().ok_or_else(malformed);
    let mut line = IdMapping {
        container_id: next()?,
        host_id: next()?,
        size: next()?,
    };
    if relative {
        // The range must lie in one line of the container's map, or its end would be elsewhere.
        let last = line.host_id.checked_add(line.size.saturating_sub(1));
        let first_outside = IdMaps::to_host(container, line.host_id);
        let last_outside = last.and_then(|last| IdMaps::to_host(container, last));
        line.host_id = match (first_outside, last_outside) {
            (Some(first), Some(end)) if end.checked_sub(first) == line.size.checked_sub(1) => first,
            _ => {
                return Err(at.invalid(range, "not within one line of the container's own map"));
            }
        };
    }
    Ok(line)
}

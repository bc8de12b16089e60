//! `linux.namespaces`, id maps, `timeOffsets`.

use std::path::PathBuf;

use super::text;
use crate::error::{At, Result};
use crate::oci::{self, IdMapping, TimeOffset};
use crate::plan::{Clock, IdMaps, NamespaceKind, NamespaceMode, Namespaces};
use crate::words::{self, CLOCKS, NAMESPACES};

/// Most lines the kernel takes in one map (UID_GID_MAP_MAX_EXTENTS; user_namespaces(7)).
const MAP_LINES_MAX: usize = 340;

pub(super) fn namespaces(list: &[oci::Namespace], at: &At) -> Result<Namespaces> {
    let mut out = Namespaces::default();
    for (i, namespace) in list.iter().enumerate() {
        let at = at.index(i);
        let word = at.field("type");
        let kind = words::require(NAMESPACES, &namespace.kind, "namespace kind", &word)?;
        if !out.is_inherited(kind) {
            return Err(word.invalid(&namespace.kind, "given twice"));
        }
        let mode = if namespace.path.is_empty() {
            NamespaceMode::New
        } else {
            let path = text::absolute(&namespace.path, &at.field("path"))?;
            NamespaceMode::Join(PathBuf::from(path))
        };
        out.set(kind, mode);
    }
    Ok(out)
}

pub(super) fn id_maps(linux: &oci::Linux, namespaces: &Namespaces, at: &At) -> Result<IdMaps> {
    let maps = IdMaps {
        uids: linux.uid_mappings.clone(),
        gids: linux.gid_mappings.clone(),
    };
    if maps.is_empty() {
        if namespaces.is_new(NamespaceKind::User) {
            return Err(at
                .field("uidMappings")
                .missing("a new user namespace needs uidMappings and gidMappings"));
        }
        return Ok(maps);
    }
    if namespaces.is_inherited(NamespaceKind::User) {
        let field = if maps.uids.is_empty() {
            "gidMappings"
        } else {
            "uidMappings"
        };
        return Err(at
            .field(field)
            .conflict("a mapping needs a user namespace in linux.namespaces"));
    }
    both(&maps, at)?;
    Ok(maps)
}

/// Checks a pair of maps that is given at all: both there, each one sound.
pub(super) fn both(maps: &IdMaps, at: &At) -> Result<()> {
    for (map, name, other) in [
        (&maps.uids, "uidMappings", "gidMappings"),
        (&maps.gids, "gidMappings", "uidMappings"),
    ] {
        let at = at.field(name);
        if map.is_empty() {
            return Err(at.missing(format!("required with {other}")));
        }
        id_map(map, &at)?;
    }
    Ok(())
}

/// One map: what user_namespaces(7) says the kernel refuses.
fn id_map(map: &[IdMapping], at: &At) -> Result<()> {
    if map.len() > MAP_LINES_MAX {
        return Err(at.invalid(map.len(), format!("at most {MAP_LINES_MAX} lines")));
    }
    for (i, line) in map.iter().enumerate() {
        let at = at.index(i);
        if line.size == 0 {
            return Err(at.field("size").invalid(0, "must be above zero"));
        }
        // The last id of all, u32::MAX, stands for "no id" and cannot be mapped.
        for (first, name) in [(line.container_id, "containerID"), (line.host_id, "hostID")] {
            if first.checked_add(line.size).is_none() {
                let reason = format!("with a size of {} it goes beyond the last id", line.size);
                return Err(at.field(name).invalid(first, reason));
            }
        }
    }
    overlap(map, |m| m.container_id, "containerID", at)?;
    overlap(map, |m| m.host_id, "hostID", at)
}

/// Two ranges on the same side must not touch. The lines are known not to overflow.
fn overlap(map: &[IdMapping], first: fn(&IdMapping) -> u32, name: &str, at: &At) -> Result<()> {
    let mut lines: Vec<(usize, &IdMapping)> = map.iter().enumerate().collect();
    lines.sort_by_key(|(_, m)| first(m));
    for pair in lines.windows(2) {
        let ((i, a), (j, b)) = (pair[0], pair[1]);
        if first(b) - first(a) < a.size {
            let at = at.index(j);
            return Err(at
                .field(name)
                .invalid(first(b), format!("overlaps element {i}")));
        }
    }
    Ok(())
}

pub(super) fn time_offsets(
    linux: &oci::Linux,
    namespaces: &Namespaces,
    at: &At,
) -> Result<Vec<(Clock, TimeOffset)>> {
    let at = at.field("timeOffsets");
    if linux.time_offsets.is_empty() {
        return Ok(Vec::new());
    }
    if !namespaces.is_new(NamespaceKind::Time) {
        return Err(at.conflict("offsets need a new time namespace in linux.namespaces"));
    }
    linux
        .time_offsets
        .iter()
        .map(|(name, offset)| {
            let at = at.key(name);
            let clock = words::require(CLOCKS, name, "clock", &at)?;
            if offset.nanosecs >= 1_000_000_000 {
                return Err(at
                    .field("nanosecs")
                    .invalid(offset.nanosecs, "must be below 1000000000"));
            }
            Ok((clock, *offset))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line() -> impl Strategy<Value = IdMapping> {
        // Mostly small numbers, so that lines meet; some at the very end.
        let id = prop_oneof![0u32..40, (u32::MAX - 10)..=u32::MAX];
        (id.clone(), id, 0u32..12).prop_map(|(container_id, host_id, size)| IdMapping {
            container_id,
            host_id,
            size,
        })
    }

    /// What the kernel demands, id by id.
    fn is_sound(map: &[IdMapping]) -> bool {
        [|m: &IdMapping| m.container_id, |m: &IdMapping| m.host_id]
            .into_iter()
            .all(|first| {
                let mut seen = std::collections::HashSet::new();
                map.iter().all(|m| {
                    let ids = u64::from(first(m))..u64::from(first(m)) + u64::from(m.size);
                    m.size > 0
                        && ids.end <= u64::from(u32::MAX)
                        && ids.into_iter().all(|id| seen.insert(id))
                })
            })
    }

    proptest! {
        #[test]
        fn a_map_is_accepted_exactly_when_it_is_sound(map in prop::collection::vec(line(), 0..5)) {
            prop_assert_eq!(id_map(&map, &At::top("map")).is_ok(), is_sound(&map));
        }

        #[test]
        fn an_accepted_map_is_one_to_one(map in prop::collection::vec(line(), 0..5), ids in prop::collection::hash_set(0u32..60, 0..20)) {
            prop_assume!(id_map(&map, &At::top("map")).is_ok());
            let outside: Vec<_> = ids.iter().filter_map(|&id| IdMaps::to_host(&map, id)).collect();
            let distinct: std::collections::HashSet<_> = outside.iter().collect();
            prop_assert_eq!(distinct.len(), outside.len());
        }
    }
}

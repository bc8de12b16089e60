//! The mounts of a container: the usual ones, the pod's files, what was asked for.

use std::fs;
use std::path::{Path, PathBuf};

use cri_api::v1::{self, MountPropagation};
use spec::oci::{IdMapping, Mount};

use crate::error::{Doing, Error, Result};

/// What decides the usual mounts.
#[derive(Clone, Copy, Debug)]
pub struct Usual<'a> {
    pub privileged: bool,
    pub userns: bool,
    pub host_network: bool,
    /// The pod's shared memory on the host; none: the host's own.
    pub shm: Option<&'a Path>,
    pub cgroup_rw: bool,
}

/// A mount, its options as words.
pub fn mount(destination: &str, kind: &str, source: &str, options: &str) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options
            .split(',')
            .filter(|o| !o.is_empty())
            .map(str::to_owned)
            .collect(),
        ..Mount::default()
    }
}

/// A file or directory of the host.
pub fn bind(destination: &str, source: &Path, options: &str) -> Mount {
    let all = format!("rbind,{options}");
    mount(destination, "bind", &source.to_string_lossy(), &all)
}

/// What every container has.
pub fn usual(u: Usual<'_>) -> Vec<Mount> {
    let access = if u.privileged { "rw" } else { "ro" };
    let sys = if u.userns && u.host_network {
        // A sysfs of one's own needs the network namespace's owner.
        bind("/sys", Path::new("/sys"), "nosuid,noexec,nodev,ro")
    } else {
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &format!("nosuid,noexec,nodev,{access}"),
        )
    };
    let cgroup = if u.cgroup_rw || u.privileged {
        "rw"
    } else {
        "ro"
    };
    let shm = u.shm.unwrap_or_else(|| Path::new("/dev/shm"));
    vec![
        mount("/proc", "proc", "proc", "nosuid,noexec,nodev"),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            "nosuid,strictatime,mode=755,size=65536k",
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        sys,
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &format!("nosuid,noexec,nodev,relatime,{cgroup}"),
        ),
        bind("/dev/shm", shm, "nosuid,noexec,nodev,rw"),
    ]
}

/// A mount that was asked for, and where it comes from.
#[derive(Debug)]
pub struct Asked<'a> {
    /// What was asked for.
    pub mount: &'a v1::Mount,
    /// A directory that an image was mounted on, for an image volume.
    pub image: Option<PathBuf>,
}

/// The mounts asked for, shorter targets first; and how far the root's propagation must reach.
pub fn asked(all: &[Asked<'_>]) -> Result<(Vec<Mount>, &'static str)> {
    let mut sorted: Vec<&Asked<'_>> = all.iter().collect();
    sorted.sort_by_key(|a| Path::new(&a.mount.container_path).components().count());
    let mut mounts = Vec::with_capacity(all.len());
    let mut propagation = MountPropagation::PropagationPrivate;
    for one in sorted {
        propagation = propagation.max(one.mount.propagation());
        mounts.push(translate(one)?);
    }
    let root = match propagation {
        MountPropagation::PropagationPrivate => "",
        MountPropagation::PropagationHostToContainer => "rslave",
        MountPropagation::PropagationBidirectional => "rshared",
    };
    Ok((mounts, root))
}

fn translate(asked: &Asked<'_>) -> Result<Mount> {
    let m = asked.mount;
    let what = || format!("mount {} on {}", m.host_path, m.container_path);
    if m.container_path.is_empty() || m.container_path.contains('\0') {
        return Err(Error::invalid(format!("{}: no container_path", what())));
    }
    let destination = Path::new("/").join(&m.container_path);
    let destination = destination.to_string_lossy();
    if let Some(image) = &asked.image {
        // It was mounted as the pod's user namespace sees it: the mappings that a kubelet names here,
        // too, are done with.
        return Ok(bind(&destination, image, "rprivate,ro,noexec,nosuid,nodev"));
    }
    let propagation = match m.propagation() {
        MountPropagation::PropagationPrivate => "rprivate",
        MountPropagation::PropagationHostToContainer => "rslave",
        MountPropagation::PropagationBidirectional => "rshared",
    };
    let access = match (m.readonly, m.recursive_read_only) {
        (false, false) => "rw",
        (true, false) => "ro",
        (true, true) if m.propagation() == MountPropagation::PropagationPrivate => "rro",
        (_, true) => {
            let rule = "recursive_read_only needs readonly and private propagation";
            return Err(Error::invalid(format!("{}: {rule}", what())));
        }
    };
    let source = source(Path::new(&m.host_path))?;
    shared_enough(&source, m.propagation())?;
    let mut mount = bind(&destination, &source, &format!("{propagation},{access}"));
    mappings(&mut mount, m);
    Ok(mount)
}

fn mappings(mount: &mut Mount, asked: &v1::Mount) {
    mount.uid_mappings = id_mappings(&asked.uid_mappings);
    mount.gid_mappings = id_mappings(&asked.gid_mappings);
}

/// In the runtime specification's words.
pub fn id_mappings(given: &[v1::IdMapping]) -> Vec<IdMapping> {
    let one = |m: &v1::IdMapping| IdMapping {
        container_id: m.container_id,
        host_id: m.host_id,
        size: m.length,
    };
    given.iter().map(one).collect()
}

/// The host's path without symlinks; a directory where nothing is, as the kubelet expects it.
fn source(path: &Path) -> Result<PathBuf> {
    if !path.is_absolute() {
        let text = format!("mount source {}: must be an absolute path", path.display());
        return Err(Error::invalid(text));
    }
    match path.canonicalize() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(path).doing(|| format!("mkdir({})", path.display()))?;
            path.canonicalize()
        }
        other => other,
    }
    .doing(|| format!("mount source {}", path.display()))
}

/// Propagation works only from a mount that takes part in it.
fn shared_enough(source: &Path, wanted: MountPropagation) -> Result<()> {
    if wanted == MountPropagation::PropagationPrivate {
        return Ok(());
    }
    let text = fs::read_to_string("/proc/self/mountinfo").doing(|| "read(mountinfo)".to_owned())?;
    let (point, optional) = mount_of(&text, source).unwrap_or_default();
    let shared = optional.contains("shared:");
    if shared
        || (wanted == MountPropagation::PropagationHostToContainer && optional.contains("master:"))
    {
        return Ok(());
    }
    let word = if wanted == MountPropagation::PropagationBidirectional {
        "shared"
    } else {
        "shared or slave"
    };
    Err(Error::invalid(format!(
        "mount {}: lies on {point}, which is not a {word} mount (mount --make-rshared {point})",
        source.display()
    )))
}

/// Mount point and optional fields of the mount that a path lies on: the last of the longest.
fn mount_of(mountinfo: &str, path: &Path) -> Option<(String, String)> {
    let mut best: Option<(String, String)> = None;
    for line in mountinfo.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(point) = fields.get(4) else { continue };
        let point = point
            .replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\134", "\\");
        let longer = best.as_ref().is_none_or(|(p, _)| point.len() >= p.len());
        if path.starts_with(&point) && longer {
            let optional = fields[6..].iter().take_while(|f| **f != "-").copied();
            best = Some((point, optional.collect::<Vec<_>>().join(" ")));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_counts() {
        let info = "1 0 8:1 / / rw shared:1 - ext4 d rw\n\
                    2 1 8:2 / /a rw master:3 - ext4 d rw\n\
                    3 1 8:2 / /a\\040b rw - ext4 d rw";
        let of = |p: &str| mount_of(info, Path::new(p)).unwrap();
        assert_eq!(of("/a/x"), ("/a".to_owned(), "master:3".to_owned()));
        assert_eq!(of("/ab"), ("/".to_owned(), "shared:1".to_owned()));
        assert_eq!(of("/a b/c"), ("/a b".to_owned(), String::new()));
    }

    #[test]
    fn recursive_read_only_has_conditions() {
        let mut m = v1::Mount {
            container_path: "data".to_owned(),
            host_path: "/".to_owned(),
            recursive_read_only: true,
            ..v1::Mount::default()
        };
        assert!(
            translate(&Asked {
                mount: &m,
                image: None
            })
            .is_err()
        );
        m.readonly = true;
        let made = translate(&Asked {
            mount: &m,
            image: None,
        })
        .unwrap();
        assert_eq!(made.destination, "/data");
        assert_eq!(made.options, ["rbind", "rprivate", "rro"]);
    }
}

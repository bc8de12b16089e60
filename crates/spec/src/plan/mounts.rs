//! Mounts: the words of `mounts[].options` become flags.

use std::path::PathBuf;

use super::IdMaps;

/// One mount, ready to be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MountPlan {
    /// Absolute, lexically clean path inside the container.
    pub destination: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// Attributes of this mount (mount_setattr(2)), not of its children.
    pub attrs: MountAttrs,
    /// Attributes for this mount and all below it (`rro`, `rnosuid`, …).
    pub recursive_attrs: MountAttrs,
    /// Superblock options that mount(2) has flags for (`sync`, `dirsync`, `lazytime`, …).
    pub superblock: SuperblockFlags,
    /// Propagation, set last.
    pub propagation: Option<Propagation>,
    /// Id map of the mount.
    pub idmap: Option<MountIdmap>,
    /// Copy what the image has at the destination into the new tmpfs.
    pub tmpcopyup: bool,
    /// Remount of what is already there (`remount` in the options).
    pub remount: bool,
    /// Do not follow a symlink at the destination's last component (`dest-nofollow`).
    pub dest_nofollow: bool,
    /// Do not follow a symlink at the source's last component (`src-nofollow`).
    pub src_nofollow: bool,
    /// If the source is a symlink, make the same symlink instead of a mount (`copy-symlink`).
    pub copy_symlink: bool,
}

/// What is mounted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// With everything mounted below it.
        recursive: bool,
    },
    /// The control-group tree, shown as the container may see it.
    Cgroup,
    /// A new instance of a file system.
    Filesystem {
        /// `proc`, `tmpfs`, `sysfs`, …
        fstype: String,
        /// Device or dummy.
        source: String,
        /// `key` or `key=value`, in order, for fsconfig(2).
        data: Vec<String>,
    },
}

/// Attributes to set and to clear, as MOUNT_ATTR_… bits of mount_setattr(2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MountAttrs {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
}

impl MountAttrs {
    /// MOUNT_ATTR_RDONLY.
    pub const RDONLY: u64 = 0x1;
    /// MOUNT_ATTR_NOSUID.
    pub const NOSUID: u64 = 0x2;
    /// MOUNT_ATTR_NODEV.
    pub const NODEV: u64 = 0x4;
    /// MOUNT_ATTR_NOEXEC.
    pub const NOEXEC: u64 = 0x8;
    /// Mask of the access-time values.
    pub const ATIME_MASK: u64 = 0x70;
    /// MOUNT_ATTR_NOATIME.
    pub const NOATIME: u64 = 0x10;
    /// MOUNT_ATTR_STRICTATIME.
    pub const STRICTATIME: u64 = 0x20;
    /// MOUNT_ATTR_NODIRATIME.
    pub const NODIRATIME: u64 = 0x80;
    /// MOUNT_ATTR_IDMAP.
    pub const IDMAP: u64 = 0x0010_0000;
    /// MOUNT_ATTR_NOSYMFOLLOW.
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;

    /// Nothing to do.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

/// Superblock flags; each is a flag name for fsconfig(2) and an MS_… bit for mount(2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of mount(2)"
)]
pub struct SuperblockFlags {
    /// `ro` on the superblock.
    pub ro: bool,
    /// `sync`.
    pub sync: bool,
    /// `dirsync`.
    pub dirsync: bool,
    /// `lazytime`.
    pub lazytime: bool,
    /// `mand`.
    pub mand: bool,
    /// `iversion`.
    pub iversion: bool,
    /// `silent`.
    pub silent: bool,
}

/// Propagation of a mount (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Propagation {
    /// The type.
    pub kind: PropagationKind,
    /// For the whole tree.
    pub recursive: bool,
}

/// Propagation types.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PropagationKind {
    /// Events go both ways.
    Shared,
    /// Events come in only.
    Slave,
    /// None.
    Private,
    /// None, and it cannot be bind-mounted.
    Unbindable,
}

/// Id map of one mount.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MountIdmap {
    /// `None`: the container's own user namespace.
    pub maps: Option<IdMaps>,
    /// `ridmap`: the whole tree.
    pub recursive: bool,
}

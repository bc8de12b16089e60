//! The words of `mounts[].options` (config.md, Linux mount options; mount(8)).

use super::Table;
use crate::plan::{MountAttrs, Propagation, PropagationKind};

/// What one option asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MountWord {
    /// `defaults`.
    Nothing,
    /// `bind`, `rbind`.
    Bind {
        /// `rbind`.
        recursive: bool,
    },
    /// `remount`.
    Remount,
    /// Sets or clears an attribute of this mount.
    Attr {
        /// MOUNT_ATTR_…
        bit: u64,
        /// Set or clear.
        on: bool,
    },
    /// Chooses how access times are kept. MOUNT_ATTR_RELATIME is zero.
    Atime(u64),
    /// Takes back a choice made earlier in the list; alone it does nothing, as in mount(8).
    NoAtimeChoice(u64),
    /// As [`Self::Attr`], for the whole tree.
    TreeAttr {
        /// MOUNT_ATTR_…
        bit: u64,
        /// Set or clear.
        on: bool,
    },
    /// As [`Self::Atime`], for the whole tree.
    TreeAtime(u64),
    /// As [`Self::NoAtimeChoice`], for the whole tree.
    NoTreeAtimeChoice(u64),
    /// Sets or clears a flag of the superblock.
    Superblock {
        /// Which.
        flag: SuperblockWord,
        /// Set or clear.
        on: bool,
    },
    /// Propagation.
    Propagation(Propagation),
    /// `idmap`, `ridmap`.
    Idmap {
        /// `ridmap`.
        recursive: bool,
    },
    /// `tmpcopyup`.
    TmpCopyUp,
    /// `copy-symlink`.
    CopySymlink,
    /// `src-nofollow`.
    SrcNoFollow,
    /// `dest-nofollow`.
    DestNoFollow,
}

/// Flags of the superblock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SuperblockWord {
    /// Writes are synchronous.
    Sync,
    /// Directory changes are synchronous.
    Dirsync,
    /// Time stamps are written late.
    Lazytime,
    /// Mandatory locks.
    Mand,
    /// The inode version counts changes.
    Iversion,
    /// No messages.
    Silent,
}

const RELATIME: u64 = 0;

const fn attr(bit: u64, on: bool) -> MountWord {
    MountWord::Attr { bit, on }
}

const fn tree(bit: u64, on: bool) -> MountWord {
    MountWord::TreeAttr { bit, on }
}

const fn superblock(flag: SuperblockWord, on: bool) -> MountWord {
    MountWord::Superblock { flag, on }
}

const fn propagation(kind: PropagationKind, recursive: bool) -> MountWord {
    MountWord::Propagation(Propagation { kind, recursive })
}

/// Every option that is not for the file system. `ratime` and `rnostrictatime` bring the
/// kernel's default back, because for a whole tree there is nothing earlier to take back.
pub(crate) const MOUNT_OPTIONS: &Table<MountWord> = &[
    ("async", superblock(SuperblockWord::Sync, false)),
    ("atime", MountWord::NoAtimeChoice(MountAttrs::NOATIME)),
    ("bind", MountWord::Bind { recursive: false }),
    ("copy-symlink", MountWord::CopySymlink),
    ("defaults", MountWord::Nothing),
    ("dest-nofollow", MountWord::DestNoFollow),
    ("dev", attr(MountAttrs::NODEV, false)),
    ("diratime", attr(MountAttrs::NODIRATIME, false)),
    ("dirsync", superblock(SuperblockWord::Dirsync, true)),
    ("exec", attr(MountAttrs::NOEXEC, false)),
    ("idmap", MountWord::Idmap { recursive: false }),
    ("iversion", superblock(SuperblockWord::Iversion, true)),
    ("lazytime", superblock(SuperblockWord::Lazytime, true)),
    ("loud", superblock(SuperblockWord::Silent, false)),
    ("mand", superblock(SuperblockWord::Mand, true)),
    ("noatime", MountWord::Atime(MountAttrs::NOATIME)),
    ("nodev", attr(MountAttrs::NODEV, true)),
    ("nodiratime", attr(MountAttrs::NODIRATIME, true)),
    ("noexec", attr(MountAttrs::NOEXEC, true)),
    ("noiversion", superblock(SuperblockWord::Iversion, false)),
    ("nolazytime", superblock(SuperblockWord::Lazytime, false)),
    ("nomand", superblock(SuperblockWord::Mand, false)),
    ("norelatime", MountWord::NoAtimeChoice(RELATIME)),
    (
        "nostrictatime",
        MountWord::NoAtimeChoice(MountAttrs::STRICTATIME),
    ),
    ("nosuid", attr(MountAttrs::NOSUID, true)),
    ("nosymfollow", attr(MountAttrs::NOSYMFOLLOW, true)),
    ("private", propagation(PropagationKind::Private, false)),
    ("ratime", MountWord::TreeAtime(RELATIME)),
    ("rbind", MountWord::Bind { recursive: true }),
    ("rdev", tree(MountAttrs::NODEV, false)),
    ("rdiratime", tree(MountAttrs::NODIRATIME, false)),
    ("relatime", MountWord::Atime(RELATIME)),
    ("remount", MountWord::Remount),
    ("rexec", tree(MountAttrs::NOEXEC, false)),
    ("ridmap", MountWord::Idmap { recursive: true }),
    ("rnoatime", MountWord::TreeAtime(MountAttrs::NOATIME)),
    ("rnodev", tree(MountAttrs::NODEV, true)),
    ("rnodiratime", tree(MountAttrs::NODIRATIME, true)),
    ("rnoexec", tree(MountAttrs::NOEXEC, true)),
    ("rnorelatime", MountWord::NoTreeAtimeChoice(RELATIME)),
    ("rnostrictatime", MountWord::TreeAtime(RELATIME)),
    ("rnosuid", tree(MountAttrs::NOSUID, true)),
    ("rnosymfollow", tree(MountAttrs::NOSYMFOLLOW, true)),
    ("ro", attr(MountAttrs::RDONLY, true)),
    ("rprivate", propagation(PropagationKind::Private, true)),
    ("rrelatime", MountWord::TreeAtime(RELATIME)),
    ("rro", tree(MountAttrs::RDONLY, true)),
    ("rrw", tree(MountAttrs::RDONLY, false)),
    ("rshared", propagation(PropagationKind::Shared, true)),
    ("rslave", propagation(PropagationKind::Slave, true)),
    (
        "rstrictatime",
        MountWord::TreeAtime(MountAttrs::STRICTATIME),
    ),
    ("rsuid", tree(MountAttrs::NOSUID, false)),
    ("rsymfollow", tree(MountAttrs::NOSYMFOLLOW, false)),
    (
        "runbindable",
        propagation(PropagationKind::Unbindable, true),
    ),
    ("rw", attr(MountAttrs::RDONLY, false)),
    ("shared", propagation(PropagationKind::Shared, false)),
    ("silent", superblock(SuperblockWord::Silent, true)),
    ("slave", propagation(PropagationKind::Slave, false)),
    ("src-nofollow", MountWord::SrcNoFollow),
    ("strictatime", MountWord::Atime(MountAttrs::STRICTATIME)),
    ("suid", attr(MountAttrs::NOSUID, false)),
    ("symfollow", attr(MountAttrs::NOSYMFOLLOW, false)),
    ("sync", superblock(SuperblockWord::Sync, true)),
    ("tmpcopyup", MountWord::TmpCopyUp),
    (
        "unbindable",
        propagation(PropagationKind::Unbindable, false),
    ),
];

//! New instances of file systems.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::fstatvfs;
use rustix::mount::{
    MountFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string,
};
use spec::plan::SuperblockFlags;
use sys::{Context as _, Errno, Error, Result};

use crate::mounter::{Mounter, Object, Target, attributes_of, fd_name, mount_flags};

/// fsconfig(2) copies at most this much of a value.
const LONGEST_VALUE: usize = 255;

/// A file system to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewFs<'a> {
    pub fstype: &'a str,
    pub source: &'a str,
    /// `key` or `key=value`.
    pub data: &'a [String],
    pub superblock: SuperblockFlags,
    /// MOUNT_ATTR_… bits.
    pub attrs: u64,
    /// SELinux context of all files.
    pub label: Option<&'a str>,
}

impl Mounter {
    /// Makes the file system and attaches it; returns a descriptor of its root.
    pub fn mount_new(&self, fs: &NewFs<'_>, target: &Target<'_>) -> Result<OwnedFd> {
        if fs.needs_mount_call() {
            return self.mount_by_name(fs, target);
        }
        match fs.create()? {
            Some(tree) => self.attach(Object::Tree(tree), target),
            None => self.mount_by_name(fs, target),
        }
    }

    /// mount(2) over `target`.
    fn mount_by_name(&self, fs: &NewFs<'_>, target: &Target<'_>) -> Result<OwnedFd> {
        let data = fs.data_string();
        let args = || {
            format!(
                "{:?}, root, {:?}, {:?}, {data:?}",
                fs.source, target.path, fs.fstype
            )
        };
        let c_data =
            CString::new(data.as_str()).map_err(|_| Error::new("mount", args(), Errno::INVAL))?;
        let flags = mount_flags(fs.attrs) | superblock_flags(fs.superblock);
        let to = fd_name(target.fd.as_fd());
        self.by_name(|| rustix::mount::mount(fs.source, to, fs.fstype, flags, c_data.as_c_str()))?
            .context("mount", args)?;
        self.reopen(target)
    }
}

impl Mounter {
    /// Applies new options to the file system of the mount that `fd` is the root of.
    pub fn reconfigure(
        &self,
        fd: BorrowedFd<'_>,
        flags: SuperblockFlags,
        data: &[String],
    ) -> Result<()> {
        let context = match sys::mount::fspick(fd) {
            Ok(context) => context,
            Err(Errno::NOSYS) => {
                let now = fstatvfs(fd).context("fstatvfs", || "mount")?.f_flag;
                let attrs = mount_flags(attributes_of(now));
                let (all, data) = (attrs | superblock_flags(flags), data.join(","));
                return self
                    .by_name(|| rustix::mount::mount_remount(fd_name(fd), all, data.as_str()))?
                    .context("mount", || format!("{all:?}|MS_REMOUNT, {data:?}"));
            }
            Err(errno) => return Err(Error::new("fspick", "mount point", errno)),
        };
        for word in superblock_words(flags) {
            fsconfig_set_flag(&context, word).context("fsconfig", || word)?;
        }
        for word in data {
            match word.split_once('=') {
                Some((key, value)) => fsconfig_set_string(&context, key, value),
                None => fsconfig_set_flag(&context, word.as_str()),
            }
            .context("fsconfig", || word.as_str())?;
        }
        fsconfig_reconfigure(&context).context("fsconfig", || "FSCONFIG_CMD_RECONFIGURE")
    }
}

impl NewFs<'_> {
    /// What fsconfig(2) cannot express: long values (overlay's lowerdir), the subtype of
    /// `fuse.NAME`, and flags that only mount(2) has.
    fn needs_mount_call(&self) -> bool {
        self.superblock.silent
            || self.superblock.iversion
            || self.fstype.contains('.')
            || self.data.iter().any(|word| word.len() > LONGEST_VALUE)
    }

    /// The detached mount; `None` without fsopen(2).
    pub fn create(&self) -> Result<Option<OwnedFd>> {
        let args = || self.fstype.to_owned();
        let fstype =
            CString::new(self.fstype).map_err(|_| Error::new("fsopen", args(), Errno::INVAL))?;
        let context = match sys::mount::fsopen(&fstype) {
            Ok(context) => context,
            Err(Errno::NOSYS) => return Ok(None),
            Err(errno) => return Err(Error::new("fsopen", args(), errno)),
        };
        self.configure(context.as_fd())?;
        fsconfig_create(&context)
            .map_err(|e| self.complaint("FSCONFIG_CMD_CREATE", context.as_fd(), e))?;
        sys::mount::fsmount(context.as_fd(), self.attrs)
            .context("fsmount", || format!("{}, {:#x}", self.fstype, self.attrs))
            .map(Some)
    }

    fn configure(&self, context: BorrowedFd<'_>) -> Result<()> {
        let string = |key: &str, value: &str| {
            fsconfig_set_string(context, key, value)
                .map_err(|e| self.complaint(&format!("{key}={value}"), context, e))
        };
        let flag = |key: &str| {
            fsconfig_set_flag(context, key).map_err(|e| self.complaint(key, context, e))
        };
        if !self.source.is_empty() {
            string("source", self.source)?;
        }
        for key in superblock_words(self.superblock) {
            flag(key)?;
        }
        for word in self.data {
            match word.split_once('=') {
                Some((key, value)) => string(key, value)?,
                None => flag(word)?,
            }
        }
        if let Some(label) = self.label {
            string("context", label)?;
        }
        Ok(())
    }

    /// The error of fsconfig(2), with what the file system itself says about it.
    fn complaint(&self, what: &str, context: BorrowedFd<'_>, errno: Errno) -> Error {
        let args = match sys::mount::fs_complaint(context) {
            Some(text) => format!("{}, {what}: {text}", self.fstype),
            None => format!("{}, {what}", self.fstype),
        };
        Error::new("fsconfig", args, errno)
    }

    /// The last argument of mount(2).
    fn data_string(&self) -> String {
        let mut data = self.data.join(",");
        if let Some(label) = self.label {
            if !data.is_empty() {
                data.push(',');
            }
            // Quoted, because a label may contain commas.
            data.push_str(&format!("context=\"{label}\""));
        }
        data
    }
}

/// Flags of the superblock as words for fsconfig(2).
fn superblock_words(flags: SuperblockFlags) -> impl Iterator<Item = &'static str> {
    [
        ("ro", flags.ro),
        ("sync", flags.sync),
        ("dirsync", flags.dirsync),
        ("lazytime", flags.lazytime),
        ("mand", flags.mand),
    ]
    .into_iter()
    .filter_map(|(word, on)| on.then_some(word))
}

/// Flags of the superblock for mount(2).
fn superblock_flags(flags: SuperblockFlags) -> MountFlags {
    [
        (flags.ro, MountFlags::RDONLY),
        (flags.sync, MountFlags::SYNCHRONOUS),
        (flags.dirsync, MountFlags::DIRSYNC),
        (flags.lazytime, MountFlags::LAZYTIME),
        (flags.mand, MountFlags::PERMIT_MANDATORY_FILE_LOCKING),
        (flags.silent, MountFlags::SILENT),
        // MS_I_VERSION of mount(2), which rustix does not name.
        (flags.iversion, MountFlags::from_bits_retain(1 << 23)),
    ]
    .into_iter()
    .filter_map(|(on, flag)| on.then_some(flag))
    .fold(MountFlags::empty(), |all, flag| all | flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fs<'a>(data: &'a [String], label: Option<&'a str>) -> NewFs<'a> {
        NewFs {
            fstype: "tmpfs",
            source: "tmpfs",
            data,
            superblock: SuperblockFlags::default(),
            attrs: 0,
            label,
        }
    }

    #[test]
    fn data_for_mount_quotes_the_label() {
        let data = ["mode=755".to_owned(), "size=1m".to_owned()];
        let label = Some("system_u:object_r:container_file_t:s0:c1,c2");
        assert_eq!(
            fs(&data, label).data_string(),
            "mode=755,size=1m,context=\"system_u:object_r:container_file_t:s0:c1,c2\""
        );
        assert_eq!(fs(&[], Some("l")).data_string(), "context=\"l\"");
        assert_eq!(fs(&data, None).data_string(), "mode=755,size=1m");
    }

    #[test]
    fn long_values_go_through_mount() {
        assert!(!fs(&["k=v".to_owned()], None).needs_mount_call());
        assert!(fs(&["x".repeat(256)], None).needs_mount_call());
    }
}

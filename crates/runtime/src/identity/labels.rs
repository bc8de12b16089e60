//! Mandatory access control labels and the session keyring.
//!
//! A label is written to a file of procfs, and a container's procfs may be anything the image
//! wants (CVE-2019-16884, CVE-2025-52881). So the files are opened on the runtime's own procfs
//! before the container's mount namespace is entered, and written later: the kernel lets only
//! the process that opened them write, which is us in both cases.

use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat, statfs};
use rustix::io::Errno;
use spec::plan::ProcessPlan;
use sys::Context as _;
use sys::keyring;

use crate::{Doing as _, Error, Result};

/// PROC_SUPER_MAGIC of linux/magic.h.
const PROC_MAGIC: u64 = 0x9fa0;
/// SELINUX_MAGIC of linux/magic.h.
const SELINUX_MAGIC: u64 = 0xf97c_ff8c;

/// Opened label files and what is to be written to them.
#[derive(Debug, Default)]
pub struct Labels {
    pending: Vec<(OwnedFd, String)>,
}

impl Labels {
    /// Opens the files for the labels of `process`, in the process that will execute the
    /// program, while it still sees the runtime's own `/proc`.
    ///
    /// # Errors
    /// The file that could not be opened, or a `/proc` that is no procfs.
    pub fn open(process: &ProcessPlan) -> Result<Self> {
        let mut labels = Self::default();
        if let Some(profile) = &process.apparmor_profile {
            let file = open_attr("/proc/self/attr/apparmor/exec")
                .or_else(|_| open_attr("/proc/self/attr/exec"))
                .doing(|| format!("apply the AppArmor profile {profile:?}"))?;
            labels.pending.push((file, format!("exec {profile}")));
        }
        if let Some(label) = &process.selinux_label {
            let file = open_attr("/proc/self/attr/exec")
                .doing(|| format!("apply the SELinux label {label:?}"))?;
            labels.pending.push((file, label.clone()));
        }
        Ok(labels)
    }

    /// The open files.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pending.iter().map(|(file, _)| file.as_fd())
    }

    /// Writes them: the next execve(2) takes them on.
    ///
    /// # Errors
    /// What the security module says, such as an unknown profile.
    pub fn apply(self) -> Result<()> {
        for (file, text) in self.pending {
            let args = || format!("/proc/self/attr/exec, {text:?}");
            rustix::io::write(&file, text.as_bytes()).context("write", args)?;
        }
        Ok(())
    }
}

fn open_attr(path: &str) -> sys::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(CWD, path, flags, Mode::empty()).context("openat", || path)?;
    let fs = fstatfs(&file).context("fstatfs", || path)?;
    if u64::try_from(fs.f_type) == Ok(PROC_MAGIC) {
        Ok(file)
    } else {
        Err(sys::Error::new(
            "fstatfs",
            format!("{path}: not procfs"),
            Errno::INVAL,
        ))
    }
}

/// Refuses labels for a security module that the kernel does not run, before anything is made.
///
/// # Errors
/// [`Error::Invalid`] with the module's name.
pub fn check_labels(process: &ProcessPlan) -> Result<()> {
    if let Some(profile) = &process.apparmor_profile
        && !apparmor_enabled()
    {
        let text = format!(
            "apparmor profile {profile:?} is asked for, but apparmor is not enabled on this system"
        );
        return Err(Error::Invalid(text));
    }
    if let Some(label) = &process.selinux_label
        && !selinux_enabled()
    {
        let text = format!(
            "selinux label {label:?} is asked for, but selinux is not enabled on this system"
        );
        return Err(Error::Invalid(text));
    }
    Ok(())
}

/// Whether the kernel runs AppArmor.
#[must_use]
pub fn apparmor_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with(b"Y"))
}

/// Whether the kernel runs SELinux.
#[must_use]
pub fn selinux_enabled() -> bool {
    let at = |path: &str| statfs(path).is_ok_and(|s| u64::try_from(s.f_type) == Ok(SELINUX_MAGIC));
    at("/sys/fs/selinux") || at("/selinux")
}

/// Joins the session keyring named for the container, so that its processes cannot read the keys
/// of whoever started the runtime; then lets its owner search it, and with `own_users` (the
/// container has a user namespace) others too, as runc does.
///
/// Must come before the user changes; exec joins the same name. A kernel without keys is not an
/// error.
///
/// # Errors
/// keyctl(2)'s, or a label file that cannot be written.
pub fn join_session_keyring(id: &str, selinux_label: Option<&str>, own_users: bool) -> Result<()> {
    if let Some(label) = selinux_label {
        let file = open_attr("/proc/self/attr/keycreate")?;
        let args = || format!("/proc/self/attr/keycreate, {label:?}");
        rustix::io::write(&file, label.as_bytes()).context("write", args)?;
    }
    let name = CString::new(format!("_ses.{id}")).map_err(|_| Error::InvalidId(id.to_owned()))?;
    let key = match keyring::join_session(&name) {
        Ok(key) => key,
        Err(e) if e.errno == Errno::NOSYS => return Ok(()),
        Err(e) => return Err(e).doing(|| "join session keyring"),
    };
    // KEY_USR_SEARCH and KEY_OTH_SEARCH of linux/key.h.
    let search = if own_users { 0x8 } else { 0x8_0000 };
    let mask = keyring::permissions(key).doing(|| "join session keyring")?;
    keyring::set_permissions(key, mask | search).doing(|| "join session keyring")
}

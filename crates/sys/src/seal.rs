//! Keeping our own executable out of a container's reach.
//!
//! A process that enters a container shows the container `/proc/PID/exe`. Were that the file on
//! the host, a container with root's rights could keep it open and write to it once the process
//! has gone (CVE-2019-5736). So the process either parts from the file (the `exe` module), or,
//! where the kernel does not let it, executes itself again from a copy: a memfd that nobody can
//! write, grow, shrink or unseal.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{MemfdFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::Errno;

use crate::exe::{SEALS, part_from_file};
use crate::{Context, Error, Result, process, trace};

/// Sees to it that nothing leads from this process to the file it was executed from.
///
/// Call it first, before any state exists and while there is one thread: where parting from the
/// file is not possible, the program begins again, sealed.
///
/// # Errors
/// The call that failed; the caller must not enter a container then.
pub fn ensure_sealed() -> Result<()> {
    let parted = trace::step(
        "mmap + prctl(PR_SET_MM_MAP)",
        || "part from our executable file",
        part_from_file,
    );
    if parted.is_ok() {
        return Ok(());
    }
    let exe = std::fs::File::open("/proc/self/exe").context("open", || "/proc/self/exe")?;
    if fcntl_get_seals(&exe).is_ok_and(|seals| seals.contains(SEALS)) {
        return Ok(());
    }
    let copy = trace::step(
        "memfd_create + sendfile",
        || "copy of this program",
        || copy(exe),
    )?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy));
    let to_c = |s: std::ffi::OsString| CString::new(s.into_vec());
    let argv = collect("argv", std::env::args_os().map(to_c))?;
    let envp = std::env::vars_os().map(|(mut k, v)| {
        k.push("=");
        k.push(v);
        to_c(k)
    });
    let envp = collect("envp", envp)?;
    let path = collect("path", std::iter::once(to_c(path.into())))?;
    let argv: Vec<&CStr> = argv.iter().map(CString::as_c_str).collect();
    let envp: Vec<&CStr> = envp.iter().map(CString::as_c_str).collect();
    Err(process::execve(&path[0], &argv, &envp))
}

fn collect(
    what: &str,
    words: impl Iterator<Item = std::result::Result<CString, std::ffi::NulError>>,
) -> Result<Vec<CString>> {
    words
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| Error::new("execve", format!("{what} with a NUL byte"), Errno::INVAL))
}

fn copy(exe: std::fs::File) -> Result<std::os::fd::OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC says that execution is meant (Linux 6.3); older kernels refuse the flag.
    let memfd = memfd_create("hull", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("hull", flags))
        .context("memfd_create", || "hull")?;
    let size = exe.metadata().context("fstat", || "/proc/self/exe")?.len();
    let mut left = usize::try_from(size).unwrap_or(usize::MAX);
    while left > 0 {
        let n = rustix::fs::sendfile(&memfd, &exe, None, left)
            .context("sendfile", || format!("memfd, /proc/self/exe, {left}"))?;
        if n == 0 {
            return Err(Error::new(
                "sendfile",
                "/proc/self/exe became shorter",
                Errno::IO,
            ));
        }
        left = left.saturating_sub(n);
    }
    fcntl_add_seals(&memfd, SEALS).context("fcntl", || "memfd, F_ADD_SEALS")?;
    Ok(memfd)
}

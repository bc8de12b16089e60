//! Parting a running program from its executable file.
//!
//! The kernel lets a process name another executable as its own (`PR_SET_MM_MAP`, prctl(2),
//! made for restoring processes), once nothing of the old one is mapped. What is mapped, is
//! mapped here a second time: constant parts from the same file, but opened on a mount of its
//! own, which is another path to the kernel; variable parts as copies. The new executable is an
//! empty, sealed memfd. From then on nothing leads from the process to the file: not
//! `/proc/PID/exe`, no descriptor, and executing `/proc/self/exe` is an ENOEXEC.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, openat};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{
    PrctlMmMap, configure_virtual_memory_map, virtual_memory_map_config_struct_size,
};

use crate::process::last_errno;
use crate::{Context as _, Errno, Error, Result, knob};

/// The seals of a file that nobody can change in any way.
pub(crate) const SEALS: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

/// One loaded segment of this program.
#[derive(Debug)]
pub(crate) struct Segment {
    /// First address, on a page boundary.
    pub(crate) start: usize,
    /// Length of what comes from the file, in whole pages.
    pub(crate) length: usize,
    /// Where in the file it comes from.
    offset: libc::off_t,
    protection: libc::c_int,
}

impl Segment {
    pub(crate) const fn is_writable(&self) -> bool {
        self.protection & libc::PROT_WRITE != 0
    }
}

/// Parts this process from its executable file.
///
/// # Errors
/// ENOSYS or EINVAL where the kernel has no PR_SET_MM_MAP or [`knob`] fakes that; EPERM without
/// CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN in the own user namespace. The process is as good as
/// before then, only still tied to its file.
pub fn part_from_file() -> Result<()> {
    let fail = |errno| Error::new("prctl", "PR_SET_MM, PR_SET_MM_MAP", errno);
    knob::check("pr_set_mm_map").map_err(fail)?;
    may_change_map()?;
    let file = open_by_another_path()?;
    let (segments, relro) = segments();
    for segment in &segments {
        if segment.is_writable() {
            remap_copy(segment)?;
        } else {
            remap_file(segment, &file)?;
        }
    }
    if let Some((start, length)) = relro {
        protect(start, length)?;
    }
    set_executable(&sealed_nothing()?)
}

/// The kernel says with PR_SET_MM_MAP_SIZE whether it has the call; whether we may use it is
/// only told when all is done, so capabilities are looked at before.
fn may_change_map() -> Result<()> {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    const CAP_CHECKPOINT_RESTORE: u64 = 1 << 40;
    let sets = rustix::thread::capabilities(None).context("capget", || "0")?;
    if sets.effective.bits() & (CAP_SYS_ADMIN | CAP_CHECKPOINT_RESTORE) == 0 {
        return Err(Error::new("prctl", "PR_SET_MM, PR_SET_MM_MAP", Errno::PERM));
    }
    let size = virtual_memory_map_config_struct_size();
    let size = size.context("prctl", || "PR_SET_MM, PR_SET_MM_MAP_SIZE")?;
    if size == size_of::<PrctlMmMap>() {
        Ok(())
    } else {
        let args = format!("PR_SET_MM, PR_SET_MM_MAP_SIZE: {size}");
        Err(Error::new("prctl", args, Errno::NOSYS))
    }
}

/// Our executable, on a mount of its own.
fn open_by_another_path() -> Result<OwnedFd> {
    let exe = "/proc/self/exe";
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree =
        open_tree(CWD, exe, flags).context("open_tree", || format!("{exe}, OPEN_TREE_CLONE"))?;
    let path = format!("/proc/self/fd/{}", tree.as_raw_fd());
    openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context("openat", || format!("{path} ({exe})"))
}

/// The segments, and the part of them that the start-up code made read-only after relocation.
pub(crate) fn segments() -> (Vec<Segment>, Option<(usize, usize)>) {
    let headers = program_headers();
    // Addresses are relative to where the program was loaded; its headers say where they should
    // be, the kernel where they are.
    let base = headers
        .iter()
        .find(|h| h.p_type == libc::PT_PHDR)
        .map_or(0, |h| {
            (headers.as_ptr() as usize).wrapping_sub(address(h.p_vaddr))
        });
    let page = rustix::param::page_size();
    let floor = |at: usize| at & !(page - 1);
    let segments = headers
        .iter()
        .filter(|h| h.p_type == libc::PT_LOAD && h.p_filesz > 0);
    let segments = segments.map(|h| {
        let first = base.wrapping_add(address(h.p_vaddr));
        let (start, end) = (floor(first), first + address(h.p_filesz));
        Segment {
            start,
            length: floor(end + page - 1) - start,
            offset: libc::off_t::try_from(floor(address(h.p_offset))).unwrap_or(libc::off_t::MAX),
            protection: protection(h.p_flags),
        }
    });
    let relro = headers
        .iter()
        .find(|h| h.p_type == libc::PT_GNU_RELRO)
        .map(|h| {
            let first = base.wrapping_add(address(h.p_vaddr));
            let (start, end) = (floor(first), floor(first + address(h.p_memsz)));
            (start, end.saturating_sub(start))
        });
    (segments.collect(), relro.filter(|(_, length)| *length > 0))
}

/// This program's ELF program headers, which the kernel points to (getauxval(3), AT_PHDR).
fn program_headers() -> &'static [libc::Elf64_Phdr] {
    // SAFETY: takes an integer.
    let pointer = unsafe { libc::getauxval(libc::AT_PHDR) } as *const libc::Elf64_Phdr;
    // SAFETY: as above.
    let count = unsafe { libc::getauxval(libc::AT_PHNUM) };
    let count = usize::try_from(count).unwrap_or(0);
    if pointer.is_null() {
        return &[];
    }
    // SAFETY: the kernel found `count` headers there when it loaded the program; they are part
    // of a read-only segment that stays mapped, or is replaced by the same bytes.
    unsafe { std::slice::from_raw_parts(pointer, count) }
}

fn address(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

const fn protection(flags: u32) -> libc::c_int {
    let mut bits = 0;
    if flags & libc::PF_R != 0 {
        bits |= libc::PROT_READ;
    }
    if flags & libc::PF_W != 0 {
        bits |= libc::PROT_WRITE;
    }
    if flags & libc::PF_X != 0 {
        bits |= libc::PROT_EXEC;
    }
    bits
}

/// Maps a constant segment again, from the same file by another path.
fn remap_file(segment: &Segment, file: impl AsFd) -> Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
    let (start, fd) = (segment.start as *mut c_void, file.as_fd().as_raw_fd());
    // SAFETY: the pages there hold these very bytes of this very file, which nobody can have
    // written to (ETXTBSY while it runs); the kernel swaps the mappings in one step, so that
    // code may go on running in them.
    let r = unsafe {
        libc::mmap(
            start,
            segment.length,
            segment.protection,
            flags,
            fd,
            segment.offset,
        )
    };
    mapped(r, "mmap", segment)
}

/// Replaces a variable segment by a copy in anonymous memory.
fn remap_copy(segment: &Segment) -> Result<()> {
    let (read_write, length) = (libc::PROT_READ | libc::PROT_WRITE, segment.length);
    // All of it is written to in a moment: the kernel provides the pages at once, and not one a
    // fault.
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let copy = unsafe { libc::mmap(std::ptr::null_mut(), length, read_write, flags, -1, 0) };
    mapped(copy, "mmap", segment)?;
    let start = segment.start as *mut c_void;
    // SAFETY: both are mapped for `length` bytes and do not overlap. The process has one thread,
    // and nothing in the segment changes between the copy and the swap below.
    unsafe { std::ptr::copy_nonoverlapping(start.cast::<u8>(), copy.cast::<u8>(), length) };
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the copy takes the place of the original with the same bytes in it, in one step.
    let r = unsafe { libc::mremap(copy, length, length, flags, start) };
    mapped(r, "mremap", segment)
}

fn mapped(r: *mut c_void, call: &'static str, segment: &Segment) -> Result<()> {
    if r == libc::MAP_FAILED {
        return Err(Error::new(call, format!("{segment:x?}"), last_errno()));
    }
    Ok(())
}

/// Makes relocated constants read-only again.
fn protect(start: usize, length: usize) -> Result<()> {
    let describe = || format!("{start:#x}, {length:#x}, PROT_READ");
    let start = NonNull::new(start as *mut c_void)
        .ok_or_else(|| Error::new("mprotect", describe(), Errno::INVAL))?;
    // SAFETY: the C library had made these pages read-only before we copied them.
    if unsafe { libc::mprotect(start.as_ptr(), length, libc::PROT_READ) } == 0 {
        Ok(())
    } else {
        Err(Error::new("mprotect", describe(), last_errno()))
    }
}

/// An executable file with nothing in it.
fn sealed_nothing() -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC says that execution is meant (Linux 6.3); older kernels refuse the flag.
    let memfd = memfd_create("hull", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("hull", flags))
        .context("memfd_create", || "hull")?;
    fcntl_add_seals(&memfd, SEALS).context("fcntl", || "memfd, F_ADD_SEALS")?;
    Ok(memfd)
}

/// Names `executable` as ours. All other fields of the process's memory map stay what they are.
fn set_executable(executable: &OwnedFd) -> Result<()> {
    let stat = crate::process::own_stat()?;
    let mut map =
        layout(&stat).ok_or_else(|| Error::new("read", "/proc/self/stat", Errno::INVAL))?;
    // SAFETY: sbrk(0) only asks.
    map.brk = unsafe { libc::sbrk(0) } as u64;
    map.exe_fd = executable.as_raw_fd();
    // SAFETY: `map` describes this process as it is, so the call changes nothing but the
    // executable. With a size of 0 the auxiliary vector is left alone.
    unsafe { configure_virtual_memory_map(&map) }.context("prctl", || "PR_SET_MM, PR_SET_MM_MAP")
}

/// The addresses among the fields of proc_pid_stat(5).
fn layout(stat: &[u8]) -> Option<PrctlMmMap> {
    let end = stat.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first of `fields` is field 3.
    let field = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    Some(PrctlMmMap {
        start_code: field(26)?,
        end_code: field(27)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        brk: 0,
        start_stack: field(28)?,
        arg_start: field(48)?,
        arg_end: field(49)?,
        env_start: field(50)?,
        env_end: field(51)?,
        auxv: std::ptr::null_mut(),
        auxv_size: 0,
        exe_fd: -1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_describe_what_is_mapped() {
        let (segments, relro) = segments();
        let here = the_headers_describe_what_is_mapped as *const () as usize;
        let code: Vec<_> = segments
            .iter()
            .filter(|s| s.protection & libc::PROT_EXEC != 0)
            .collect();
        assert_eq!(code.len(), 1);
        assert!((code[0].start..code[0].start + code[0].length).contains(&here));
        let (start, length) = relro.unwrap();
        let inside = |s: &&Segment| s.start <= start && start + length <= s.start + s.length + 4096;
        assert!(segments.iter().filter(inside).any(Segment::is_writable));
    }

    #[test]
    fn the_layout_is_read_from_behind_any_name() {
        let mut text = b"1 (a) b) S".to_vec();
        (4..=52).for_each(|n| text.extend(format!(" {n}").into_bytes()));
        let map = layout(&text).unwrap();
        assert_eq!(
            (map.start_code, map.end_code, map.start_stack),
            (26, 27, 28)
        );
        assert_eq!((map.start_data, map.start_brk, map.env_end), (45, 47, 51));
        assert!(layout(b"1 (a) S 1 2").is_none());
    }
}

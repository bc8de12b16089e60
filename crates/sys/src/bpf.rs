//! bpf(2), as far as the device controller of cgroup v2 needs it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::process::last_errno;
use crate::{Error, Result};

/// `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Insn {
    /// Operation.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub registers: u8,
    /// Offset of a memory access, or of a jump in instructions.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;

const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 2;
const F_REPLACE: u32 = 4;

/// Most programs that [`cgroup_device_programs`] returns; the kernel allows 64 on one cgroup.
const MAX_PROGRAMS: usize = 64;

/// The start of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// For BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// For BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
}

/// For BPF_PROG_GET_FD_BY_ID.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// For BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
#[derive(Default)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The start of `struct bpf_prog_info`, up to the name.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    before: [u64; 8],
    name: [u8; 16],
}

/// The name that [`load_cgroup_device`] gives.
const NAME: [u8; 16] = *b"hull_devices\0\0\0\0";

/// bpf(2) with an attribute that has no pointers to memory that is gone.
fn bpf<T>(command: libc::c_int, attr: &mut T) -> std::result::Result<libc::c_long, Errno> {
    // SAFETY: `attr` is a prefix of union bpf_attr of the size given; the pointers in it, if
    // any, were made by the caller from values that outlive this call.
    let r = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if r < 0 { Err(last_errno()) } else { Ok(r) }
}

fn fd_number(fd: BorrowedFd<'_>) -> u32 {
    // A descriptor that is borrowed is open, so its number is not negative.
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

fn owned(raw: libc::c_long) -> std::result::Result<OwnedFd, Errno> {
    let raw = i32::try_from(raw).map_err(|_| Errno::RANGE)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Loads a program of type BPF_PROG_TYPE_CGROUP_DEVICE (Linux 4.15). The descriptor is
/// close-on-exec.
///
/// # Errors
/// bpf(2)'s; EACCES and EINVAL when the verifier refuses the program.
pub fn load_cgroup_device(program: &[Insn]) -> Result<OwnedFd> {
    let describe = || {
        format!(
            "BPF_PROG_LOAD, cgroup_device, {} instructions",
            program.len()
        )
    };
    let mut attr = Load {
        prog_type: TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).unwrap_or(u32::MAX),
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        prog_name: NAME,
        ..Load::default()
    };
    bpf(PROG_LOAD, &mut attr)
        .and_then(owned)
        .map_err(|e| Error::new("bpf", describe(), e))
}

/// Attaches a device program to a cgroup v2 directory beside those of others
/// (BPF_F_ALLOW_MULTI); in the place of `replace` where that is given (Linux 5.5).
///
/// # Errors
/// bpf(2)'s.
pub fn attach_cgroup_device(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replace: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let mut attr = Attach {
        target_fd: fd_number(cgroup),
        attach_bpf_fd: fd_number(program),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: F_ALLOW_MULTI,
        replace_bpf_fd: 0,
    };
    if let Some(old) = replace {
        attr.attach_flags |= F_REPLACE;
        attr.replace_bpf_fd = fd_number(old);
    }
    let describe = || {
        format!(
            "BPF_PROG_ATTACH, cgroup_device, replace={}",
            replace.is_some()
        )
    };
    bpf(PROG_ATTACH, &mut attr)
        .map(drop)
        .map_err(|e| Error::new("bpf", describe(), e))
}

/// Takes a device program off a cgroup v2 directory.
///
/// # Errors
/// bpf(2)'s.
pub fn detach_cgroup_device(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attr = Attach {
        target_fd: fd_number(cgroup),
        attach_bpf_fd: fd_number(program),
        attach_type: ATTACH_CGROUP_DEVICE,
        ..Attach::default()
    };
    bpf(PROG_DETACH, &mut attr)
        .map(drop)
        .map_err(|e| Error::new("bpf", "BPF_PROG_DETACH, cgroup_device", e))
}

/// Those device programs attached to a cgroup v2 directory itself that [`load_cgroup_device`]
/// made, oldest first.
///
/// # Errors
/// bpf(2)'s.
pub fn cgroup_device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; MAX_PROGRAMS];
    let mut attr = Query {
        target_fd: fd_number(cgroup),
        attach_type: ATTACH_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: u32::try_from(MAX_PROGRAMS).unwrap_or(0),
        ..Query::default()
    };
    bpf(PROG_QUERY, &mut attr)
        .map_err(|e| Error::new("bpf", "BPF_PROG_QUERY, cgroup_device", e))?;
    let count = usize::try_from(attr.prog_cnt).unwrap_or(0);
    let mut ours = Vec::new();
    for &id in ids.iter().take(count) {
        let program = program_by_id(id)?;
        if is_ours(&program)? {
            ours.push(program);
        }
    }
    Ok(ours)
}

fn program_by_id(id: u32) -> Result<OwnedFd> {
    let mut attr = ById {
        id,
        ..ById::default()
    };
    bpf(PROG_GET_FD_BY_ID, &mut attr)
        .and_then(owned)
        .map_err(|e| Error::new("bpf", format!("BPF_PROG_GET_FD_BY_ID, {id}"), e))
}

fn is_ours(program: &OwnedFd) -> Result<bool> {
    let mut info = ProgInfo::default();
    let mut attr = InfoByFd {
        bpf_fd: fd_number(program.as_fd()),
        info_len: u32::try_from(size_of::<ProgInfo>()).unwrap_or(0),
        info: (&raw mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)
        .map_err(|e| Error::new("bpf", "BPF_OBJ_GET_INFO_BY_FD, cgroup_device", e))?;
    Ok(info.name == NAME)
}

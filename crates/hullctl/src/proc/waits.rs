//! What a task waits for in the kernel.

use std::fmt::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::stat;

/// A task that does not run.
#[derive(Clone, Debug)]
pub struct Wait {
    /// The process.
    pub pid: i32,
    /// The task.
    pub tid: i32,
    /// Its name.
    pub name: String,
    /// D, S, T, …
    pub state: char,
    /// The kernel function that it sleeps in.
    pub wchan: String,
    /// The system call it is in.
    pub call: String,
    /// The file of that call.
    pub file: Option<PathBuf>,
    /// The mount that the file is on: mount point, file-system type and source.
    pub mount: Option<String>,
    /// The kernel's stack, one function a line, where we may see it.
    pub stack: Vec<String>,
}

impl Wait {
    /// `task sh (12) waits in openat for file /data/f on /data (ext4 /dev/loop0): frozen …`.
    pub fn sentence(&self) -> String {
        let mut text = format!("task {} ({})", self.name, self.tid);
        if self.call.is_empty() {
            text.push_str(" waits");
        } else {
            let _ = write!(text, " waits in {}", self.call);
        }
        if let Some(file) = &self.file {
            let _ = write!(text, " for {}", file.display());
        }
        if let Some(mount) = &self.mount {
            let _ = write!(text, " on {mount}");
        }
        let cause = cause(&self.wchan, &self.stack);
        match (cause, self.wchan.as_str()) {
            (Some(cause), wchan) => {
                let _ = write!(text, ": {cause} ({wchan})");
            }
            (None, "" | "0") => {}
            (None, wchan) => {
                let _ = write!(text, " ({wchan})");
            }
        }
        text
    }

    /// Source and text of what is known.
    pub fn evidence(&self) -> Vec<(String, String)> {
        let dir = format!("/proc/{}/task/{}", self.pid, self.tid);
        let mut all = vec![(
            format!("{dir}/wchan"),
            format!("{} in state {}", self.wchan, self.state),
        )];
        if !self.call.is_empty() {
            all.push((format!("{dir}/syscall"), self.call.clone()));
        }
        if !self.stack.is_empty() {
            let functions: Vec<&str> = self.stack.iter().map(String::as_str).take(6).collect();
            all.push((format!("{dir}/stack"), functions.join(" < ")));
        }
        all
    }
}

/// Causes by the kernel function that a task sleeps in; the first that fits counts.
const CAUSES: [(&str, &str); 20] = [
    ("rpc_wait", "the NFS server does not answer"),
    ("nfs", "NFS: the server or the way to it is slow"),
    ("cifs", "SMB: the server or the way to it is slow"),
    ("request_wait_answer", "the FUSE server does not answer"),
    ("fuse", "the FUSE server does not answer"),
    (
        "wait_for_vfork_done",
        "its child has neither executed a program nor ended",
    ),
    (
        "percpu_rwsem_wait",
        "the file system is frozen (fsfreeze, a snapshot)",
    ),
    (
        "sb_start_write",
        "the file system is frozen (fsfreeze, a snapshot)",
    ),
    (
        "balance_dirty_pages",
        "too much written and not yet on the disk: writers are slowed down",
    ),
    ("wb_wait_for_completion", "writing back to a slow disk"),
    ("blk_mq_get_tag", "the disk's queue is full"),
    (
        "rq_qos_wait",
        "its share of the disk is used up (io.max, io.cost, wbt)",
    ),
    (
        "blk_throtl",
        "its limit of disk bytes or operations is used up",
    ),
    ("jbd2", "the ext4 journal waits for the disk"),
    ("xlog", "the XFS log waits for the disk"),
    (
        "wait_on_page",
        "a page is read from or written to a slow disk",
    ),
    (
        "folio_wait",
        "a page is read from or written to a slow disk",
    ),
    ("io_schedule", "reads from or writes to a slow disk"),
    ("bio_wait", "reads from or writes to a slow disk"),
    ("refrigerator", "its control group is frozen"),
];

/// In words, by the function it sleeps in or one of its callers.
pub fn cause(wchan: &str, stack: &[String]) -> Option<&'static str> {
    let functions = std::iter::once(wchan).chain(stack.iter().map(String::as_str));
    let functions: Vec<&str> = functions.collect();
    let fits = |(part, _): &&(&str, &str)| functions.iter().any(|f| f.contains(part));
    CAUSES.iter().find(fits).map(|(_, cause)| *cause)
}

/// All tasks of a process that do not run.
pub fn of_process(pid: i32) -> Vec<Wait> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task"));
    let names = entries.into_iter().flatten().flatten();
    let tids = names.filter_map(|e| e.file_name().to_str()?.parse().ok());
    tids.filter_map(|tid| of_task(pid, tid)).collect()
}

/// One task; `None` if it runs or has ended.
pub fn of_task(pid: i32, tid: i32) -> Option<Wait> {
    let stat = stat::read(pid, Some(tid))?;
    if matches!(stat.state, 'R' | 'Z' | 'X') {
        return None;
    }
    let dir = format!("/proc/{pid}/task/{tid}");
    let read = |name: &str| std::fs::read_to_string(format!("{dir}/{name}")).unwrap_or_default();
    let call = Call::parse(&read("syscall"));
    let file = call.as_ref().and_then(|c| c.file(pid));
    let mount = file.as_ref().and_then(|f| mount_of(pid, f));
    Some(Wait {
        pid,
        tid,
        name: stat.name,
        state: stat.state,
        wchan: read("wchan").trim().to_owned(),
        call: call.map_or_else(String::new, |c| c.name().to_owned()),
        file,
        mount,
        stack: functions(&read("stack")),
    })
}

/// The names in `[<0>] vfs_write+0x1a/0x30`.
fn functions(stack: &str) -> Vec<String> {
    let name = |line: &str| {
        let name = line.split_whitespace().nth(1)?.split('+').next()?;
        Some(name.to_owned())
    };
    stack.lines().filter_map(name).collect()
}

/// A system call under way, from /proc/PID/syscall.
struct Call {
    number: u32,
    args: Vec<u64>,
}

impl Call {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let number = words.next()?.parse().ok()?;
        let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
        Some(Self {
            number,
            args: words.filter_map(hex).take(6).collect(),
        })
    }

    fn name(&self) -> &'static str {
        let table = seccomp::Arch::native().table();
        table.name(self.number).unwrap_or("a system call")
    }

    /// The file it is about: by descriptor or by name.
    fn file(&self, pid: i32) -> Option<PathBuf> {
        match self.name() {
            "read" | "write" | "pread64" | "pwrite64" | "readv" | "writev" | "fsync"
            | "fdatasync" | "fallocate" | "ftruncate" | "getdents64" | "preadv" | "pwritev"
            | "sendfile" | "copy_file_range" | "fstat" | "ioctl" | "flock" | "syncfs" => {
                by_descriptor(pid, *self.args.first()?)
            }
            "open" | "stat" | "lstat" | "mkdir" | "unlink" | "rmdir" | "truncate" | "chdir"
            | "access" | "readlink" | "execve" | "statfs" => by_name(pid, *self.args.first()?),
            "openat" | "newfstatat" | "mkdirat" | "unlinkat" | "faccessat" | "faccessat2"
            | "readlinkat" | "utimensat" | "statx" | "openat2" | "renameat" | "renameat2" => {
                by_name(pid, *self.args.get(1)?)
            }
            _ => None,
        }
    }
}

fn by_descriptor(pid: i32, fd: u64) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()
}

/// The name in the process's memory, made absolute by its working directory.
fn by_name(pid: i32, address: u64) -> Option<PathBuf> {
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = [0_u8; 4096];
    // To the end of the page: what lies behind may not be mapped.
    let left = usize::try_from(4096 - address % 4096).ok()?;
    let n = memory.read_at(bytes.get_mut(..left)?, address).ok()?;
    let name = bytes.get(..n)?.split(|b| *b == 0).next()?;
    let name = Path::new(std::str::from_utf8(name).ok()?);
    if name.is_absolute() {
        return Some(name.to_owned());
    }
    let dir = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    Some(dir.join(name))
}

/// Mount point, type and source of the mount that a file is on, as the process sees it.
pub fn mount_of(pid: i32, file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    let mounts = text.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        let mut after = after.split(' ');
        let (kind, source) = (after.next()?, after.next()?);
        file.starts_with(point)
            .then(|| (point.len(), format!("{point} ({kind} {source})")))
    });
    // Of several at one point the last one covers the others.
    mounts.max_by_key(|(length, _)| *length).map(|(_, m)| m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_and_calls() {
        assert!(cause("rpc_wait_bit_killable", &[]).unwrap().contains("NFS"));
        let stack =
            functions("[<0>] percpu_rwsem_wait+0x15f/0x1d0\n[<0>] mnt_want_write+0x96/0xc0\n");
        assert_eq!(stack, ["percpu_rwsem_wait", "mnt_want_write"]);
        assert!(cause("schedule", &stack).unwrap().contains("frozen"));
        assert_eq!(cause("do_select", &[]), None);
        assert!(Call::parse("running").is_none());
        let call = Call::parse("257 0xffffff9c 0x10 0x241").unwrap();
        assert_eq!((call.number, call.args[1]), (257, 16));
    }

    #[test]
    fn a_process_that_reads_a_pipe() {
        use std::process::{Command, Stdio};
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let found = loop {
            match of_process(pid).into_iter().next() {
                Some(w) if w.call == "read" && w.state == 'S' => break w,
                _ => std::thread::yield_now(),
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.file.unwrap().to_string_lossy().starts_with("pipe:"));
        assert_eq!(found.name, "cat");
    }
}

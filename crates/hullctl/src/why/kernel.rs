//! What the kernel's log says (kmsg): kills for lack of memory, refused system calls, faults.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;

/// O_NONBLOCK on Linux.
const NONBLOCK: i32 = 0o4000;

/// A kill for lack of memory.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OomKill {
    /// `CONSTRAINT_MEMCG`, or `CONSTRAINT_NONE` where the machine ran out.
    pub constraint: String,
    /// The group whose limit was met.
    pub limit_of: String,
    /// The group of the process.
    pub group: String,
    /// Its name.
    pub task: String,
    /// Its pid.
    pub pid: i32,
    /// Its anonymous memory, as the kernel writes it: `65536kB`.
    pub anonymous: String,
    /// The line.
    pub line: String,
}

/// A system call that a filter did not let through.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Denial {
    /// The process.
    pub pid: i32,
    /// Its name.
    pub comm: String,
    /// The program.
    pub exe: String,
    /// The call.
    pub syscall: u32,
    /// AUDIT_ARCH_…
    pub arch: u32,
    /// The signal it was killed with; 0 if the call only failed.
    pub signal: i32,
    /// The line.
    pub line: String,
}

/// The messages that are still there, oldest first; empty where we may not read them.
pub fn messages() -> Vec<String> {
    let log = std::fs::File::options()
        .read(true)
        .custom_flags(NONBLOCK)
        .open("/dev/kmsg");
    let Ok(mut log) = log else {
        return Vec::new();
    };
    let mut record = [0_u8; 8192];
    let mut messages = Vec::new();
    loop {
        match log.read(&mut record) {
            Ok(n) if n > 0 => {
                let text = String::from_utf8_lossy(&record[..n]);
                let message = text.split_once(';').map(|(_, m)| m);
                let first = message.and_then(|m| m.lines().next());
                messages.push(first.unwrap_or_default().to_owned());
            }
            // EPIPE: overwritten before it was read; the next read goes on behind it.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
            _ => return messages,
        }
    }
}

/// The kills among them.
pub fn oom_kills(messages: &[String]) -> Vec<OomKill> {
    let mut kills: Vec<OomKill> = Vec::new();
    for line in messages {
        if let Some(fields) = line.strip_prefix("oom-kill:") {
            kills.extend(parse_kill(fields, line));
        } else if let (Some(at), Some(kill)) = (line.find("Killed process "), kills.last_mut()) {
            let rest = &line[at..];
            if rest.contains(&format!("process {} ", kill.pid)) {
                let anonymous = rest
                    .split("anon-rss:")
                    .nth(1)
                    .and_then(|r| r.split(',').next());
                kill.anonymous = anonymous.unwrap_or_default().to_owned();
            }
        }
    }
    kills
}

fn parse_kill(fields: &str, line: &str) -> Option<OomKill> {
    let fields: BTreeMap<&str, &str> = fields
        .split(',')
        .filter_map(|f| f.split_once('='))
        .collect();
    let text = |name: &str| fields.get(name).copied().unwrap_or_default().to_owned();
    Some(OomKill {
        constraint: text("constraint"),
        limit_of: text("oom_memcg"),
        group: text("task_memcg"),
        task: text("task"),
        pid: fields.get("pid")?.parse().ok()?,
        anonymous: String::new(),
        line: line.to_owned(),
    })
}

/// The refused calls among them (`audit: type=1326`).
pub fn denials(messages: &[String]) -> Vec<Denial> {
    let audit = messages.iter().filter(|m| m.contains("type=1326"));
    audit.filter_map(|line| parse_denial(line)).collect()
}

fn parse_denial(line: &str) -> Option<Denial> {
    let fields: BTreeMap<&str, &str> = line.split(' ').filter_map(|f| f.split_once('=')).collect();
    let text = |name: &str| fields.get(name).map(|v| v.trim_matches('"').to_owned());
    Some(Denial {
        pid: fields.get("pid")?.parse().ok()?,
        comm: text("comm").unwrap_or_default(),
        exe: text("exe").unwrap_or_default(),
        syscall: fields.get("syscall")?.parse().ok()?,
        arch: u32::from_str_radix(fields.get("arch")?, 16).ok()?,
        signal: fields.get("sig").and_then(|s| s.parse().ok()).unwrap_or(0),
        line: line.to_owned(),
    })
}

/// The last line about a fault of this process (`name[pid]: segfault at …`, `traps: name[pid] …`).
pub fn fault(messages: &[String], pid: i32) -> Option<&str> {
    let mark = format!("[{pid}]");
    let about = |m: &&String| {
        m.contains(&mark) && (m.contains("segfault") || m.contains("traps:") || m.contains("trap "))
    };
    messages.iter().rev().find(about).map(String::as_str)
}

/// The name of a system call.
pub fn call_name(arch: u32, number: u32) -> String {
    let mut known = seccomp::Arch::all().filter(|a| a.audit() == arch);
    let name = known.find_map(|a| a.table().name(number));
    name.map_or_else(|| format!("number {number}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_and_denials() {
        let log = [
            "tail invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
            "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=tail,pid=9209,uid=0",
            "Memory cgroup out of memory: Killed process 9209 (tail) total-vm:9000kB, anon-rss:8192kB, file-rss:1kB",
            "audit: type=1326 audit(1764000000.123:7): auid=4294967295 uid=0 gid=0 ses=1 pid=44 comm=\"mount\" exe=\"/bin/mount\" sig=31 arch=c000003e syscall=165 compat=0 ip=0x7f code=0x80000000",
            "sh[77]: segfault at 0 ip 0000 sp 0000 error 4 in sh[1000]",
        ]
        .map(str::to_owned);
        let kills = oom_kills(&log);
        assert_eq!(kills.len(), 1);
        assert_eq!(
            (kills[0].limit_of.as_str(), kills[0].group.as_str()),
            ("/a", "/a/b")
        );
        assert_eq!(
            (kills[0].pid, kills[0].anonymous.as_str()),
            (9209, "8192kB")
        );
        let denials = denials(&log);
        assert_eq!((denials[0].pid, denials[0].signal), (44, 31));
        assert_eq!(call_name(denials[0].arch, denials[0].syscall), "mount");
        assert!(fault(&log, 77).is_some() && fault(&log, 7).is_none());
    }
}

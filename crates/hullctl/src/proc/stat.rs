//! /proc/PID/stat (proc_pid_stat(5)).

/// What the commands here need of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stat {
    /// The name of the task.
    pub name: String,
    /// R, S, D, …
    pub state: char,
    /// The parent.
    pub ppid: i32,
    /// User and system time, in clock ticks.
    pub cpu_ticks: u64,
    /// When it started, in clock ticks after boot.
    pub start_ticks: u64,
    /// Waited for block input, in clock ticks; 0 without delay accounting.
    pub blkio_ticks: u64,
}

/// Of a process, or of one of its tasks with `tid`.
pub fn read(pid: i32, tid: Option<i32>) -> Option<Stat> {
    let path = match tid {
        None => format!("/proc/{pid}/stat"),
        Some(tid) => format!("/proc/{pid}/task/{tid}/stat"),
    };
    let bytes = std::fs::read(path).ok()?;
    parse(&String::from_utf8_lossy(&bytes))
}

/// The name stands in parentheses and may contain anything.
fn parse(text: &str) -> Option<Stat> {
    let (head, rest) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first of `fields` is field 3 of the file.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        name: name
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect(),
        state: fields.first()?.chars().next()?,
        ppid: fields.get(1)?.parse().ok()?,
        cpu_ticks: number(14)? + number(15)?,
        start_ticks: number(22)?,
        blkio_ticks: number(42).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses() {
        let line = "7 (a) R 1 (b) D 12 1 1 0 -1 4194560 9 9 9 9 3 4 9 9 20 0 1 0 4711 1 1";
        let stat = parse(line).unwrap();
        assert_eq!(stat.name, "a) R 1 (b");
        assert_eq!((stat.state, stat.ppid), ('D', 12));
        assert_eq!((stat.cpu_ticks, stat.start_ticks), (7, 4711));
        assert_eq!(parse("7 (a"), None);
        assert!(read(1, None).is_some());
    }
}

//! Where processes are that do not end.

/// Most processes that are told of.
const MAX: usize = 5;

/// A phrase about those of `pids` that still exist: state, and where in the kernel they wait.
pub(super) fn report(pids: &[i32]) -> String {
    let mut seen: Vec<i32> = Vec::new();
    let mut found = Vec::new();
    for &pid in pids {
        if found.len() >= MAX || seen.contains(&pid) {
            continue;
        }
        seen.push(pid);
        found.extend(of(pid));
    }
    if found.is_empty() {
        "no process of it is left".to_owned()
    } else {
        found.join("; ")
    }
}

fn of(pid: i32) -> Option<String> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
    let stat = read("stat").ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(').map_or("", |(_, name)| name);
    let state = rest.split_ascii_whitespace().next()?;
    let place = read("wchan").unwrap_or_default();
    let place = if place.is_empty() || place == "0" {
        String::new()
    } else {
        format!(" in {place}")
    };
    let stack = read("stack").unwrap_or_default();
    let frames: Vec<&str> = stack
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .filter_map(|frame| frame.split('+').next())
        .take(6)
        .collect();
    let stack = if frames.is_empty() {
        String::new()
    } else {
        format!(" ({})", frames.join(" < "))
    };
    let what = match state {
        "D" => "waits in the kernel and cannot be killed",
        "Z" => "has ended and is not waited for",
        "T" | "t" => "is stopped",
        _ => "has not ended yet",
    };
    Some(format!(
        "process {pid} ({name}) {what}, state {state}{place}{stack}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_process_and_state() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let text = report(&[pid, pid, 0x7fff_fff0]);
        child.kill().unwrap();
        child.wait().unwrap();
        let want = format!("process {pid} (");
        assert!(text.starts_with(&want) && !text.contains("; "), "{text}");
        assert!(text.contains("has not ended yet, state "), "{text}");
        assert_eq!(report(&[pid]), "no process of it is left");
    }
}

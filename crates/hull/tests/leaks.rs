//! Nothing gets in that is not passed on, and nothing stays behind: whatever happens to `hull`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Bundle, HULL, cgroups, finish, wait_until};
use serde_json::json;

/// Processes whose command line names the container.
fn processes(id: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(id) && !line.contains("/deps/leaks") {
            found.push(format!("{}: {line}", entry.file_name().display()));
        }
    }
    found
}

fn mounts(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let dir = dir.to_str().unwrap();
    let lines = text.lines().filter(|l| l.contains(dir));
    lines.map(str::to_owned).collect()
}

fn state(bundle: &Bundle) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(bundle.file("state"));
    let entries = entries.into_iter().flatten().flatten();
    // What is remembered of containers that have gone is not left behind.
    let ended = |path: &PathBuf| path.file_name().is_some_and(|n| n == "@ended");
    entries.map(|e| e.path()).filter(|p| !ended(p)).collect()
}

fn assert_nothing_left(bundle: &Bundle) {
    assert_eq!(state(bundle), Vec::<PathBuf>::new());
    assert_eq!(cgroups(&bundle.id), Vec::<PathBuf>::new());
    assert_eq!(mounts(&bundle.dir), Vec::<String>::new());
    assert_eq!(processes(&bundle.id), Vec::<String>::new());
}

#[test]
fn what_others_keep_in_the_state_root() {
    let bundle = Bundle::new("beside", |_| {});
    let theirs = bundle.file("state").join("network");
    std::fs::create_dir_all(&theirs).unwrap();
    std::fs::write(theirs.join("lock"), "").unwrap();
    for words in [&["list", "-q"][..], &["delete", "-f", "network"]] {
        let out = bundle.hull(words);
        let said = (out.code, out.stderr.as_str(), out.stdout.as_str());
        assert_eq!(said, (Some(0), "", ""), "{words:?}");
    }
    assert!(theirs.join("lock").exists());
    std::fs::remove_dir_all(&theirs).unwrap();
}

/// Kills `hull` with its command at every moment of it, again and again: the process it has
/// cloned dies with it, the next `list` clears the rest away, and the id is free again.
fn killed_at_any_moment(name: &str, command: &[&str]) {
    const ROUNDS: u32 = 300;
    const LIMIT: Duration = Duration::from_secs(40);
    let bundle = Bundle::new(name, |_| {});
    let words = [command, &["-b", bundle.path(), &bundle.id]].concat();
    let begin = Instant::now();
    finish(bundle.command(&words)).ok();
    let whole = begin.elapsed();
    bundle.on(&["delete", "-f"], &[]).ok();
    let (mut completed, mut swept) = (0, 0);
    for round in 0..ROUNDS {
        if begin.elapsed() > LIMIT {
            break;
        }
        let mut child = bundle
            .command(&words)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Evenly over the time that it takes, and a little more.
        std::thread::sleep(whole * (round * 37 % ROUNDS) / ROUNDS * 5 / 4);
        child.kill().unwrap();
        child.wait().unwrap();
        swept += u32::from(!state(&bundle).is_empty());
        let listed = bundle.hull(&["list", "-q"]);
        assert_eq!(listed.stderr, "", "round {round}");
        if listed.ok().is_empty() {
            // The process dies by the kernel's hand, which may take a moment.
            wait_until("the end of the process", || {
                processes(&bundle.id).is_empty().then_some(())
            });
        } else {
            completed += 1;
            bundle.on(&["delete", "-f"], &[]).ok();
        }
        assert_nothing_left(&bundle);
    }
    println!("{completed} were complete, {swept} left something to sweep");
    assert!(swept > completed, "no round was in the middle");
}

#[test]
fn a_killed_create_leaves_nothing() {
    killed_at_any_moment("kill-create", &["create"]);
}

#[test]
fn a_killed_run_leaves_nothing() {
    killed_at_any_moment("kill-run", &["run", "-d"]);
}

#[test]
fn the_next_create_takes_the_id_of_a_killed_one() {
    let bundle = Bundle::new("kill-again", |c| {
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "7"]}]});
    });
    let words = ["create", "-b", bundle.path(), &bundle.id];
    let mut child = bundle.command(&words).spawn().unwrap();
    wait_until("the record", || state(&bundle).first().cloned());
    let second = bundle.hull(&words);
    assert!(
        second.stderr.contains("already exists"),
        "{}",
        second.stderr
    );
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(bundle.file("config.json")).unwrap();
    let config = spec::default_spec(false);
    let mut config = serde_json::to_value(config).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["rlimits"] = json!([]);
    std::fs::write(bundle.file("config.json"), config.to_string()).unwrap();
    bundle.hull(&words).ok();
    let status = bundle.on(&["state"], &[]).ok();
    assert!(status.contains("\"status\": \"created\""), "{status}");
}

#[test]
fn a_failed_create_leaves_nothing() {
    let changes: [(&str, serde_json::Value); 6] = [
        ("/process/args", json!(["no-such-program"])),
        ("/process/cwd", json!("/bin/sh")),
        (
            "/mounts",
            json!([{"destination": "/x", "source": "/no/such", "options": ["bind"]}]),
        ),
        ("/hooks", json!({"createRuntime": [{"path": "/bin/false"}]})),
        (
            "/hooks",
            json!({"createContainer": [{"path": "/bin/false"}]}),
        ),
        ("/linux/resources", json!({"memory": {"limit": 4096}})),
    ];
    for (pointer, value) in changes {
        let bundle = Bundle::new("failed", |config| {
            if let Some(at) = config.pointer_mut(pointer) {
                *at = value.clone();
            } else {
                config[pointer.trim_start_matches('/')] = value.clone();
            }
        });
        let pid_file = bundle.file("pid");
        let pid_file = pid_file.to_str().unwrap();
        let words = [
            "create",
            "--pid-file",
            pid_file,
            "-b",
            bundle.path(),
            &bundle.id,
        ];
        let out = bundle.hull(&words);
        assert_eq!(out.code, Some(1), "{pointer} {value}");
        assert_eq!(out.stderr.lines().count(), 1, "{}", out.stderr);
        assert_nothing_left(&bundle);
        assert!(!Path::new(pid_file).exists());
    }
}

#[test]
fn only_the_standard_descriptors_get_in() {
    let bundle = Bundle::new("fds", |c| {
        c["process"]["args"] = json!([
            "sh",
            "-c",
            "cd /proc/self/fd && echo *; cd /proc/1/fd && echo *"
        ]);
    });
    // 3 and 9 are left open by whoever calls; the shell itself opens one for the expansion.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "exec 3</etc/hostname 9</; exec \"$0\" \"$@\"",
        HULL,
        "--root",
    ]);
    command.arg(bundle.file("state"));
    command
        .args(["run", "-b", bundle.path(), &bundle.id])
        .stdin(Stdio::null());
    let out = finish(command).ok();
    for line in out.lines() {
        let numbers: Vec<&str> = line.split(' ').collect();
        assert_eq!(numbers[..3], ["0", "1", "2"], "{out}");
        let foreign = numbers.iter().filter(|n| ["3", "9"].contains(n)).count();
        assert!(foreign <= 1 && numbers.len() <= 4, "{out}");
    }
    assert_nothing_left(&bundle);
}

#[test]
fn a_created_container_holds_nothing_of_the_host() {
    let bundle = Bundle::new("created-fds", |_| {});
    bundle
        .hull(&["create", "-b", bundle.path(), &bundle.id])
        .ok();
    let pid = bundle.pid();
    let mut sockets = 0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
    {
        let number: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
        if number > 2 {
            let target = std::fs::read_link(entry.path()).unwrap();
            assert!(
                target.to_str().unwrap().starts_with("socket:"),
                "{number}: {target:?}"
            );
            sockets += 1;
        }
    }
    assert_eq!(sockets, 1, "the one on which it waits for its start");
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert!(exe.to_str().unwrap().starts_with("/memfd:hull"), "{exe:?}");
    // What is there is sealed: it cannot be opened for writing, nor changed.
    assert!(
        std::fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/{pid}/exe"))
            .is_err()
    );
}

//! What containers write, and where it goes.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::time::Duration;

use supervise::protocol::{Attach, Create, LogOptions, Part, Stdin, What};

use crate::support::{Pod, text_of, wait_until};

#[test]
fn long_lines_are_in_parts_and_the_last_line_ends() {
    let mut pod = Pod::new("lines");
    let script = "head -c 40000 /dev/zero | tr '\\0' x; echo; printf 'no newline'";
    pod.run_to_end("c", script);
    let log = pod.log("c");
    let longest = log.lines().map(str::len).max().unwrap();
    assert!(longest <= 16 * 1024 + 40, "{longest}");
    let text = format!("{}\nno newline\n", "x".repeat(40_000));
    assert_eq!(text_of(&log, "stdout"), text);
    let tags: Vec<&str> = log.lines().map(|l| l.split(' ').nth(2).unwrap()).collect();
    assert_eq!(tags.last(), Some(&"F"));
    assert!(tags.contains(&"P"));
    assert!(log.ends_with('\n'));
}

#[test]
fn a_prompt_is_written_before_its_line_ends() {
    let mut pod = Pod::new("prompt");
    let create = pod.script("c", "printf 'a '; read x; echo $x");
    let create = Create {
        stdin: Stdin::Open,
        ..create
    };
    let (_, parts) = pod.run(create);
    wait_until("the prompt", || {
        pod.log("c").ends_with("stdout P a \n").then_some(())
    });
    let stdin = part(parts, Part::Stdin).unwrap();
    rustix::io::write(&stdin, b"b\n").unwrap();
    pod.exit("c");
    assert_eq!(pod.text("c", "stdout"), "a b\n");
}

#[test]
fn reopened_after_a_rename() {
    let mut pod = Pod::new("reopen");
    let create = pod.script("c", "echo one; read x; echo two");
    let create = Create {
        stdin: Stdin::Open,
        ..create
    };
    let id = create.id.clone();
    let (_, parts) = pod.run(create);
    wait_until("a line", || pod.log("c").contains("one").then_some(()));
    let old = pod.dir.join("old.log");
    std::fs::rename(pod.log_path("c"), &old).unwrap();
    pod.client.reopen_log(&id).unwrap();
    assert_eq!(pod.log("c"), "");
    rustix::io::write(part(parts, Part::Stdin).unwrap(), b"\n").unwrap();
    pod.exit("c");
    assert_eq!(pod.text("c", "stdout"), "two\n");
    assert_eq!(
        text_of(&std::fs::read_to_string(old).unwrap(), "stdout"),
        "one\n"
    );
}

#[test]
fn rotated_by_size_while_it_is_written() {
    let mut pod = Pod::new("rotate");
    let create = pod.script("c", "seq 1 20000");
    let log = LogOptions {
        path: pod.log_path("c"),
        max_bytes: Some(200_000),
        max_files: Some(100),
        ..LogOptions::default()
    };
    pod.run(Create {
        log: Some(log),
        ..create
    });
    pod.exit("c");
    let mut names: Vec<String> = std::fs::read_dir(&pod.dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("c.log."))
        .collect();
    names.sort();
    assert!(names.len() >= 4, "{names:?}");
    names.push("c.log".to_owned());
    let mut all = String::new();
    for name in &names {
        let part = std::fs::read_to_string(pod.dir.join(name)).unwrap();
        assert!(part.len() <= 200_000, "{name}: {}", part.len());
        all.push_str(&part);
    }
    let want: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(text_of(&all, "stdout"), want);
}

#[test]
fn old_files_are_swept() {
    let mut pod = Pod::new("sweep");
    let create = pod.script("c", "seq 1 20000");
    let log = LogOptions {
        path: pod.log_path("c"),
        max_bytes: Some(100_000),
        max_files: Some(2),
        ..LogOptions::default()
    };
    pod.run(Create {
        log: Some(log),
        ..create
    });
    pod.exit("c");
    let old = std::fs::read_dir(&pod.dir).unwrap().flatten();
    let old = old.filter(|e| e.file_name().to_string_lossy().starts_with("c.log."));
    assert_eq!(old.count(), 2);
    assert!(pod.text("c", "stdout").ends_with("19999\n20000\n"));
}

#[test]
fn what_comes_too_fast_is_dropped_and_counted() {
    let mut pod = Pod::new("rate");
    let create = pod.script("c", "seq 1 100000; sleep 3; echo last");
    let log = LogOptions {
        path: pod.log_path("c"),
        rate: Some(50_000),
        ..LogOptions::default()
    };
    pod.run(Create {
        log: Some(log),
        ..create
    });
    pod.exit("c");
    let log = pod.log("c");
    assert!(log.len() < 600_000, "{}", log.len());
    let lost = pod.status("c").lost;
    assert!(lost > 0);
    let announced: u64 = log
        .lines()
        .filter_map(|l| l.split_once("stderr F hull: "))
        .map(|(_, text)| text.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(announced, lost);
    assert!(text_of(&log, "stdout").ends_with("last\n"));
}

#[test]
fn a_writer_that_never_stops_does_not_grow_the_supervisor() {
    let mut pod = Pod::new("flood");
    let create = pod.script("c", "yes 0123456789");
    let log = LogOptions {
        path: pod.log_path("c"),
        max_bytes: Some(1_000_000),
        max_files: Some(1),
        ..LogOptions::default()
    };
    pod.run(Create {
        log: Some(log),
        ..create
    });
    wait_until("megabytes", || {
        let old = std::fs::read_dir(&pod.dir).unwrap().flatten();
        let mut names = old.map(|e| e.file_name().to_string_lossy().into_owned());
        names.find(|n| n.starts_with("c.log.")).map(drop)
    });
    let before = anonymous(pod.supervisor());
    let read = || {
        let io = std::fs::read_to_string(format!("/proc/{}/io", pod.supervisor())).unwrap();
        let line = io.lines().find(|l| l.starts_with("wchar")).unwrap();
        line.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    };
    let start = read();
    wait_until("100 MB more", || {
        (read() > start + 100_000_000).then_some(())
    });
    let after = anonymous(pod.supervisor());
    assert!(after < before + 256, "{before} KiB, then {after} KiB");
    pod.stop("c", 9, Duration::ZERO);
}

/// KiB of anonymous memory of a process.
fn anonymous(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One of the descriptors.
pub fn part(parts: supervise::Parts, wanted: Part) -> Option<OwnedFd> {
    let mut parts = parts.into_iter();
    parts.find(|(part, _)| *part == wanted).map(|(_, fd)| fd)
}

#[test]
fn followers_see_what_is_written_and_slow_ones_are_cut_off() {
    let mut pod = Pod::new("attach");
    let script = "read x; echo out $x; echo err >&2; read x; seq 1 400000; read x; echo end";
    let create = pod.script("c", script);
    let create = Create {
        stdin: Stdin::Open,
        ..create
    };
    let id = create.id.clone();
    pod.run(create);
    let wish = |stdin| Attach {
        id: id.clone(),
        stdin,
        stdout: true,
        stderr: true,
    };
    let parts = pod.client.attach(wish(true)).unwrap();
    let slow = pod.client.attach(wish(false)).unwrap();
    assert_eq!((parts.len(), slow.len()), (3, 2));
    assert_eq!(pod.status("c").attached, 2);
    let mut stdin = None;
    let (mut out, mut err) = (None, None);
    for (part, fd) in parts {
        match part {
            Part::Stdin => stdin = Some(fd),
            Part::Stdout => out = Some(std::fs::File::from(fd)),
            _ => err = Some(std::fs::File::from(fd)),
        }
    }
    let stdin = stdin.unwrap();
    rustix::io::write(&stdin, b"hello\n").unwrap();
    let mut text = [0; 10];
    let out = out.as_mut().unwrap();
    out.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"out hello\n");
    let mut text = [0; 4];
    err.as_mut().unwrap().read_exact(&mut text).unwrap();
    assert_eq!(&text, b"err\n");
    rustix::io::write(&stdin, b"\n").unwrap();
    let mut reader = out.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    wait_until("the slow one is cut off", || {
        (pod.status("c").attached < 2).then_some(())
    });
    rustix::io::write(&stdin, b"\n").unwrap();
    pod.exit("c");
    // Whoever reads has everything, or has been cut off as well on a machine this busy.
    let text = thread.join().unwrap();
    assert!(text.starts_with("1\n2\n"));
    assert!(pod.text("c", "stdout").ends_with("400000\nend\n"));
}

#[test]
fn input_ends_with_its_one_client() {
    let mut pod = Pod::new("once");
    let create = pod.script("c", "cat; echo done");
    let create = Create {
        stdin: Stdin::Once,
        ..create
    };
    let id = create.id.clone();
    pod.run(create);
    let wish = Attach {
        id,
        stdin: true,
        stdout: false,
        stderr: false,
    };
    let stdin = part(pod.client.attach(wish.clone()).unwrap(), Part::Stdin).unwrap();
    assert!(part(pod.client.attach(wish).unwrap(), Part::Stdin).is_none());
    rustix::io::write(&stdin, b"text\n").unwrap();
    drop(stdin);
    assert_eq!(pod.exit("c").ended.code, Some(0));
    assert_eq!(pod.text("c", "stdout"), "text\ndone\n");
}

#[test]
fn a_terminal_has_the_size_that_was_set() {
    let mut pod = Pod::new("tty");
    let create = pod.bundle("c", |c| {
        c["process"]["terminal"] = true.into();
        c["process"]["args"] = serde_json::json!(["sh", "-c", "read x; stty size; read x"]);
    });
    let create = Create {
        stdio: supervise::protocol::Stdio::Terminal,
        ..create
    };
    let id = create.id.clone();
    let (_, parts) = pod.run(create);
    let master = part(parts, Part::Terminal).unwrap();
    pod.client.resize(&id, 33, 101).unwrap();
    rustix::io::write(&master, b"\n").unwrap();
    wait_until("the size", || pod.log("c").contains("33 101").then_some(()));
    rustix::io::write(&master, b"\n").unwrap();
    assert_eq!(pod.exit("c").ended.code, Some(0));
    let e = pod.client.resize("none", 1, 1).unwrap_err();
    assert_eq!(e.kind(), supervise::protocol::Kind::NotFound);
}

#[test]
fn a_grandchild_with_the_pipe_holds_nothing_back() {
    let mut pod = Pod::new("grandchild");
    let create = pod.bundle("c", |c| {
        c["process"]["args"] =
            serde_json::json!(["sh", "-c", "(sleep 1000 &); echo first; exit 5"]);
        let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
        kinds.retain(|n| n["type"] != "pid");
    });
    pod.run(create);
    let exit = pod.exit("c");
    assert_eq!(exit.ended.code, Some(5));
    assert_eq!(pod.text("c", "stdout"), "first\n");
}

#[test]
fn a_full_disk_stops_no_program() {
    let mut pod = Pod::new("full");
    let create = pod.script("c", "seq 1 10000; exit 3");
    let log = LogOptions {
        path: "/dev/full".into(),
        ..LogOptions::default()
    };
    let id = create.id.clone();
    pod.run(Create {
        log: Some(log),
        ..create
    });
    let mut told = false;
    loop {
        match pod.event().what {
            What::LogTrouble(text) => {
                assert!(text.contains("write"), "{text}");
                told = true;
            }
            What::Exited(exit) => {
                assert_eq!(exit.ended.code, Some(3));
                break;
            }
            _ => {}
        }
    }
    assert!(told);
    assert!(pod.status("c").lost >= 48_000);
    pod.client.delete(&id, false).unwrap();
}

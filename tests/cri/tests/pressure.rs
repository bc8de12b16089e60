//! What a container or the machine runs out of holds up nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cri_api::v1;
use cri_suite::{Daemon, Options, container, creation, pod, sleeper, until};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Signal, kill_process};

/// A small file system, and what fills it.
struct Small(PathBuf);

impl Small {
    fn new(point: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&point).unwrap();
        let options = std::ffi::CString::new(format!("size={size}")).unwrap();
        mount(
            "small",
            &point,
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .unwrap();
        Self(point)
    }

    /// Leaves nothing.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        let full = std::io::copy(&mut std::io::repeat(b'x'), &mut file).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn relieve(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_logs_stops_no_program() {
    let daemon = Daemon::start(Options::default()).await;
    let small = Small::new(daemon.dir.join("logs"), "256k");
    let id = daemon.run_pod(pod("full")).await;
    let script =
        "i=0; while [ ! -e /tmp/enough ]; do i=$((i+1)); echo line $i; sleep 0.01; done; echo last";
    let c = daemon
        .run(&id, container("c", &["/bin/sh", "-c", script]))
        .await;
    small.fill();
    let complaint = || {
        fs::read_to_string(daemon.log())
            .unwrap()
            .contains("no space left on device")
    };
    until(
        "the daemon says that the log cannot be written",
        async || complaint(),
    )
    .await;
    assert_eq!(
        daemon.status(&c).await.state(),
        v1::ContainerState::ContainerRunning
    );
    small.relieve();
    until("the log tells of its gap", async || {
        daemon
            .container_log("c")
            .contains("bytes of output were dropped here")
    })
    .await;
    assert_eq!(daemon.exec(&c, &["touch", "/tmp/enough"]).await.0, 0);
    assert_eq!(daemon.ended(&c).await.exit_code, 0);
    assert!(daemon.container_log("c").ends_with(" stdout F last\n"));
    drop(small);
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

/// Moves the daemon's state to a small file system.
async fn with_small_state(daemon: &mut Daemon) -> Small {
    daemon.kill();
    let state = daemon.dir.join("state");
    let aside = daemon.dir.join("state-before");
    fs::rename(&state, &aside).unwrap();
    let small = Small::new(state.clone(), "64m");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(aside.join("."))
        .arg(&state)
        .status();
    assert!(copied.unwrap().success());
    daemon.launch().await;
    small
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_state_is_said_and_overcome() {
    let mut daemon = Daemon::start(Options::default()).await;
    let small = with_small_state(&mut daemon).await;
    let id = daemon.run_pod(pod("before")).await;
    let c = daemon.run(&id, sleeper("c")).await;
    small.fill();
    let mut runtime = daemon.runtime();
    // What cannot be written down is refused; how many still can be depends on the file system.
    let mut more = 0;
    let refusal = loop {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: id.clone(),
            config: Some(sleeper(&format!("more{more}"))),
            sandbox_config: Some(pod("before")),
        };
        match runtime.create_container(request).await {
            Ok(_) => more += 1,
            Err(e) => break e,
        }
        assert!(more < 200, "no disk is needed");
    };
    assert!(
        refusal
            .message()
            .to_lowercase()
            .contains("no space left on device"),
        "{refusal}"
    );
    // What runs can be seen, probed and removed.
    assert_eq!(
        daemon.status(&c).await.state(),
        v1::ContainerState::ContainerRunning
    );
    assert_eq!(daemon.exec(&c, &["true"]).await.0, 0);
    daemon.remove_pod(&id).await;
    small.relieve();
    let id = daemon.run_pod(pod("after")).await;
    daemon.run(&id, sleeper("c")).await;
    daemon.remove_pod(&id).await;
    daemon.kill();
    drop(small);
    let own = daemon.leftovers();
    assert_eq!(own, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_bomb_hits_its_limit_and_can_be_removed() {
    let daemon = Daemon::start(Options {
        config: "pids-limit = 64".to_owned(),
        ..Options::default()
    })
    .await;
    let id = daemon.run_pod(pod("bomb")).await;
    let bomb = "b() { b | b & }; b; while true; do sleep 1; done";
    let c = daemon
        .run(&id, container("bomb", &["/bin/sh", "-c", bomb]))
        .await;
    let group = Path::new("/sys/fs/cgroup/pids").join(&daemon.token);
    let group = if group.exists() {
        group
    } else {
        Path::new("/sys/fs/cgroup").join(&daemon.token)
    };
    until("it meets its limit", async || met_limit(&group)).await;
    let other = daemon.run(&id, sleeper("other")).await;
    assert_eq!(daemon.exec(&other, &["true"]).await.0, 0);
    daemon.stop(&c, 0).await;
    assert_eq!(daemon.status(&c).await.exit_code, 137);
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

/// Whether a control group below has refused a fork.
fn met_limit(group: &Path) -> bool {
    let events = fs::read_to_string(group.join("pids.events")).unwrap_or_default();
    let refused = events
        .lines()
        .any(|l| l.strip_prefix("max ").is_some_and(|n| n != "0"));
    let inner = fs::read_dir(group).into_iter().flatten().flatten();
    refused
        || inner
            .filter(|e| e.path().is_dir())
            .any(|e| met_limit(&e.path()))
}

/// What a log says, the parts of a line put together.
fn lines(log: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for record in log.lines() {
        let [_, _, tag, text] = record.splitn(4, ' ').collect::<Vec<_>>()[..] else {
            panic!("{record:?}");
        };
        all.last_mut().unwrap().push_str(text);
        if tag == "F" {
            all.push(String::new());
        }
    }
    assert_eq!(
        all.pop().as_deref(),
        Some(""),
        "a log ends with the end of a line"
    );
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_log_lines_is_rotated_and_holds_up_nothing() {
    let daemon = Daemon::start(Options {
        config: "log-max-bytes = 4194304\nlog-max-files = 2".to_owned(),
        ..Options::default()
    })
    .await;
    let id = daemon.run_pod(pod("flood")).await;
    let quiet = daemon.run(&id, sleeper("quiet")).await;
    let rounds = std::env::var("HULL_SOAK")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_u32);
    let script = format!(
        "yes 0123456789abcdef | head -c {}; echo; echo end",
        64_000_000 * rounds
    );
    let flood = daemon
        .run(&id, container("flood", &["/bin/sh", "-c", &script]))
        .await;
    let mut probes = 0;
    while daemon.status(&flood).await.state() == v1::ContainerState::ContainerRunning {
        assert_eq!(daemon.exec(&quiet, &["true"]).await.0, 0);
        probes += 1;
    }
    assert!(
        probes > 0,
        "the flood was over before it could be looked at"
    );
    assert_eq!(daemon.ended(&flood).await.exit_code, 0);
    assert!(daemon.container_log("flood").ends_with(" stdout F end\n"));
    let mut names = Vec::new();
    for entry in fs::read_dir(daemon.dir.join("logs")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("flood.log") {
            let size = entry.metadata().unwrap().len();
            assert!(size <= 4_194_304, "{name}: {size}");
            names.push(name);
        }
    }
    assert_eq!(names.len(), 3, "the log and two before it: {names:?}");
    for name in names {
        let text = fs::read_to_string(daemon.dir.join("logs").join(&name)).unwrap();
        let odd: Vec<String> = lines(&text)
            .into_iter()
            .filter(|l| l != "0123456789abcdef" && l != "end")
            .collect();
        // `head` ends in the middle of a line.
        assert!(odd.len() <= 1, "{name}: {odd:?}");
    }
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

/// The most that a process has had in memory.
fn peak_kb(pid: i32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// How many lines a log has, which must be those of `block` again and again.
fn repeats(log: &Path, block: &[String]) -> usize {
    let mut count = 0;
    for record in BufReader::new(fs::File::open(log).unwrap()).lines() {
        let record = record.unwrap();
        let Some((_, text)) = record.split_once(" stdout F ") else {
            panic!("line {count}: {record:?}");
        };
        assert_eq!(text, block[count % block.len()], "line {count}");
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_as_fast_as_it_can_loses_nothing_and_holds_up_nothing() {
    let daemon = Daemon::start(Options::default()).await;
    let rounds = std::env::var("HULL_SOAK").map_or(1, |n| n.parse::<usize>().unwrap());
    let megabytes = 192 * rounds.min(10);
    let block: Vec<String> = (0..8192).map(|n| format!("{n:0127}")).collect();
    fs::write(daemon.dir.join("block"), block.join("\n") + "\n").unwrap();
    let id = daemon.run_pod(pod("writer")).await;
    let quiet = daemon.run(&id, sleeper("quiet")).await;
    let script = format!("for i in $(seq {megabytes}); do cat /block; done");
    let mut config = container("writer", &["/bin/sh", "-c", &script]);
    config.mounts.push(v1::Mount {
        container_path: "/block".to_owned(),
        host_path: daemon.dir.join("block").to_string_lossy().into_owned(),
        readonly: true,
        ..v1::Mount::default()
    });
    let supervisor = daemon.supervisors()[0].as_raw_nonzero().get();
    let peaks = || [daemon.pid(), supervisor].map(peak_kb);
    let before = peaks();
    let begun = Instant::now();
    let writer = daemon.run(&id, config).await;
    let (mut probes, mut slowest) = (0, Duration::ZERO);
    while daemon.status(&writer).await.state() == v1::ContainerState::ContainerRunning {
        let asked = Instant::now();
        assert_eq!(daemon.exec(&quiet, &["true"]).await.0, 0);
        slowest = slowest.max(asked.elapsed());
        probes += 1;
    }
    let (took, after) = (begun.elapsed(), peaks());
    println!(
        "{megabytes} MiB in {took:?}, {probes} commands meanwhile, the slowest in {slowest:?}; \
         peaks of hulld and supervisor in kB: {before:?}, then {after:?}"
    );
    assert!(probes > 0, "it was over before it could be looked at");
    assert_eq!(daemon.ended(&writer).await.exit_code, 0);
    let lines = repeats(&daemon.dir.join("logs/writer.log"), &block);
    assert_eq!(lines, megabytes * block.len());
    // What was written has gone through them; a part of it that stayed would be more than this.
    assert!(after[0] <= before[0] + 16 * 1024, "{before:?}, {after:?}");
    assert!(after[1] <= before[1] + 4 * 1024, "{before:?}, {after:?}");
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_timed_out_is_joined_and_succeeds() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("slow")).await;
    let supervisor = daemon.supervisors()[0];
    kill_process(supervisor, Signal::STOP).unwrap();
    let request = || creation(&id, sleeper("c"));
    let patience = Duration::from_secs(1);
    daemon.creation_times_out(request(), patience).await;
    let (mut first, mut second) = (daemon.runtime(), daemon.runtime());
    let retries = [request(), request()];
    let [one, two] = retries;
    let one = tokio::spawn(async move { first.create_container(one).await });
    let two = tokio::spawn(async move { second.create_container(two).await });
    kill_process(supervisor, Signal::CONT).unwrap();
    let one = one.await.unwrap().unwrap().into_inner().container_id;
    assert_eq!(two.await.unwrap().unwrap().into_inner().container_id, one);
    let list = daemon
        .runtime()
        .list_containers(v1::ListContainersRequest::default())
        .await;
    assert_eq!(list.unwrap().into_inner().containers.len(), 1);
    let start = v1::StartContainerRequest {
        container_id: one.clone(),
    };
    daemon.runtime().start_container(start).await.unwrap();
    assert_eq!(daemon.exec(&one, &["true"]).await.0, 0);
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

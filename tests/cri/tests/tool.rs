//! hullctl, asking the daemon: what runs on, what is measured, what is asked for beside the CRI.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use cri_api::v1;
use cri_suite::{Daemon, IMAGE, Options, Registry, container, pod, sleeper};

/// A child that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_is_shown_as_it_happens() {
    let daemon = Daemon::start(Options::default()).await;
    let form = "{{.containerEventType}} {{.containerId}}";
    let mut events = daemon.hullctl(&["events", "-o", "go-template", "--template", form]);
    let mut events = Running(events.stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(events.0.stdout.take().unwrap()).lines();
    let (sender, shown) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).all(|l| sender.send(l).is_ok()));
    // Nothing says when it listens: pods come and go until it tells of one.
    let mut first = None;
    while first.is_none() {
        let probe = daemon.run_pod(pod("probe")).await;
        daemon.remove_pod(&probe).await;
        first = shown.try_recv().ok();
    }
    let id = daemon.run_pod(pod("events")).await;
    let c = daemon.run(&id, container("c", &["/bin/true"])).await;
    daemon.ended(&c).await;
    daemon.remove_pod(&id).await;
    let ours = shown.iter().filter(|line| line.ends_with(&c));
    let kinds: Vec<String> = ours
        .take(4)
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    let expected = ["CREATED", "STARTED", "STOPPED", "DELETED"];
    assert_eq!(kinds, expected.map(|k| format!("CONTAINER_{k}_EVENT")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attached_with_both_transports() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("attach")).await;
    for transport in ["spdy", "websocket"] {
        let command = ["/bin/sh", "-c", "read word; echo got $word; exit 4"];
        let mut config = container(transport, &command);
        config.stdin = true;
        config.stdin_once = true;
        let c = daemon.run(&id, config).await;
        let mut attach = daemon.hullctl(&["attach", "-i", "-r", transport, &c]);
        attach.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut attach = Running(attach.spawn().unwrap());
        let mut stdin = attach.0.stdin.take().unwrap();
        stdin.write_all(b"it\n").unwrap();
        let mut out = String::new();
        let mut stdout = attach.0.stdout.take().unwrap();
        stdout.read_to_string(&mut out).unwrap();
        assert_eq!(out, "got it\n", "{transport}");
        assert_eq!(daemon.ended(&c).await.exit_code, 4);
    }
    daemon.remove_pod(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_measured() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("measured")).await;
    let c = daemon.run(&id, sleeper("c")).await;
    let row = |text: &str, id: &str| -> Vec<String> {
        let line = text.lines().find(|l| l.contains(&id[..13]));
        let line = line.unwrap_or_else(|| panic!("{id} is not in {text}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    let stats = daemon.shown(&["stats", "-s", "0"]);
    let head: Vec<&str> = stats.lines().next().unwrap().split_whitespace().collect();
    let wanted = [
        "CONTAINER",
        "NAME",
        "CPU",
        "%",
        "MEM",
        "DISK",
        "INODES",
        "SWAP",
    ];
    assert_eq!(head, wanted);
    assert_eq!(row(&stats, &c)[1], "c");
    let pods = daemon.shown(&["statsp", "-s", "0"]);
    assert_eq!(row(&pods, &id)[0], "measured");
    let json: serde_json::Value = serde_json::from_str(&daemon.shown(&["metricsp"])).unwrap();
    assert_eq!(json["podMetrics"][0]["podSandboxId"], id);
    let of_container = json["podMetrics"][0]["containerMetrics"][0].to_string();
    assert!(of_container.contains("container_memory_working_set_bytes"));
    let json: serde_json::Value = serde_json::from_str(&daemon.shown(&["metricdescs"])).unwrap();
    assert!(json["descriptors"].as_array().unwrap().len() > 30);
    daemon.remove_pod(&id).await;
}

/// criu does not work on every kernel. A checkpoint is an archive, or a line that names criu;
/// the container runs on in either case, and nothing else is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_leaves_the_container_running() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("checkpoint")).await;
    let c = daemon.run(&id, sleeper("c")).await;
    let archive = daemon.dir.join("checkpoint.tar");
    daemon.exec(&c, &["touch", "/written"]).await;
    let file = archive.display().to_string();
    let made = daemon
        .hullctl(&["checkpoint", "-e", &file, &c])
        .output()
        .unwrap();
    let check = std::process::Command::new("criu").arg("check").output();
    let works = check.is_ok_and(|out| out.status.success());
    assert_eq!(made.status.success(), works, "{made:?}");
    if works {
        let mode = std::fs::metadata(&archive).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let unpacked = daemon.dir.join("unpacked");
        std::fs::create_dir(&unpacked).unwrap();
        let into = unpacked.display().to_string();
        let (code, _) = daemon.in_network(&["tar", "-xf", &file, "-C", &into]);
        assert_eq!(code, 0);
        for part in ["dump.log", "stats-dump", "checkpoint/inventory.img"] {
            assert!(unpacked.join(part).exists(), "{part}");
        }
        let read = |name: &str| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(unpacked.join(name)).unwrap()).unwrap()
        };
        assert!(read("spec.dump")["process"]["args"].is_array());
        let config = read("config.dump");
        assert_eq!(
            (&config["id"], &config["name"]),
            (&c.as_str().into(), &"c".into())
        );
        let diff = unpacked.join("rootfs-diff.tar").display().to_string();
        let (_, list) = daemon.in_network(&["tar", "-tf", &diff]);
        assert!(list.contains("\nwritten\n"), "{list}");
    } else {
        let complaint = String::from_utf8_lossy(&made.stderr);
        assert!(complaint.contains("criu"), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert!(!archive.exists());
    }
    assert_eq!(
        daemon.status(&c).await.state(),
        v1::ContainerState::ContainerRunning
    );
    assert_eq!(daemon.exec(&c, &["echo", "on"]).await.1, "on\n");
    let left = std::fs::read_dir(daemon.dir.join("state/checkpoints"));
    assert_eq!(left.unwrap().count(), 0);
    let busy = daemon.dir.join("state/checkpoints").join(&c);
    std::fs::create_dir(&busy).unwrap();
    let second = daemon.hullctl(&["checkpoint", "-e", &file, &c]).output();
    let complaint = String::from_utf8(second.unwrap().stderr).unwrap();
    assert!(complaint.contains("one at a time"), "{complaint}");
    std::fs::remove_dir(busy).unwrap();
    let no_place = daemon
        .hullctl(&["checkpoint", "-e", "/no/such/dir/x.tar", &c])
        .output();
    assert!(!no_place.unwrap().status.success());
    daemon.remove_pod(&id).await;
}

/// Lets so many bytes of answers through, and the rest when it is told to.
struct Gate {
    left: Mutex<usize>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.left.lock().unwrap() = usize::MAX;
        self.opened.notify_all();
    }

    fn pass(&self, bytes: usize) {
        let left = self.left.lock().unwrap();
        let mut left = self.opened.wait_while(left, |left| *left < bytes).unwrap();
        *left -= bytes;
    }
}

/// Serves the registry on another port of the daemon's network, through a gate.
fn proxy(daemon: &Daemon, gate: &Arc<Gate>) {
    let listener = daemon.inside(|| TcpListener::bind("127.0.0.1:5001").unwrap());
    let netns = std::fs::File::open(format!("/run/netns/{}", daemon.token)).unwrap();
    let gate = Arc::clone(gate);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let connect = || Ok(TcpStream::connect("127.0.0.1:5000"));
            let server = net::netns::inside(std::os::fd::AsFd::as_fd(&netns), connect);
            let server = server.unwrap().unwrap();
            let (to, from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || pass_on(from, to, None));
            let gate = Arc::clone(&gate);
            std::thread::spawn(move || pass_on(server, client, Some(&gate)));
        }
    });
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, gate: Option<&Gate>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if let Some(gate) = gate {
            gate.pass(count);
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown(Shutdown::Write);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_tells_how_far_it_is() {
    let daemon = Daemon::start(Options::default()).await;
    let _registry = Registry::start(&daemon, &["slow"]).await;
    // The store has its layer already, under another name.
    let _ = daemon.shown(&["rmi", IMAGE]);
    let gate = Arc::new(Gate {
        left: Mutex::new(600 << 10),
        opened: Condvar::new(),
    });
    proxy(&daemon, &gate);
    let mut pull = daemon.hullctl(&["pull", "--progress", "127.0.0.1:5001/slow:1"]);
    pull.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut pull = Running(pull.spawn().unwrap());
    let mut said = BufReader::new(pull.0.stderr.take().unwrap()).lines();
    // The first look may come before the first byte.
    let some = said.find(|line| line.as_ref().is_ok_and(|l| !l.contains(" 0B of ")));
    let line = some.unwrap().unwrap();
    assert!(
        line.starts_with("layers: ") && line.contains(" of "),
        "{line}"
    );
    gate.open();
    let mut out = String::new();
    pull.0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    assert!(out.starts_with("Image is up to date for "), "{out}");
    assert!(pull.0.wait().unwrap().success());
}

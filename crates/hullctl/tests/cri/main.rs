//! hullctl's CRI commands against Debian's containerd: a server that we did not write.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod containerd;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use containerd::Containerd;
use serde_json::Value;

const POD: &str = r#"{
  "metadata": {"name": "pod", "namespace": "ns", "uid": "u1"},
  "log_directory": "DIR/logs", "hostname": "h",
  "labels": {"app": "web", "io.kubernetes.pod.name": "pod", "io.kubernetes.pod.namespace": "ns"},
  "linux": {"cgroup_parent": "CGROUP"}
}"#;

/// The other spelling, in YAML.
const CONTAINER: &str = "
metadata: {name: main, attempt: 0}
image: {image: local/test:1}
command: [sh, -c]
args: ['echo out; echo err >&2; while :; do sleep 0.1; done']
logPath: main.log
stdin: true
labels: {io.kubernetes.pod.name: pod, io.kubernetes.pod.namespace: ns, tier: front}
linux: {resources: {cpuShares: 100}}
";

#[test]
fn a_session_with_containerd() {
    let runtime = Containerd::start();
    about_the_runtime(&runtime);
    about_images(&runtime);
    let pod = runtime.file("pod.json", POD);
    let container = runtime.file("c.yaml", CONTAINER);
    let pod_id = runtime.ok(&format!("runp {}", pod.display()));
    let created = format!(
        "create --no-pull {pod_id} {} {}",
        container.display(),
        pod.display()
    );
    let id = runtime.ok(&created);
    lists(&runtime, &pod_id, &id);
    assert_eq!(runtime.ok(&format!("start {id}")), id);
    logs(&runtime, &id);
    inspections(&runtime, &pod_id, &id);
    execs(&runtime, &id);
    copies(&runtime, &id);
    forwards(&runtime, &pod_id, &id);
    statistics(&runtime, &pod_id, &id);
    ends(&runtime, &pod_id, &id);
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect(text)
}

fn about_the_runtime(runtime: &Containerd) {
    assert!(runtime.ok("version").contains("RuntimeName:  containerd"));
    let info = json(&runtime.ok("info"));
    assert_eq!(info["status"]["conditions"][0]["type"], "RuntimeReady");
    assert!(info["config"].is_object(), "what the runtime adds is JSON");
}

fn about_images(runtime: &Containerd) {
    let table = runtime.ok("images --digests --pinned");
    let head: Vec<&str> = table
        .lines()
        .next()
        .expect("a head")
        .split_whitespace()
        .collect();
    assert_eq!(
        head,
        ["IMAGE", "TAG", "DIGEST", "IMAGE", "ID", "SIZE", "PINNED"]
    );
    assert!(
        table
            .lines()
            .any(|l| l.starts_with("docker.io/local/test ")),
        "{table}"
    );
    assert_eq!(
        runtime
            .ok("images -q --filter reference=local/test")
            .lines()
            .count(),
        1
    );
    let image = json(&runtime.ok("inspecti local/test:1"));
    assert_eq!(image["status"]["repoTags"][0], "docker.io/local/test:1");
    assert!(
        runtime
            .fails("inspecti local/none:1")
            .contains("it is not there")
    );
    let fs = json(&runtime.ok("imagefsinfo"));
    assert!(fs["status"]["imageFilesystems"][0]["usedBytes"]["value"].is_string());
}

fn lists(runtime: &Containerd, pod: &str, id: &str) {
    let pods = runtime.ok("pods");
    let row: Vec<&str> = pods
        .lines()
        .nth(1)
        .expect("a row")
        .split_whitespace()
        .collect();
    assert_eq!(
        (row[0], &row[row.len() - 5..]),
        (&pod[..13], &["Ready", "pod", "ns", "0", "(default)"][..])
    );
    assert_eq!(
        runtime.ok("pods -q --name ^po --label app=web -s ready"),
        pod
    );
    assert_eq!(runtime.ok("pods -q --label app=other"), "");
    assert_eq!(runtime.ok("ps -q"), "", "it does not run yet");
    assert_eq!(runtime.ok("ps -aq --name main --label tier=front"), id);
    assert_eq!(runtime.ok("ps -q -s created --image local/test:1"), id);
    let table = runtime.ok("ps -a");
    assert!(table.starts_with("CONTAINER "), "{table}");
    assert!(
        table.contains("Created") && table.contains(&id[..13]) && table.ends_with("ns"),
        "{table}"
    );
    let list = json(&runtime.ok("ps -a -o json"));
    assert_eq!(list["containers"][0]["state"], "CONTAINER_CREATED");
    assert!(
        runtime
            .ok("ps -a -o yaml")
            .contains("state: CONTAINER_CREATED")
    );
}

fn logs(runtime: &Containerd, id: &str) {
    runtime.wait_until("both lines are logged", |r| {
        r.ok(&format!("logs -s stdout {id}")) == "out"
    });
    let output = runtime.hullctl(&format!("logs {id}"));
    assert_eq!(
        (&output.stdout[..], &output.stderr[..]),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(runtime.ok(&format!("logs --tail 0 {id}")), "");
    assert!(
        runtime
            .ok(&format!("logs -t -s stdout {id}"))
            .ends_with(" out")
    );
    assert_eq!(
        runtime.ok(&format!("logs --limit-bytes 2 -s stdout {id}")),
        "ou"
    );
    assert_eq!(
        runtime.ok(&format!("logs --since 2099-01-01T00:00:00Z {id}")),
        ""
    );
}

fn inspections(runtime: &Containerd, pod: &str, id: &str) {
    let state = runtime.ok(&format!(
        "inspect -o go-template --template {{{{.status.state}}}} {id}"
    ));
    assert_eq!(state, "CONTAINER_RUNNING");
    let inspected = json(&runtime.ok(&format!("inspect {id}")));
    assert_eq!(inspected["status"]["metadata"]["name"], "main");
    assert!(inspected["info"]["pid"].is_number());
    let ip = runtime.ok(&format!(
        "inspectp -o go-template --template {{{{.status.network.ip}}}} {pod}"
    ));
    assert!(ip.starts_with("10.213.0."), "{ip}");
    assert!(
        runtime
            .ok(&format!("inspect -o table {id}"))
            .contains("State: Running")
    );
    assert_eq!(runtime.ok(&format!("update --cpu-share 200 {id}")), id);
}

/// Whether a command gave back two megabytes and its exit code came.
fn echoes(runtime: &Containerd, id: &str) -> bool {
    let mut child = runtime
        .command(&format!("exec -i {id} cat"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("hullctl");
    let mut stdin = child.stdin.take().expect("stdin");
    let input = vec![b'x'; 2_000_000];
    let sent = input.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let mut back = Vec::new();
    let mut stdout = child.stdout.take().expect("stdout");
    stdout.read_to_end(&mut back).expect("read");
    let written = writer.join().expect("no panic").is_ok();
    let succeeded = child.wait().expect("ended").success();
    written && succeeded && back.len() == input.len()
}

fn execs(runtime: &Containerd, id: &str) {
    assert_eq!(runtime.ok(&format!("exec -s {id} echo hello")), "hello");
    for transport in ["spdy", "websocket"] {
        let output = runtime.hullctl(&format!("exec -r {transport} {id} ls /no/such"));
        assert_eq!(output.status.code(), Some(1), "{transport}: {output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("/no/such"),
            "{output:?}"
        );
        assert_eq!(
            runtime.ok(&format!("exec -r {transport} {id} echo hello")),
            "hello"
        );
    }
    // Go's SPDY peer closes the connection at once when the command has ended: megabytes there and
    // back, and nothing of ours may come to it after that.
    for round in 0..5 {
        assert!(echoes(runtime, id), "round {round}");
    }
    let each = runtime.ok("exec --name ^main -x echo each");
    assert_eq!(each, "each");
    assert!(
        runtime
            .fails("exec --name ^none echo")
            .contains("no container is like that")
    );
}

fn copies(runtime: &Containerd, id: &str) {
    let site = runtime.path().join("site");
    std::fs::create_dir(&site).expect("made");
    std::fs::write(site.join("index"), "hello").expect("written");
    let site = site.display();
    runtime.ok(&format!("cp {site} {id}:/"));
    assert_eq!(
        runtime.ok(&format!("exec -s {id} cat /site/index")),
        "hello"
    );
    runtime.ok(&format!("cp {site}/index {id}:/site/new.name"));
    assert_eq!(
        runtime.ok(&format!("exec -s {id} ls /site")),
        "index\nnew.name"
    );
    let back = runtime.path().join("back");
    runtime.ok(&format!("cp {id}:/site {}", back.display()));
    assert_eq!(
        std::fs::read_to_string(back.join("new.name")).expect("there"),
        "hello"
    );
    let error = runtime.fails(&format!("cp {id}:/none {}", back.display()));
    assert!(
        error.contains("tar in the container: exit code 1"),
        "{error}"
    );
}

fn forwards(runtime: &Containerd, pod: &str, id: &str) {
    let mut serving = runtime
        .command(&format!("exec {id} nc -ll -p 99 -e cat"))
        .spawn()
        .expect("hullctl");
    let mut forwarding = runtime
        .command(&format!("port-forward {pod} :99"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("hullctl");
    let mut first = [0; 64];
    let n = forwarding
        .stdout
        .as_mut()
        .expect("stdout")
        .read(&mut first)
        .expect("a line");
    let line = String::from_utf8_lossy(&first[..n]).into_owned();
    let port = line
        .split(" ->")
        .next()
        .and_then(|l| l.rsplit(':').next())
        .expect("a port");
    let script = format!("printf hello | nc -w 5 127.0.0.1 {port}");
    runtime.wait_until("an echo comes back", |r| {
        let output = r
            .inside(&["busybox", "sh", "-c", &script])
            .output()
            .expect("nc");
        output.stdout == b"hello"
    });
    assert!(
        TcpStream::connect(("127.0.0.1", port.parse::<u16>().expect("a port"))).is_err(),
        "only in containerd's network"
    );
    for child in [&mut forwarding, &mut serving] {
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}

fn statistics(runtime: &Containerd, pod: &str, id: &str) {
    let stats = json(&runtime.ok(&format!("stats -o json {id}")));
    assert_eq!(stats["stats"][0]["attributes"]["id"], id);
    let table = runtime.ok("stats -o wide");
    let head = "CONTAINER NAME CPU % MEM DISK INODES SWAP RSS CPU WAIT % MEM WAIT % IO WAIT %";
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(table.lines().next().expect("a head")), head);
    assert!(table.contains(&id[..13]), "{table}");
    let pods = runtime.ok("statsp -o wide");
    assert!(
        pods.contains(&pod[..13]) && pods.contains("NET RX"),
        "{pods}"
    );
}

fn ends(runtime: &Containerd, pod: &str, id: &str) {
    assert!(
        runtime
            .fails(&format!("rm {id}"))
            .contains("it runs; stop it first")
    );
    let waiting = runtime
        .command(&format!("wait {id}"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("hullctl");
    assert_eq!(runtime.ok(&format!("stop -t 0 {id}")), id);
    let waited = waiting.wait_with_output().expect("ended");
    assert_eq!(
        (waited.status.code(), &waited.stdout[..]),
        (Some(137), &b"137\n"[..])
    );
    assert_eq!(runtime.ok("ps -q -s exited"), id);
    let log = runtime.path().join("logs/main.log");
    assert!(log.exists());
    assert_eq!(runtime.ok(&format!("rm {id}")), id);
    assert!(!log.exists(), "the log goes with the container");
    assert!(
        runtime
            .fails(&format!("rmp {pod}"))
            .contains("it is ready; stop it first")
    );
    let removed = runtime.ok("rmp -fa");
    assert_eq!(
        removed,
        format!("Stopped sandbox {pod}\nRemoved sandbox {pod}")
    );
    assert_eq!(runtime.ok("pods -q"), "");
    let container = runtime.file(
        "c2.json",
        r#"{"metadata":{"name":"b"},"image":{"image":"local/test:1"},
        "command":["sh","-c","exit 7"],"log_path":"b.log"}"#,
    );
    let pod = runtime.file("pod2.json", &POD.replace("u1", "u2"));
    let id = runtime.ok(&format!(
        "run --no-pull {} {}",
        container.display(),
        pod.display()
    ));
    assert_eq!(
        runtime.hullctl(&format!("wait {id}")).status.code(),
        Some(7)
    );
    runtime.ok("rmp -fa");
}

/// What is said when there is nobody to speak to.
#[test]
fn nobody_there() {
    let run = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_hullctl"))
            .args(args)
            .output()
            .expect("hullctl");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr)
            .trim_end()
            .to_owned()
    };
    let said = run(&["-r", "/no/such.sock", "--max-retries", "0", "pods"]);
    assert_eq!(
        said,
        "hullctl: list pods: nobody answers at /no/such.sock; is the runtime running?"
    );
    let said = run(&["-r", "tcp://x", "pods"]);
    assert_eq!(
        said,
        "hullctl: endpoint tcp://x: tcp is not supported; use unix://PATH"
    );
}

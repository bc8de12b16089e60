//! Other OCI runtimes under hulld: Debian's runc and crun.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use cri_api::v1;
use cri_suite::{Daemon, Options, container, pod, programs_dir, sleeper, until};
use serde_json::Value;

const HANDLERS: [&str; 2] = ["runc", "crun"];

/// crun 1.8 refuses hybrid hierarchies: it gets a mount namespace in which there is only v1.
const CRUN: &str = "#!/bin/sh\nexec unshare -m sh -c 'mount --make-rprivate / && \
                    { mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified; \
                    exec crun \"$@\"; }' crun \"$@\"\n";

/// A daemon with both of them; what they keep goes with it.
struct Stage {
    daemon: Daemon,
    crun: PathBuf,
    roots: [PathBuf; 2],
}

impl Stage {
    async fn new(name: &str) -> Self {
        let token = format!("{}{name}", std::process::id());
        let crun = std::env::temp_dir().join(format!("hcri-crun{token}"));
        fs::write(&crun, CRUN).unwrap();
        fs::set_permissions(&crun, fs::Permissions::from_mode(0o755)).unwrap();
        let roots = HANDLERS.map(|h| PathBuf::from(format!("/run/hcri-{h}{token}")));
        let config = format!(
            "[handlers.runc]\npath = \"/usr/sbin/runc\"\nroot = {:?}\n\
             [handlers.crun]\npath = {:?}\nroot = {:?}\n",
            roots[0], crun, roots[1]
        );
        let options = Options {
            config,
            ..Options::default()
        };
        let daemon = Daemon::start(options).await;
        Self {
            daemon,
            crun,
            roots,
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.crun);
        for root in &self.roots {
            let _ = fs::remove_dir_all(root);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_runtimes_run_pods_and_containers() {
    let stage = Stage::new("run").await;
    for handler in HANDLERS {
        with_handler(&stage.daemon, handler).await;
    }
    assert_eq!(stage.daemon.leftovers(), Vec::<String>::new());
}

async fn pod_of(daemon: &Daemon, handler: &str) -> String {
    let request = v1::RunPodSandboxRequest {
        config: Some(v1::PodSandboxConfig {
            log_directory: daemon.dir.join("logs").display().to_string(),
            ..pod(handler)
        }),
        runtime_handler: handler.to_owned(),
    };
    let made = daemon.runtime().run_pod_sandbox(request).await;
    made.unwrap().into_inner().pod_sandbox_id
}

async fn with_handler(daemon: &Daemon, handler: &str) {
    let id = pod_of(daemon, handler).await;
    let work = "echo out; echo err >&2; trap 'exit 3' TERM; sleep 3600 & wait";
    let c = daemon
        .run(&id, container(handler, &["/bin/sh", "-c", work]))
        .await;
    assert_eq!(
        daemon.exec(&c, &["hostname"]).await,
        (0, format!("{handler}\n"))
    );
    let (code, text) = daemon
        .exec(&c, &["ip", "-4", "-o", "addr", "show", "eth0"])
        .await;
    assert!(code == 0 && text.contains("10.99."), "{text}");
    until("its lines are in the log", async || {
        let log = daemon.container_log(handler);
        log.contains("stdout F out\n") && log.contains("stderr F err\n")
    })
    .await;
    let request = v1::StopContainerRequest {
        container_id: c.clone(),
        timeout: 30,
    };
    daemon.runtime().stop_container(request).await.unwrap();
    let status = daemon.ended(&c).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    daemon.remove_pod(&id).await;
}

/// `hullctl why`.
fn why(daemon: &Daemon, id: &str) -> Value {
    let out = Command::new(programs_dir().join("hullctl"))
        .args(["why", "--format", "json", "--root"])
        .arg(daemon.dir.join("runtime"))
        .arg(id)
        .output()
        .unwrap();
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"))
}

/// As a person sees it: the sort, and all that is said.
#[track_caller]
fn said(answer: &Value, kind: &str, parts: &[&str]) {
    assert_eq!(answer["kind"], kind, "{answer:#}");
    for part in parts {
        assert!(answer.to_string().contains(part), "{part}: {answer:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_containers_of_other_runtimes_ended() {
    let stage = Stage::new("why").await;
    for handler in HANDLERS {
        let pod = pod_of(&stage.daemon, handler).await;
        ended(&stage.daemon, handler, &pod).await;
        never_began(&stage.daemon, handler, &pod).await;
        stage.daemon.remove_pod(&pod).await;
        // Also when they are gone.
        let fails = why(&stage.daemon, &format!("{handler}/fails"));
        said(&fails, "exit", &["\"gone\"", "exit code 3"]);
        let hog = why(&stage.daemon, &format!("{handler}/hog"));
        said(&hog, "oom", &["\"gone\"", "16 MiB"]);
    }
    assert_eq!(stage.daemon.leftovers(), Vec::<String>::new());
}

async fn ended(daemon: &Daemon, handler: &str, pod: &str) {
    let fails = container("fails", &["/bin/sh", "-c", "exit 3"]);
    let fails = daemon.run(pod, fails).await;
    daemon.ended(&fails).await;
    said(
        &why(daemon, &fails),
        "exit",
        &["with exit code 3", "stopped"],
    );

    let faults = container("faults", &["/bin/sh", "-c", "kill -SEGV $$; sleep 9"]);
    let faults = daemon.run(pod, faults).await;
    let status = daemon.ended(&faults).await;
    // As first process of a pid namespace of its own it would not notice.
    let kind = if status.exit_code == 139 {
        "signal"
    } else {
        "done"
    };
    said(&why(daemon, &faults), kind, &["faults"]);

    let killed = daemon.run(pod, sleeper("killed")).await;
    said(
        &why(daemon, &killed),
        "running",
        &[&format!("{handler}/killed")],
    );
    let stop = v1::StopContainerRequest {
        container_id: killed.clone(),
        timeout: 0,
    };
    daemon.runtime().stop_container(stop).await.unwrap();
    let parts = ["killed by SIGKILL", "StopContainer through the API"];
    said(&why(daemon, &killed), "killed", &parts);

    let mut hog = container("hog", &["/bin/sh", "-c", "tail /dev/zero"]);
    hog.linux.as_mut().unwrap().resources = Some(v1::LinuxContainerResources {
        memory_limit_in_bytes: 16 << 20,
        memory_swap_limit_in_bytes: 16 << 20,
        ..Default::default()
    });
    let hog = daemon.run(pod, hog).await;
    daemon.ended(&hog).await;
    said(&why(daemon, &hog), "oom", &["lack of memory", "16 MiB"]);
}

/// The runtime's own message is in the answer.
async fn never_began(daemon: &Daemon, handler: &str, pod: &str) {
    let missing = container("missing", &["/no/such/program"]);
    let refused = match daemon.try_create(pod, missing).await {
        Err(e) => e,
        Ok(id) => {
            let start = v1::StartContainerRequest { container_id: id };
            daemon.runtime().start_container(start).await.unwrap_err()
        }
    };
    let parts = ["never ran", handler, "/no/such/program"];
    said(&why(daemon, &format!("{handler}/missing")), "exec", &parts);
    assert!(refused.message().contains("/no/such/program"), "{refused}");
}

//! Retries, crashes, and what must survive them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cri_api::v1;
use cri_suite::{Daemon, Options, container, pod, programs_dir, sleeper, until};
use rustix::process::{Signal, kill_process};

fn run_request(config: &v1::PodSandboxConfig) -> v1::RunPodSandboxRequest {
    v1::RunPodSandboxRequest {
        config: Some(config.clone()),
        ..Default::default()
    }
}

async fn unknown_ids_are_no_error(daemon: &Daemon) {
    let mut runtime = daemon.runtime();
    for id in ["nobody", "ffff"] {
        let pod_sandbox_id = id.to_owned();
        let stop = v1::StopPodSandboxRequest {
            pod_sandbox_id: pod_sandbox_id.clone(),
        };
        runtime.stop_pod_sandbox(stop).await.unwrap();
        let remove = v1::RemovePodSandboxRequest { pod_sandbox_id };
        runtime.remove_pod_sandbox(remove).await.unwrap();
        let container_id = id.to_owned();
        let stop = v1::StopContainerRequest {
            container_id: container_id.clone(),
            timeout: 1,
        };
        runtime.stop_container(stop).await.unwrap();
        runtime
            .remove_container(v1::RemoveContainerRequest { container_id })
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_idempotent_and_joined() {
    let daemon = Daemon::start(Options::default()).await;
    unknown_ids_are_no_error(&daemon).await;
    let mut runtime = daemon.runtime();
    let config = pod("twins");
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (mut runtime, request) = (daemon.runtime(), run_request(&config));
        tasks.push(tokio::spawn(async move {
            runtime
                .run_pod_sandbox(request)
                .await
                .unwrap()
                .into_inner()
                .pod_sandbox_id
        }));
    }
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "one pod for all");
    assert_eq!(
        runtime
            .run_pod_sandbox(run_request(&config))
            .await
            .unwrap()
            .into_inner()
            .pod_sandbox_id,
        ids[0]
    );
    let mut other = config.clone();
    other.hostname = "other".to_owned();
    let refused = runtime
        .run_pod_sandbox(run_request(&other))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::AlreadyExists);
    let c = daemon.create(&ids[0], sleeper("c")).await;
    assert_eq!(daemon.create(&ids[0], sleeper("c")).await, c);
    for _ in 0..2 {
        runtime
            .start_container(v1::StartContainerRequest {
                container_id: c.clone(),
            })
            .await
            .unwrap();
    }
    daemon.remove_pod(&ids[0]).await;
    daemon.remove_pod(&ids[0]).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_request_leaves_nothing_and_says_where_it_failed() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("fails")).await;
    let mut config = container("c", &["/bin/true"]);
    config.mounts.push(v1::Mount {
        container_path: "/x".to_owned(),
        host_path: "/etc".to_owned(),
        recursive_read_only: true,
        ..Default::default()
    });
    let error = daemon.try_create(&id, config).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    assert!(error.message().contains("stage configuration"), "{error}");
    let mut missing = container("m", &["/bin/true"]);
    missing.image.as_mut().unwrap().image = "hull.test/none:1".to_owned();
    let error = daemon.try_create(&id, missing).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::NotFound, "{error}");
    // The same name again, rightly asked for: the failed one is no obstacle.
    let c = daemon.run(&id, container("c", &["/bin/true"])).await;
    assert_eq!(daemon.ended(&c).await.exit_code, 0);
    let mut bad = pod("bad");
    bad.linux
        .as_mut()
        .unwrap()
        .sysctls
        .insert("kernel.core_pattern".to_owned(), "|/evil".to_owned());
    let error = daemon
        .runtime()
        .run_pod_sandbox(run_request(&bad))
        .await
        .unwrap_err();
    assert!(error.message().contains("kernel.core_pattern"), "{error}");
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_daemon_finds_all_again() {
    let mut daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("stays")).await;
    let c = daemon.run(&id, sleeper("stays")).await;
    let short = daemon
        .run(
            &id,
            container("short", &["/bin/sh", "-c", "sleep 1; echo late; exit 3"]),
        )
        .await;
    let never = daemon.create(&id, sleeper("never")).await;
    let before = daemon.status(&c).await;
    daemon.kill();
    // Its end comes while nobody listens.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    daemon.launch().await;
    assert_eq!(daemon.status(&c).await, before);
    let ended = daemon.ended(&short).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (3, "Error"));
    assert!(daemon.container_log("short").contains("stdout F late"));
    assert_eq!(
        daemon.status(&never).await.state(),
        v1::ContainerState::ContainerCreated
    );
    let (code, _) = daemon.exec(&c, &["true"]).await;
    assert_eq!(code, 0);
    let start = v1::StartContainerRequest {
        container_id: never,
    };
    daemon.runtime().start_container(start).await.unwrap();
    let status = daemon.terminate();
    assert!(status.success(), "{status}");
    daemon.launch().await;
    assert_eq!(
        daemon.status(&c).await.state(),
        v1::ContainerState::ContainerRunning
    );
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_supervisor_loses_nothing() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("orphan")).await;
    let c = daemon
        .run(
            &id,
            container(
                "c",
                &[
                    "/bin/sh",
                    "-c",
                    "while [ ! -e /tmp/go ]; do sleep 0.1; done; echo end; exit 5",
                ],
            ),
        )
        .await;
    let old = daemon.supervisors();
    assert_eq!(old.len(), 1, "{old:?}");
    kill_process(old[0], Signal::KILL).unwrap();
    until("another supervisor", async || {
        daemon.supervisors().iter().any(|p| *p != old[0])
    })
    .await;
    assert_eq!(
        daemon.status(&c).await.state(),
        v1::ContainerState::ContainerRunning
    );
    let (code, text) = daemon.exec(&c, &["touch", "/tmp/go"]).await;
    assert_eq!(code, 0, "{text}");
    let ended = daemon.ended(&c).await;
    assert_eq!(ended.exit_code, 5, "{ended:?}");
    assert!(
        daemon.container_log("c").ends_with("stdout F end\n"),
        "{}",
        daemon.container_log("c")
    );
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_killed_at_its_deadline_with_all_it_started() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("deadline")).await;
    let c = daemon.run(&id, sleeper("c")).await;
    let request = v1::ExecSyncRequest {
        container_id: c.clone(),
        cmd: ["/bin/sh", "-c", "sleep 4321 & sleep 4321"]
            .map(str::to_owned)
            .to_vec(),
        timeout: 1,
    };
    let error = daemon.runtime().exec_sync(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::DeadlineExceeded, "{error}");
    until("its processes end", async || {
        !daemon.exec(&c, &["ps"]).await.1.contains("sleep 4321")
    })
    .await;
    assert_eq!(
        daemon.status(&c).await.state(),
        v1::ContainerState::ContainerRunning
    );
    let missing = v1::ExecSyncRequest {
        container_id: c,
        cmd: vec!["/no/such".to_owned()],
        timeout: 5,
    };
    let error = daemon.runtime().exec_sync(missing).await.unwrap_err();
    assert!(error.message().contains("/no/such"), "{error}");
    daemon.remove_pod(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undoing_that_is_cut_off_is_taken_up_again() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("undone")).await;
    let supervisor = daemon.supervisors()[0];
    kill_process(supervisor, Signal::STOP).unwrap();
    let mut runtime = daemon.runtime();
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: id.clone(),
        config: Some(sleeper("c")),
        sandbox_config: None,
    };
    let creating = tokio::spawn(async move { runtime.create_container(request).await });
    let roots = daemon.dir.join("state/mnt/containers");
    until("its root is mounted", async || {
        std::fs::read_dir(&roots).is_ok_and(|mut all| all.next().is_some())
    })
    .await;
    // The supervisor that is to make it dies, and those that are to undo it, for a while.
    let begun = std::time::Instant::now();
    while begun.elapsed().as_millis() < 250 {
        for pid in daemon.supervisors() {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    creating.await.unwrap().unwrap_err();
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

/// A container stands still while it is saved: a daemon that dies then must not leave it so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_was_broken_off_leaves_nobody_paused() {
    let mut daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("broken-off")).await;
    let c = daemon.run(&id, sleeper("c")).await;
    daemon.kill();
    let root = daemon.dir.join("runtime");
    let hull = |command: &str| {
        let mut hull = std::process::Command::new(programs_dir().join("hull"));
        let out = hull.arg("--root").arg(&root).args([command, &c]).output();
        String::from_utf8(out.unwrap().stdout).unwrap()
    };
    let work = daemon.dir.join("state/checkpoints").join(&c);
    std::fs::create_dir_all(work.join("checkpoint")).unwrap();
    hull("pause");
    assert!(hull("state").contains("\"paused\""));
    daemon.launch().await;
    assert!(hull("state").contains("\"running\""));
    assert_eq!(daemon.exec(&c, &["echo", "on"]).await.1, "on\n");
    assert!(!work.exists());
    daemon.remove_pod(&id).await;
}

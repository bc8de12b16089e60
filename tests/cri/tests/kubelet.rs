//! What a kubelet asks, as it asks it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use cri_api::v1;
use cri_suite::{Daemon, Options, container, pod};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_alike_is_told_alike_and_leaves_no_log() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("retried")).await;
    // Another's log, which is empty yet.
    fs::write(daemon.dir.join("logs/other.log"), "").unwrap();
    let mut said = Vec::new();
    for log in ["c/0.log", "c/0.log", "other.log"] {
        let mut config = container("c", &["/no/such/program"]);
        config.log_path = log.to_owned();
        let refused = daemon.try_create(&id, config).await.unwrap_err();
        said.push(refused.message().to_owned());
    }
    // The kubelet compares the texts, and counts restarts by the logs.
    assert!(said[0].contains("/no/such/program"), "{said:?}");
    assert!(said.iter().all(|text| *text == said[0]), "{said:?}");
    daemon.remove_pod(&id).await;
    assert!(!daemon.dir.join("logs/c/0.log").exists());
    assert!(daemon.dir.join("logs/other.log").exists());
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_present_container_of_a_name_comes_first() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("restarted")).await;
    let request = v1::GetEventsRequest::default();
    let mut events = daemon.runtime().get_container_events(request).await;
    let events = events.as_mut().unwrap().get_mut();
    for attempt in 0..2 {
        let mut config = container("c", &["true"]);
        config.metadata.as_mut().unwrap().attempt = attempt;
        config.log_path = format!("c/{attempt}.log");
        let c = daemon.run(&id, config).await;
        daemon.ended(&c).await;
    }
    let attempts = |all: &[v1::ContainerStatus]| -> Vec<u32> {
        let of = |c: &v1::ContainerStatus| c.metadata.as_ref().unwrap().attempt;
        all.iter().map(of).collect()
    };
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: id.clone(),
        verbose: false,
    };
    let answer = daemon.runtime().pod_sandbox_status(request).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!(attempts(&answer.containers_statuses), [1, 0]);
    loop {
        let event = events.message().await.unwrap().unwrap();
        if event.containers_statuses.len() == 2 {
            assert_eq!(attempts(&event.containers_statuses), [1, 0]);
            break;
        }
    }
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

//! What a kubelet asks, as it asks it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

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
